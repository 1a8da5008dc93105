"""Local copies of what is in stores, within a bound: what was used longest ago goes, what is in use stays."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dlf_jax.errors import UserError
from dlf_jax.file_writing import writing
from dlf_jax.lock import locked
from dlf_jax.storage.settings import current

_log = logging.getLogger(__name__)

GB = 1e9
_USES, _LOCK = '.uses', '.lock'
# The file in which this process tells what it uses, by cache and process: a fork has its own. Its lock is
# dropped by the system when the process dies.
_own: dict[tuple[Path, int], BinaryIO] = {}


def key(*parts: str) -> str:
    """Name of an entry that is for these texts, 16 hexadecimal digits."""
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()[:16]


def use(kind: str, name: str) -> Path:
    """Folder of an entry, made where it is missing, which stays as long as this process lives.

    Args:
      kind: what it is for, the name of a folder.
      name: of the entry, see `key`.
    """
    top = current().cache
    entry = top / kind / name
    with writing(f'the local cache {top} (DLF_JAX_CACHE)'):
        (top / _USES).mkdir(parents=True, exist_ok=True)
        with locked(top / _LOCK, wait=True):
            entry.mkdir(parents=True, exist_ok=True)
            os.utime(entry)
            own = _own_file(top)
            own.write(f'{kind}/{name}\n'.encode())
            own.flush()
    return entry


def drop(entry: Path) -> None:
    """Removes an entry that only this process can know."""
    shutil.rmtree(entry, ignore_errors=True)


def make_room(needed: int, what: str) -> None:
    """Removes entries that nobody uses, the longest unused first, until some more bytes fit.

    Args:
      needed: bytes that are about to be written.
      what: they are for, for messages.

    Raises:
      UserError: they do not fit beside what is in use, or on the disk.
    """
    settings = current()
    top, bound = settings.cache, settings.cache_gb * GB
    with writing(f'the local cache {top} (DLF_JAX_CACHE)'):
        (top / _USES).mkdir(parents=True, exist_ok=True)
        with locked(top / _LOCK, wait=True):
            entries = sorted(_entries(top), key=lambda entry: entry.stat().st_mtime)
            sizes = {entry: _size(entry) for entry in entries}
            in_use = _in_use(top)
            total, removed = sum(sizes.values()), 0
            for entry in entries:
                if total + needed <= bound and shutil.disk_usage(top).free >= needed:
                    break
                if entry.relative_to(top).as_posix() not in in_use:
                    shutil.rmtree(entry, ignore_errors=True)
                    total -= sizes[entry]
                    removed += sizes[entry]
            free = shutil.disk_usage(top).free
    if removed:
        _log.info('local cache %s: removed %s that nobody uses', top, _told(removed))
    if total + needed > bound:
        raise UserError(
            f'{what}: needs {_told(needed)} in the local cache {top}, of whose {settings.cache_gb:g} GB '
            f'{_told(total)} are in use; raise DLF_JAX_CACHE_GB, or end other commands'
        )
    if free < needed:
        raise UserError(
            f'{what}: needs {_told(needed)} in the local cache {top}, whose disk has {_told(free)} '
            'left; make room, or name a folder on another disk by DLF_JAX_CACHE'
        )


def tell(fetched: int, what: str) -> None:
    """Logs what was fetched and how full the cache is."""
    settings = current()
    used = sum(_size(entry) for entry in _entries(settings.cache))
    _log.info(
        '%s: fetched %s; the local cache %s has %s of %g GB',
        what, _told(fetched), settings.cache, _told(used), settings.cache_gb,
    )  # fmt: skip


def _told(size: int) -> str:
    return f'{size / GB:.3g} GB' if size >= 0.1 * GB else f'{size / 1e6:.3g} MB'


def _entries(top: Path) -> Iterator[Path]:
    for kind in top.iterdir():
        if kind.is_dir() and not kind.name.startswith('.'):
            yield from (entry for entry in kind.iterdir() if entry.is_dir())


def _size(folder: Path) -> int:
    """Bytes of a folder's files; one of several names counts once."""
    found: dict[tuple[int, int], int] = {}
    for above, _, names in os.walk(folder):
        for name in names:
            try:
                stat = os.lstat(os.path.join(above, name))
            except FileNotFoundError:
                continue
            found[stat.st_dev, stat.st_ino] = stat.st_size
    return sum(found.values())


def _own_file(top: Path) -> BinaryIO:
    own = top, os.getpid()
    if own not in _own:
        path = top / _USES / f'{os.getpid()}-{secrets.token_hex(4)}'
        file = open(path, 'ab')  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX)
        _own[own] = file
    return _own[own]


def _in_use(top: Path) -> set[str]:
    """Names of the entries that living processes use; forgets the dead ones."""
    found: set[str] = set()
    for path in (top / _USES).iterdir():
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.update(file.read().splitlines())
                continue
            path.unlink()
    return found
