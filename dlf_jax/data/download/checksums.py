"""Checksums of input files, remembered by path and stamp: size, times and inode.

The time of modification can be set to anything; that of the last change of the inode (ctime) cannot.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dlf_jax.data.progress import Progress
from dlf_jax.errors import UserError
from dlf_jax.file_writing import to_json, writing

# Bytes. The checksums of `sums` depend on it.
_CHUNK = 1 << 22


def sums(paths: Iterable[str], data_dir: str, anew: bool = False) -> list[str]:
    """Checksums that tell whether two files have the same content.

    A checksum is the sha256 of the concatenated sha256 digests of the file's chunks of 4 MiB. Chunks are
    hashed in parallel, which makes it many times faster than md5 on a machine of several cores.

    Args:
      paths: files.
      data_dir: folder of `digests.json`, which remembers checksums, so that a file is read only once.
      anew: whether the files are read, whatever is remembered.

    Returns:
      The checksum of each file, hexadecimal.

    Raises:
      UserError: a file cannot be read or changes meanwhile, or `digests.json` cannot be written.
    """
    return _remembered(paths, data_dir, '|pieces', _chunked_sha256, anew)


def md5_sums(paths: Iterable[str], data_dir: str) -> list[str]:
    """The md5 sum of each file, hexadecimal.

    Args:
      paths: files.
      data_dir: folder of `digests.json`, which remembers checksums, so that a file is read only once.

    Raises:
      UserError: a file cannot be read, or `digests.json` cannot be written.
    """
    return _remembered(paths, data_dir, '', file_md5)


def content_md5_sums(paths: Iterable[str], data_dir: str, line_end: bytes) -> list[tuple[str, str]]:
    """Two md5 sums of the text of each file, independent of compression and, the second, of line ends.

    Args:
      paths: text files, plain or gzip-compressed (recognised by their first bytes, not by their names).
      data_dir: folder of `digests.json`, which remembers checksums, so that a file is read only once.
      line_end: line end that the second sum is taken with, b'\\n' or b'\\r\\n'.

    Returns:
      For each file, hexadecimal: the md5 sum of its decompressed content, and that of the content with every
      line, the last one included, ended by `line_end`.

    Raises:
      UserError: a file cannot be read or is a damaged gzip file, or `digests.json` cannot be written.
    """
    ends = line_end.hex()
    found = _remembered(paths, data_dir, f'|content {ends}', lambda path: _content_md5(path, line_end))
    return [(content, ended) for content, ended in map(str.split, found)]


def stamp(path: str) -> str:
    """Size, time of modification, inode and time of change of a file, which writing to it changes.

    Raises:
      UserError: the file cannot be read.
    """
    with _reading(path):
        found = os.stat(path)
    return f'{found.st_size}|{found.st_mtime_ns}|{found.st_ino}|{found.st_ctime_ns}'


def are_remembered(paths: Iterable[str], data_dir: str) -> bool:
    """Whether `sums` would take the checksum of any of the files from memory, without reading it.

    Args:
      paths: files.
      data_dir: folder of `digests.json`.
    """
    known = _read_known(data_dir)
    return any(_key(path, stamp(path), '|pieces') in known for path in paths)


def forget(paths: Iterable[str], data_dir: str) -> None:
    """Forgets all checksums of files, so that they are read again.

    Args:
      paths: files.
      data_dir: folder of `digests.json`.
    """
    known, names = _read_known(data_dir), tuple(_key(path, '', '') for path in paths)
    kept = {key: value for key, value in known.items() if not key.startswith(names)}
    if len(kept) < len(known):
        _write_known(kept, data_dir)


def is_gzipped(path: str) -> bool:
    """Whether a file is gzip-compressed, recognised by its first bytes.

    Raises:
      UserError: the file cannot be read.
    """
    with _reading(path), open(path, 'rb') as file:
        return file.read(2) == b'\x1f\x8b'


def remember(path: str, md5: str, data_dir: str) -> None:
    """Remembers the md5 sum of a file that the caller has computed while writing it, for `md5_sums`.

    Args:
      path: file of that content.
      md5: its md5 sum, hexadecimal.
      data_dir: folder of `digests.json`.
    """
    _remembered([path], data_dir, '', lambda _: md5)


def file_md5(path: str) -> str:
    """The md5 sum of a file, hexadecimal; computed at each call.

    Raises:
      UserError: the file cannot be read.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with (
        _reading(path),
        open(path, 'rb') as file,
        Progress(f'reading {path}', 'B', os.path.getsize(path)) as progress,
    ):
        while data := file.read(_CHUNK):
            digest.update(data)
            progress.advance(len(data))
    return digest.hexdigest()


