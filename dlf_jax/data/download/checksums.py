"""Checksums of input files, remembered by path, size and time of modification."""

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
from dlf_jax.file_writing import writing

# Bytes. The checksums of `sums` depend on it.
_CHUNK = 1 << 22


def sums(paths: Iterable[str], data_dir: str) -> list[str]:
    """Checksums that tell whether two files have the same content.

    A checksum is the sha256 of the concatenated sha256 digests of the file's chunks of 4 MiB. Chunks are
    hashed in parallel, which makes it many times faster than md5 on a machine of several cores.

    Args:
      paths: files.
      data_dir: folder of `digests.json`, which remembers checksums, so that a file is read only once.

    Returns:
      The checksum of each file, hexadecimal.

    Raises:
      UserError: a file cannot be read, or `digests.json` cannot be written.
    """
    return _remembered(paths, data_dir, '|pieces', _chunked_sha256)


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


def _remembered(paths: Iterable[str], data_dir: str, kind: str, compute: Callable[[str], str]) -> list[str]:
    """Checksums of one kind, computed for files that are new or have changed since they were remembered."""
    cache = Path(data_dir) / 'digests.json'
    try:
        known = json.loads(cache.read_text())
    except (OSError, ValueError):
        known = {}
    checksums, fresh = [], {}
    for path in paths:
        with _reading(path):
            stat = os.stat(path)
        key = f'{os.path.abspath(path)}|{stat.st_size}|{stat.st_mtime_ns}{kind}'
        if key not in known:
            known[key] = fresh[key] = compute(path)
        checksums.append(known[key])
    if fresh:
        with writing(str(cache)):
            cache.parent.mkdir(parents=True, exist_ok=True)
            temporary = cache.with_name(f'.digests.{os.getpid()}.tmp')
            temporary.write_text(json.dumps(known, indent=0))
            os.replace(temporary, cache)
    return checksums


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
