"""The marker that makes a folder in a store whole: a small object that names the objects of its files.

Stores have no renaming, and objects come one by one. So what is new goes up under names that nothing had
before, and then the marker is replaced, in one step: what it does not name does not exist for a reader, and
is removed later.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from dlf_jax.errors import UserError
from dlf_jax.file_writing import to_json
from dlf_jax.storage import cache, urls
from dlf_jax.storage.store import Store, digest, each

_log = logging.getLogger(__name__)

NAME, LOCK = '_STORED.json', '_LOCK.json'
_VERSION = 1
# What ends the names of objects that a manifest names, and tells them from all others.
_OWN = re.compile(r'@[0-9a-f]{8}$')
# Times that a reader begins anew because a writer has replaced what it was reading.
_BEGINNINGS = 5


@dataclasses.dataclass(frozen=True)
class File:
    """A file of the folder.

    Attributes:
      object: name of its object, below the folder's URL.
      size: bytes.
      sha256: of its content, hexadecimal; '' where nobody has computed it.
    """

    object: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What is in a folder.

    Attributes:
      files: by path below the folder.
      number: counts the manifests of the folder.
      tag: of the object; None: it is not in the store.
      whole: whether it names the files, or says that they are being written.
      listed: of one that was made of a listing, what tells it from one of other contents.
    """

    files: dict[str, File]
    number: int = 0
    tag: str | None = None
    whole: bool = True
    listed: str = ''

    @property
    def identity(self) -> str:
        """The same for the same files with the same content, 16 hexadecimal digits."""
        files = (f'{name}|{f.object}|{f.size}|{f.sha256}' for name, f in sorted(self.files.items()))
        return cache.key(self.listed, *files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


class Conflict(UserError):
    """Another process has written the folder meanwhile."""

    def __init__(self, url: str):
        super().__init__(
            f'{url}: another process has written there meanwhile, and this one writes no more; see that one '
            'command at a time works on it, then run the same command again'
        )


def read(url: str) -> Manifest | None:
    """The manifest of a folder; None where there is none.

    Raises:
      UserError: it is none of ours, or of a later version.
    """
    place = urls.join(url, NAME)
    found = Store.of(url).read(place)
    if found is None:
        return None
    content, tag = found
    try:
        values = json.loads(content)
        version, whole = values['version'], values['files'] is not None
        files = {_checked(name): File(**file) for name, file in (values['files'] or {}).items()}
        number = int(values['number'])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f'{place}: is no manifest of a folder of this package ({error})') from None
    if version != _VERSION:
        raise UserError(f'{place}: is of version {version}, and this package reads version {_VERSION}')
    return Manifest(files, number, tag, whole)


def _checked(name: str) -> str:
    """A path that stays in its folder. Raises ValueError for another."""
    if not name or name.startswith('/') or any(part in ('', '.', '..') for part in name.split('/')):
        raise ValueError(f'the path {name!r}')
    return name


def objects_below(url: str) -> list[str]:
    """Names of all objects below a folder's URL."""
    return [place.removeprefix(url + '/') for place in Store.of(url).list(url)]


def is_own(name: str) -> bool:
    """Whether an object is one that a manifest may name, or the lock beside it."""
    return name in (NAME, LOCK) or bool(_OWN.search(name))


def of_listing(url: str) -> Manifest:
    """A manifest of what somebody has copied into a folder that has none, for reading alone."""
    found = Store.of(url).list(url)
    names = {place.removeprefix(url + '/'): info for place, info in found.items()}
    if LOCK in names or any(_OWN.search(name) for name in names):
        # Of a first writing that is not finished.
        return Manifest({})
    listed = cache.key(*(f'{name}|{info.tag}' for name, info in names.items()))
    return Manifest({_checked(n): File(n, info.size, '') for n, info in names.items()}, listed=listed)


def pull(
    url: str, manifest: Manifest, folder: Path, wanted: Callable[[str], bool] = lambda name: True
) -> int:
    """Makes a local folder hold the files of a manifest, and nothing else.

    Files that are there with the same content are kept.

    Args:
      url: of the folder.
      manifest: what it holds.
      folder: made where it is missing.
      wanted: whether a file, by its path, is taken.

    Returns:
      Bytes that were fetched.

    Raises:
      FileNotFoundError: an object is gone, since there is another manifest by now.
    """
    files = {name: file for name, file in manifest.files.items() if wanted(name)}
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.rglob('*'), reverse=True):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif name not in files or not _is(path, files[name]):
            path.unlink()
    missing = {name: file for name, file in files.items() if not (folder / name).exists()}
    cache.make_room(sum(file.size for file in missing.values()), url)
    for above in {(folder / name).parent for name in missing}:
        above.mkdir(parents=True, exist_ok=True)
    store = Store.of(url)

    def fetch(name: str) -> None:
        store.fetch(urls.join(url, missing[name].object), folder / name, missing[name].sha256)

    each(fetch, missing)
    return sum(file.size for file in missing.values())


def _is(path: Path, file: File) -> bool:
    return bool(file.sha256) and path.stat().st_size == file.size and digest(path) == file.sha256


