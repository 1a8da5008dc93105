"""Published files from the Hugging Face hub, as they are or out of one archive; verified by md5 sum."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dlf_jax.data.download import http
from dlf_jax.data.download.checksums import file_md5, md5_sums, remember
from dlf_jax.data.download.published_files import X1, Published, same_content
from dlf_jax.data.progress import Progress
from dlf_jax.errors import UserError, writing
from dlf_jax.lock import locked

_log = logging.getLogger(__name__)

_CHUNK = 1 << 20


def fetch(
    published: Published, folder: str | os.PathLike, *, accept: bool, data_dir: str = '', base: str = ''
) -> dict[str, str]:
    """The published files' paths by part, fetched where they are not in the folder yet.

    The hub holds the files themselves or one archive of them, NAME.zip; an archive that a person
    has put into the folder is taken before the network is asked. Killed at any moment, it goes on from
    there at the next call; a second process waits for the first.

    Args:
      published: what to fetch.
      folder: where the files are, or shall be; made where it is missing.
      accept: whether the person has accepted the licence. Files that are there already need no consent.
      data_dir: where md5 sums are remembered; by default in the folder.
      base: the address that the files' names are appended to; by default the hub's.

    Raises:
      UserError: no consent, no connection, no such file, no room, or another md5 sum than the
        published; the damaged file is then beside its place, as `.damaged`.
    """
    folder = Path(folder).expanduser()
    return _Fetch(published, folder, data_dir or str(folder), base).run(accept)


class _Fetch:
    def __init__(self, published: Published, folder: Path, data_dir: str, base: str):
        self.published = published
        self.folder = folder
        self.data_dir = data_dir
        self.base = (base or f'{published.url}/resolve/main').rstrip('/') + '/'
        self.paths = {part: folder / file.name for part, file in published.files.items()}
        self.archive = f'{published.name}.zip'

    def run(self, accept: bool) -> dict[str, str]:
        if self._missing():
            self._may(accept)
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f'{self.folder}: cannot make the folder: {error.strerror}') from error
            with self._alone():
                self._fetch()
        return {part: str(path) for part, path in self.paths.items()}

    def _missing(self) -> list[str]:
        """The parts that are not there, or are not what is published."""
        return [part for part, path in self.paths.items() if not (path.is_file() and self._right(part))]

    def _right(self, part: str) -> bool:
        path, md5 = str(self.paths[part]), self.published.files[part].md5
        if not md5 or md5_sums([path], self.data_dir) == [md5]:
            return True
        # Put there by hand, perhaps, with other line ends: as good.
        return same_content(self.published, part, path, self.data_dir)

    def _may(self, accept: bool) -> None:
        published = self.published
        if published.form != X1:
            raise UserError(f'{published.name} is given to registered people alone: {self._by_hand()}')
        terms = f'{published.name} is {published.licence} ({published.licence_url}, {published.url})'
        if not accept:
            raise UserError(f'{terms}; set --config.dataset.download=True to accept that and fetch it')
        _log.info('%s', terms)
        _log.info('fetching what is missing of it into %s', self.folder)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        lock = self.folder / '.lock'
        with contextlib.ExitStack() as stack:
            with writing(str(lock)):
                try:
                    stack.enter_context(locked(lock, wait=False))
                except UserError:
                    _log.info('another process is fetching into %s; waiting for it', self.folder)
                    stack.enter_context(locked(lock, wait=True))
            yield

    def _fetch(self) -> None:
        missing = self._missing()
        for part in missing:
            if self.paths[part].exists():
                _log.warning('%s is not the published file: set aside as %s.damaged', *[self.paths[part]] * 2)
                self._set_aside(self.paths[part])
        by_hand = self.folder / self.archive
        if missing and by_hand.is_file():
            self._unpack(by_hand, missing)
            return
        while missing:
            try:
                self._fetch_file(missing[0])
            except http.Unreachable as error:
                if error.status != 404:
                    raise self._unreachable(self.published.files[missing[0]].name, error) from error
                self._fetch_archive(missing)
                return
            missing = missing[1:]

    def _fetch_file(self, part: str) -> None:
        path = self.paths[part]
        part_path = _part(path)
        http.transfer(self._url(path.name), part_path)
        self._take(part, part_path, file_md5(str(part_path)))
        http.forget(part_path)

    def _fetch_archive(self, missing: list[str]) -> None:
        # Kept under the unfinished name: it goes when the files are out of it.
        part_path = _part(self.folder / self.archive)
        try:
            http.transfer(self._url(self.archive), part_path)
        except http.Unreachable as error:
            raise self._unreachable(self.archive, error) from error
        self._unpack(part_path, missing)
        http.forget(part_path)

    def _unpack(self, archive: Path, missing: list[str]) -> None:
        """Takes the parts out of the archive, whatever folders they are in there."""
        try:
            with zipfile.ZipFile(archive) as opened:
                members = {part: self._member(opened, archive, part) for part in missing}
                needed = sum(member.file_size for member in members.values())
                http.check_room(self.folder, needed, str(archive))
                for part, member in members.items():
                    path = self.paths[part].with_name(f'{self.paths[part].name}.unpacking')
                    self._take(part, path, _extract(opened, member, path))
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
            raise UserError(self._damaged(archive, f'not a whole zip archive: {error}')) from error
        except _WrongSum:
            # What is in it is not what is published: to be fetched anew.
            self._set_aside(archive)
            raise

    def _member(self, opened: zipfile.ZipFile, archive: Path, part: str) -> zipfile.ZipInfo:
        name = self.published.files[part].name
        found = [
            member
            for member in opened.infolist()
            if PurePosixPath(member.filename).name == name
            and not member.is_dir()
            and '__MACOSX' not in PurePosixPath(member.filename).parts
        ]
        if len(found) != 1:
            held = ', '.join(member.filename for member in opened.infolist()[:8])
            raise UserError(self._damaged(archive, f'holds {len(found)} files named {name}, but: {held}'))
        return found[0]

    def _take(self, part: str, path: Path, found: str) -> None:
        """Gives a verified file its name, or sets it aside."""
        file, target = self.published.files[part], self.paths[part]
        if found == file.md5:
            os.replace(path, target)
            remember(str(target), found, self.data_dir)
            return
        os.replace(path, _aside(target))
        http.forget(path)
        raise _WrongSum(
            f'{target}: fetched with md5 {found}, published: {file.md5}; set aside as {_aside(target).name}. '
            f'Run the same command again to fetch it anew, or {self._by_hand()}'
        )

    def _damaged(self, archive: Path, reason: str) -> str:
        self._set_aside(archive)
        name = self.folder / self.archive
        return (
            f'{name}: {reason}; set aside as {_aside(name).name}. '
            f'Run the same command again to fetch it anew, or {self._by_hand()}'
        )

    def _set_aside(self, path: Path) -> None:
        """Renames to NAME.damaged, without the ending of unfinished files."""
        os.replace(path, _aside(path.with_name(path.name.removesuffix('.part'))))
        http.forget(path)

    def _url(self, name: str) -> str:
        return self.base + name

    def _unreachable(self, name: str, error: http.Unreachable) -> UserError:
        return UserError(f'{self._url(name)}: {error}; {self._by_hand()}')

    def _by_hand(self) -> str:
        names = [file.name for file in self.published.files.values()]
        archive = f' (or {self.archive})' if self.published.form == X1 else ''
        return (
            f'download {_listed(names)}{archive} by hand from {self.published.url} and put '
            f'{"them" if len(names) > 1 else "it"} into {self.folder}, then run the same command again'
        )


class _WrongSum(UserError):
    """Complete, but not what is published."""


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> str:
    """Writes a member to the path, which is ours and not the archive's to choose; returns its md5 sum."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with (
            opened.open(member) as source,
            writing(str(path)),
            open(path, 'wb') as file,
            Progress(f'unpacking {path.stem}', 'B', member.file_size) as progress,
        ):
            while data := source.read(_CHUNK):
                digest.update(data)
                file.write(data)
                progress.advance(len(data))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return digest.hexdigest()


def _part(path: Path) -> Path:
    return path.with_name(f'{path.name}.part')


def _aside(path: Path) -> Path:
    return path.with_name(f'{path.name}.damaged')


def _listed(names: list[str]) -> str:
    return ' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))
