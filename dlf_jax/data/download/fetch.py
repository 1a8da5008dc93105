"""Download of published files from the Hugging Face hub, single or in a zip archive, verified by md5 sum."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from dlf_jax.data.download import archives
from dlf_jax.data.download.checksums import file_md5, md5_sums, remember
from dlf_jax.data.download.published_files import Published, same_content
from dlf_jax.errors import UserError
from dlf_jax.file_writing import writing
from dlf_jax.lock import locked

_log = logging.getLogger(__name__)


def fetch(
    published: Published,
    folder: str | os.PathLike,
    *,
    accept: bool,
    data_dir: str = '',
    endpoint: str | None = None,
) -> dict[str, str]:
    """Returns the paths of a dataset's published files, after downloading those that the folder lacks.

    The hub holds either the files or one archive of them, NAME.zip. An archive that a person has put into the
    folder is unpacked before the network is used. A call that was killed is resumed by the next one, and of
    several processes one downloads while the others wait.

    Args:
      published: dataset to download.
      folder: folder of the files; made where it is missing.
      accept: whether the person has accepted the licence; not asked for where no file is missing.
      data_dir: folder in which md5 sums are remembered; by default `folder`.
      endpoint: address of the hub; by default the environment variable HF_ENDPOINT, or https://huggingface.co.

    Returns:
      The path of each part (train, valid, test).

    Raises:
      UserError: no consent, no connection, no such file, too little disk space, or an md5 sum other than the
        published one; the file is then kept as NAME.damaged.
    """
    folder = Path(folder).expanduser()
    return _Fetch(published, folder, data_dir or str(folder), endpoint).run(accept)


class _Fetch:
    def __init__(self, published: Published, folder: Path, data_dir: str, endpoint: str | None):
        self.published = published
        self.folder = folder
        self.data_dir = data_dir
        self.endpoint = endpoint
        self.paths = {part: folder / file.name for part, file in published.files.items()}
        self.archive = f'{published.name}.zip'

    def run(self, accept: bool) -> dict[str, str]:
        if self._missing():
            self._check_consent(accept)
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f'{self.folder}: cannot make the folder: {error.strerror}') from error
            with self._lock():
                self._fetch(self._missing())
        return {part: str(path) for part, path in self.paths.items()}

    def _missing(self) -> list[str]:
        """Parts without a file, or with a file of other content than the published."""
        return [part for part, path in self.paths.items() if not (path.is_file() and self._is_right(part))]

    def _is_right(self, part: str) -> bool:
        path, md5 = str(self.paths[part]), self.published.files[part].md5
        if not md5 or md5_sums([path], self.data_dir) == [md5]:
            return True
        # The published rows with other line ends, put there by a person, are as good.
        return same_content(self.published, part, path, self.data_dir)

    def _check_consent(self, accept: bool) -> None:
        published = self.published
        if not published.repository:
            raise UserError(f'{published.name} is given to registered people alone: {self._by_hand()}')
        terms = f'{published.name} is {published.licence} ({published.licence_url}, {published.url})'
        if not accept:
            raise UserError(f'{terms}; set --config.dataset.download=True to accept that and fetch it')
        _log.info('%s', terms)
        _log.info('fetching what is missing of it into %s', self.folder)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Lets one process at a time work in the folder; tells a person that this one waits."""
        lock = self.folder / '.lock'
        with contextlib.ExitStack() as stack:
            with writing(str(lock)):
                try:
                    stack.enter_context(locked(lock, wait=False))
                except UserError:
                    _log.info('another process is fetching into %s; waiting for it', self.folder)
                    stack.enter_context(locked(lock, wait=True))
            yield

    def _fetch(self, missing: list[str]) -> None:
        for part in missing:
            if self.paths[part].exists():
                _log.warning('%s is not the published file: kept as %s.damaged', *[self.paths[part]] * 2)
                _set_aside(self.paths[part], self.paths[part])
        by_hand = self.folder / self.archive
        if missing and by_hand.is_file():
            self._unpack(by_hand, missing)
            return
        while missing:
            try:
                file = self._download(self.published.files[missing[0]].name)
            except _NotFound:
                self._unpack(self._download(self.archive), missing)
                break
            self._accept(missing[0], file, file_md5(str(file)))
            missing = missing[1:]
        for path in self.folder.glob('*.part'):
            path.unlink()

    def _download(self, name: str) -> Path:
        """Downloads a file of the repository and returns its path, still under an unfinished name."""
        # Imported here: most runs download nothing, and the hub's client reads its environment variables
        # when it is imported.
        from dlf_jax.data.download import http

        try:
            return http.download(self.published.repository, name, self.folder, self.endpoint)
        except http.Unreachable as error:
            kind = _NotFound if error.status == 404 else UserError
            raise kind(f'{error}; {self._by_hand()}') from error

    def _unpack(self, archive: Path, missing: list[str]) -> None:
        """Moves the parts from the archive into the folder; keeps a useless archive as NAME.zip.damaged."""
        kept = self.folder / self.archive
        try:
            names = {self.published.files[part].name: part for part in missing}
            for name, path, md5 in archives.unpack(archive, list(names), self.folder):
                self._accept(names[name], path, md5)
        except archives.Damaged as error:
            _set_aside(archive, kept)
            raise UserError(f'{kept}: {error}; {self._again(kept)}') from error
        except _WrongContent:
            _set_aside(archive, kept)
            raise

    def _accept(self, part: str, path: Path, md5: str) -> None:
        """Gives a downloaded file its final name, or that of a damaged file if its md5 sum is wrong."""
        expected, target = self.published.files[part].md5, self.paths[part]
        if md5 != expected:
            _set_aside(path, target)
            raise _WrongContent(
                f'{target}: fetched with md5 {md5}, published: {expected}; {self._again(target)}'
            )
        os.replace(path, target)
        remember(str(target), md5, self.data_dir)

    def _again(self, path: Path) -> str:
        return (
            f'kept as {path.name}.damaged. Run the same command again to fetch it anew, or {self._by_hand()}'
        )

    def _by_hand(self) -> str:
        published = self.published
        *others, last = [file.name for file in published.files.values()]
        names = f'{", ".join(others)} and {last}' if others else last
        archive = f' (or {self.archive})' if published.repository else ''
        return (
            f'download {names}{archive} by hand from {published.url} and put {"them" if others else "it"} '
            f'into {self.folder}, then run the same command again'
        )


class _NotFound(UserError):
    """A file that the repository does not have."""


class _WrongContent(UserError):
    """A complete file whose md5 sum is not the published one."""


def _set_aside(path: Path, target: Path) -> None:
    """Renames an unfinished file to its final name with the ending `.damaged`."""
    os.replace(path, target.with_name(f'{target.name}.damaged'))