def pull_newest(
    url: str, folder_of: Callable[[Manifest], Path], wanted: Callable[[str], bool] = lambda name: True
) -> tuple[Manifest, Path, int]:
    """Reads the manifest and pulls its files, anew where a writer replaces them meanwhile.

    Args:
      url: of the folder.
      folder_of: local folder for a manifest.
      wanted: see `pull`.

    Returns:
      The manifest, the folder and the bytes that were fetched.

    Raises:
      UserError: it is being written, or the store has lost an object.
    """
    missing = ''
    for _ in range(_BEGINNINGS):
        manifest = read(url) or of_listing(url)
        if not manifest.whole:
            raise UserError(
                f'{url}: is being written, or its writing was cut short; wait for it, or write it again'
            )
        folder = folder_of(manifest)
        try:
            return manifest, folder, pull(url, manifest, folder, wanted)
        except FileNotFoundError as error:
            missing = str(error)
    raise UserError(f'{url}: an object that its {NAME} names is not there ({missing}); the store has lost it')


class Pusher:
    """Writes a folder to a store, again and again; remembers what is there and the sums of its files."""

    def __init__(self, url: str, before: Manifest | None):
        """Takes what is there.

        Args:
          url: of the folder.
          before: its manifest; None: it has none.
        """
        self._url, self.there = url, before or Manifest({})
        self._sums: dict[tuple[int, int, int], str] = {}
        # Of no other writer, so that a manifest whose answer is lost is known again.
        self._writer = secrets.token_hex(8)

    def push(self, folder: Path, names: Iterable[str]) -> bool:
        """Writes what is new, then the manifest, then removes what it does not name any more.

        Args:
          folder: local; its files do not change meanwhile.
          names: paths of the files, below it.

        Returns:
          Whether anything was new.

        Raises:
          Conflict: there is another manifest than the one that this writer knows.
        """
        files: dict[str, File | None] = {}
        sums = {name: self._sum(folder / name) for name in names}
        for name, (size, sha256) in sums.items():
            old = self.there.files.get(name)
            files[name] = old if old and (old.size, old.sha256) == (size, sha256) else None
        if self.there.whole and files == self.there.files:
            return False
        token = secrets.token_hex(4)
        store = Store.of(self._url)

        def send(name: str) -> File:
            place = f'{name}@{token}'
            store.write(folder / name, urls.join(self._url, place))
            return File(place, *sums[name])

        new = [name for name, file in files.items() if file is None]
        sent = dict(zip(new, each(send, new), strict=True))
        self._replace({name: file or sent[name] for name, file in files.items()})
        return True

    def replace_natural(self, folder: Path, names: Iterable[str]) -> None:
        """Writes files under their own names, for readers that know nothing of manifests.

        Meanwhile the manifest says that the folder is being written.

        Args:
          folder: local.
          names: paths of the files, below it.
        """
        old, store = self.there, Store.of(self._url)
        self._replace(None)
        sums = {name: self._sum(folder / name) for name in names}
        each(lambda name: store.write(folder / name, urls.join(self._url, name)), sums)
        dropped = {file.object for file in old.files.values()} - set(sums)
        store.delete(urls.join(self._url, place) for place in dropped)
        self._replace({name: File(name, *values) for name, values in sums.items()})

    def drop(self, prefix: str) -> None:
        """Removes the files whose paths begin so."""
        kept = {name: file for name, file in self.there.files.items() if not name.startswith(prefix)}
        if kept != self.there.files:
            self._replace(kept)

    def clean(self) -> None:
        """Removes objects that no manifest names, of writers that were killed; while none else writes."""
        named = {file.object for file in self.there.files.values()}
        left = [place for place in objects_below(self._url) if _OWN.search(place) and place not in named]
        if left:
            _log.info('%s: removing %d objects that a killed command has left', self._url, len(left))
            Store.of(self._url).delete(urls.join(self._url, place) for place in left)

    def _sum(self, path: Path) -> tuple[int, str]:
        stat = os.stat(path)
        known = stat.st_ino, stat.st_size, stat.st_mtime_ns
        if known not in self._sums:
            self._sums[known] = digest(path)
        return stat.st_size, self._sums[known]

    def _replace(self, files: dict[str, File] | None) -> None:
        store, number = Store.of(self._url), self.there.number + 1
        named = None if files is None else {name: dataclasses.asdict(file) for name, file in files.items()}
        values: dict[str, Any] = {
            'version': _VERSION, 'number': number, 'writer': f'{self._writer}-{secrets.token_hex(4)}',
            'files': named,
        }  # fmt: skip
        content = (to_json(values, indent=1, sort_keys=True) + '\n').encode()
        tag = store.replace(urls.join(self._url, NAME), content, self.there.tag)
        if tag is None:
            raise Conflict(self._url)
        before, self.there = self.there, Manifest(files or {}, number, tag, files is not None)
        if files is None:
            return
        kept = {file.object for file in files.values()}
        dropped = [f.object for f in before.files.values() if f.object not in kept and _OWN.search(f.object)]
        try:
            store.delete(urls.join(self._url, place) for place in dropped)
        except UserError as error:
            _log.warning('%s; it is left there', error)


def is_hidden(name: str) -> bool:
    """Whether a path is of what is not finished or of this machine alone: a part of it begins with a dot."""
    return any(part.startswith('.') for part in PurePosixPath(name).parts)