def _chunked_sha256(path: str) -> str:
    with _reading(path), open(path, 'rb') as file, ThreadPoolExecutor(os.cpu_count()) as pool:
        size = os.path.getsize(path)
        with Progress(f'reading {path}', 'B', size) as progress:

            def chunk_digest(start: int) -> bytes:
                data = os.pread(file.fileno(), _CHUNK, start)
                progress.advance(len(data))
                return hashlib.sha256(data).digest()

            digests = pool.map(chunk_digest, range(0, size, _CHUNK))
            return hashlib.sha256(b''.join(digests)).hexdigest()


def _remembered(
    paths: Iterable[str], data_dir: str, kind: str, compute: Callable[[str], str], anew: bool = False
) -> list[str]:
    """Checksums of one kind, computed for files that are new or have changed since they were remembered; with
    `anew`, of all."""
    known, changed = _read_known(data_dir), False
    checksums = []
    for path in paths:
        before = stamp(path)
        key = _key(path, before, kind)
        if anew or key not in known:
            found, changed = compute(path), True
            if stamp(path) != before:
                raise UserError(
                    f'{path}: changed while it was read; run the same command again once it is whole'
                )
            # What was remembered of earlier contents is of no use any more.
            own, same = _key(path, '', ''), known.get(key, found) == found
            now = _key(path, before, '') if same else key
            known = {k: v for k, v in known.items() if not k.startswith(own) or k.startswith(now)}
            known[key] = found
        checksums.append(known[key])
    if changed:
        _write_known(known, data_dir)
    return checksums


def _key(path: str, stamp: str, kind: str) -> str:
    """Key of a checksum; with an empty stamp and kind, the beginning of all keys of the file."""
    return f'{os.path.abspath(path)}|{stamp}{kind}'


def _read_known(data_dir: str) -> dict[str, str]:
    try:
        return json.loads((Path(data_dir) / 'digests.json').read_text())
    except (OSError, ValueError):
        return {}


def _write_known(known: dict[str, str], data_dir: str) -> None:
    cache = Path(data_dir) / 'digests.json'
    with writing(str(cache)):
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = cache.with_name(f'.digests.{os.getpid()}.tmp')
        temporary.write_text(to_json(known, indent=0))
        os.replace(temporary, cache)


def _content_md5(path: str, line_end: bytes) -> str:
    """The two sums of `content_md5_sums`, separated by a space."""
    content, ended = hashlib.md5(usedforsecurity=False), hashlib.md5(usedforsecurity=False)
    last = b''
    with _reading(path), open(path, 'rb') as raw:
        file = gzip.GzipFile(fileobj=raw) if is_gzipped(path) else raw
        with Progress(f'comparing {path}', 'B', os.path.getsize(path)) as progress:
            held, done = b'', 0
            while data := file.read(_CHUNK):
                content.update(data)
                data = held + data
                # A chunk may end inside a line end, whose first byte then waits for the next chunk.
                held = b'\r' if data.endswith(b'\r') else b''
                data = data[: len(data) - len(held)].replace(b'\r\n', b'\n')
                last = data[-1:] or last
                ended.update(data if line_end == b'\n' else data.replace(b'\n', line_end))
                progress.advance(raw.tell() - done)
                done = raw.tell()
    ended.update(held)
    if held or last not in (b'', b'\n'):
        ended.update(line_end)
    return f'{content.hexdigest()} {ended.hexdigest()}'


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turns the errors of reading the file inside the block into a `UserError` that names it."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f'{path}: damaged gzip file: {error}') from error
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
