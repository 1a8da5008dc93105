"""What a file is, by its first bytes: text, Parquet, or something else that an error names."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
from collections.abc import Sequence
from typing import IO

from dlf_jax.data.readers import text_blocks
from dlf_jax.errors import UserError

TEXT = 'text'
PARQUET = 'Parquet'

_HEAD = 4096
_MAGIC = b'PAR1'

# First bytes, what they are the beginning of, and what to do: a command where {path} is the file and {new}
# another one, or an advice; {code:...} is Python.
_UNPACK = 'unpack it: '
_PACKED: tuple[tuple[bytes, str, str], ...] = (
    (b'BZh', 'a bzip2 file', _UNPACK + 'bzip2 -dc {path} > {new}'),
    (b'\xfd7zXZ\0', 'an xz file', _UNPACK + 'xz -dc {path} > {new}'),
    (b'\x28\xb5\x2f\xfd', 'a zstd file', _UNPACK + 'zstd -dc {path} > {new}'),
    (b'\x04\x22\x4d\x18', 'an lz4 file', _UNPACK + 'lz4 -dc {path} > {new}'),
    (b'\x1f\x9d', 'a compress (.Z) file', _UNPACK + 'gzip -dc < {path} > {new}'),
    (b"7z\xbc\xaf'\x1c", 'a 7z archive', _UNPACK + '7z x {path}'),
    (b'Rar!\x1a\x07', 'a RAR archive', _UNPACK + 'unrar x {path}'),
)
_POLARS = 'import polars as p; p.{}(PATH).write_parquet(NEW)'
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b'ARROW1\0\0', 'an Arrow (Feather) file', _POLARS.format('read_ipc')),
    (b'\xff\xff\xff\xff', 'a stream of Arrow batches', _POLARS.format('read_ipc_stream')),
    (b'Obj\x01', 'an Avro file', _POLARS.format('read_avro')),
    (b'\x89HDF\r\n\x1a\n', 'an HDF5 file', 'import pandas; pandas.read_hdf(PATH).to_parquet(NEW)'),
    (b'\x93NUMPY', 'a NumPy array', 'write the columns as CSV or Parquet'),
    (b'%PDF-', 'a PDF document', ''),
    (b'\x89PNG\r\n', 'an image', ''),
    (b'\x7fELF', 'a program', ''),
)  # fmt: skip
_PICKLE = re.compile(rb'\x80[\x02-\x05][^\x00-\x08]|\x80[\x04\x05]\x95')
_WEB_PAGE = re.compile(rb'\s*(<!doctype html|<html|<\?xml|<!--|<head)', re.IGNORECASE)
# Characters that no text table has. Hive and others take \x01 to \x03 and \x1c to \x1f for separators.
_CONTROLS = bytes([0, *range(4, 9), *range(14, 27), 127])


def kind(path: str) -> str:
    """Kind of a file: `TEXT`, plain or gzip-compressed, or `PARQUET`; read from its bytes, not its name.

    Raises:
      UserError: the file is empty, cannot be read, or is neither; says what it is and how to convert it.
    """
    with text_blocks.open_raw(path) as file:
        head = text_blocks.guard(path, file.read, _HEAD)
        if not head:
            raise UserError(f'{path}: the file is empty; expected a text or Parquet table')
        _check_archive(path, head, file)
        if head.startswith(_MAGIC) and not _is_text(head):
            return PARQUET
        end = _end(file)
    packed = text_blocks.is_gzipped(path)
    if packed:
        with text_blocks.open_binary(path) as unpacked:
            head = text_blocks.guard(path, unpacked.read, _HEAD)
        if not head:
            raise UserError(f'{path}: there is nothing in the .gz file; expected a text table')
    found = _foreign(head, end, path, packed)
    if found:
        what, way = found
        inside = ' inside gzip' if packed else ''
        raise UserError(f'{path}: {what}{inside}, not a text or Parquet table' + (f'; {way}' if way else ''))
    return TEXT


def common_kind(paths: Sequence[str]) -> str:
    """Kind of files that are all of one.

    Raises:
      UserError: as `kind`, or files of both kinds; names one of each.
    """
    kinds = {path: kind(path) for path in paths}
    first = kinds[paths[0]]
    for path, other in kinds.items():
        if other != first:
            raise UserError(
                f'{path}: {other}, but {paths[0]} is {first}; the files of one list must be of one format'
            )
    return first


def _end(file: IO[bytes]) -> bytes:
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 64))
    return file.read(64)


def _is_text(head: bytes) -> bool:
    """Whether bytes look like text, of whatever encoding."""
    controls = len(head) - len(head.translate(None, _CONTROLS))
    # A few stray ones are left to the parser, which names their line.
    return controls <= max(3, len(head) // 50)


def _check_archive(path: str, head: bytes, file: IO[bytes]) -> None:
    """Raises UserError for a ZIP archive, and for the formats that are one inside."""
    if not head.startswith((b'PK\x03\x04', b'PK\x05\x06')):
        return
    # The names of the members are in the clear, at the beginning and at the end of the archive.
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - (64 << 10)))
    names = head + file.read()
    file.seek(0)
    if b'xl/' in names and b'[Content_Types].xml' in names:
        what, way = 'an Excel workbook (.xlsx)', 'save the sheet as CSV there'
    elif b'opendocument' in names:
        what, way = 'an OpenDocument file', 'save the sheet as CSV there'
    elif b'.npy' in names:
        what, way = 'NumPy arrays (.npz)', 'write them as the columns of a CSV or Parquet file'
    else:
        what, way = 'a ZIP archive', f'{_UNPACK}unzip {shlex.quote(path)}'
    raise UserError(f'{path}: {what}, not a text or Parquet table; {way}')


def _foreign(head: bytes, end: bytes, path: str, packed: bool) -> tuple[str, str] | None:
    """What a file is that is no text, and what to do about it; None where it is text.

    Args:
      head: its first bytes, unpacked.
      end: its last bytes as they are stored.
      path: its name.
      packed: whether it is gzip-compressed.
    """
    source, new = shlex.quote(path), shlex.quote(_new_name(path, '.txt'))
    if head.startswith(b'\x1f\x8b'):
        return 'a gzip file', f'it was compressed twice; unpack it: gzip -dc {source} | gzip -dc > {new}'
    if head[257:262] == b'ustar':
        return 'a tar archive', f'{_UNPACK}tar -xf {source}'
    first = f'gzip -dc {source} > {new}' if packed else ''
    for magic, what, way in _PACKED:
        # Letters may begin a header line, too.
        if head.startswith(magic) and not (magic.isalpha() and _is_text(head)):
            return what, _UNPACK + first if packed else way.format(path=source, new=new)
    if first and (head.startswith(_MAGIC) and not _is_text(head)):
        parquet = shlex.quote(_new_name(path, '.parquet'))
        return 'a Parquet file', f'{_UNPACK}gzip -dc {source} > {parquet}'
    for encoding, what in _wide(head):
        opened = f'gzip -dc {source} | iconv' if packed else 'iconv'
        given = '' if packed else f' {source}'
        return what, f'convert it: {opened} -f {encoding} -t UTF-8{given} > {new}'
    found = _by_content(head, end, packed)
    if not found:
        return None
    what, code = found
    if code and packed:
        return what, _UNPACK + first
    if 'PATH' in code:
        target = _new_name(path, '.parquet')
        code = code.replace('PATH', json.dumps(path, ensure_ascii=False))
        code = code.replace('NEW', json.dumps(target, ensure_ascii=False))
        return what, f'convert it: python -c {shlex.quote(code)}'
    return what, code.replace('{path}', source).replace('{new}', new)


def _wide(head: bytes) -> list[tuple[str, str]]:
    """The encoding of text of more than one byte a character, and its name; [] for other bytes."""
    if head.startswith((b'\xff\xfe\0\0', b'\0\0\xfe\xff')):
        return [('UTF-32', 'UTF-32 text')]
    if head.startswith((b'\xff\xfe', b'\xfe\xff')):
        return [('UTF-16', 'UTF-16 text')]
    start = head[: len(head) // 2 * 2]
    if len(start) >= 8 and not any(start[1::2]) and all(start[::2]):
        return [('UTF-16LE', 'UTF-16 text')]
    if len(start) >= 8 and not any(start[::2]) and all(start[1::2]):
        return [('UTF-16BE', 'UTF-16 text')]
    return []


def _by_content(head: bytes, end: bytes, packed: bool) -> tuple[str, str] | None:
    """What a file is, and Python code (of PATH and NEW), a command (of {path} and {new}) or an advice."""
    for magic, what, code in _OTHERS:
        if head.startswith(magic):
            return what, code or 'write its table as CSV'
    if head.startswith(b'SQLite format 3\0'):
        return (
            'an SQLite database',
            "convert a table: sqlite3 -header -csv {path} 'select * from TABLE' > {new}",
        )
    if head.startswith(b'version https://git-lfs.github.com'):
        return 'the pointer of a file in Git LFS', 'fetch the file: git lfs pull'
    if _WEB_PAGE.match(head):
        return 'a web page or XML', 'perhaps the answer to a download that failed; fetch the file again'
    if head.startswith(b'ORC') and end[-4:-1] == b'ORC':
        code = 'import pyarrow.orc as o, pyarrow.parquet as q; q.write_table(o.read_table(PATH), NEW)'
        return 'an ORC file', code
    found = _json(head)
    if found:
        return found
    if _PICKLE.match(head) and (packed or end.endswith(b'.')):
        code = 'import pandas; pandas.read_pickle(PATH).to_parquet(NEW)'
        return 'a pickle', code
    if not packed and end.endswith(_MAGIC) and not _is_text(head):
        return 'the end of a Parquet file without its beginning', 'fetch or copy it again'
    if not _is_text(head):
        return 'binary data of an unknown format', 'write the table as CSV or Parquet'
    return None


def _json(head: bytes) -> tuple[str, str] | None:
    start = head.removeprefix(b'\xef\xbb\xbf').lstrip()
    line = start.partition(b'\n')[0].strip()
    try:
        whole = isinstance(json.loads(line), dict)
    except ValueError:
        whole = False
    # A line that goes on after the head is long, and one of JSON begins in this way.
    if whole or (b'\n' not in start and re.match(rb'\{\s*"[^"]*"\s*:', start)):
        return 'JSON lines', _POLARS.format('read_ndjson')
    if re.match(rb'\[\s*\{|\{\s*("[^"]*"\s*:|$)', start) and not line.endswith(b','):
        return 'JSON', _POLARS.format('read_json')
    return None


def _new_name(path: str, ending: str) -> str:
    """Name of a file that is not there yet, for the result of a conversion."""
    stem = re.sub(r'(?i)\.(gz|bz2|xz|zst|zstd|lz4|z)$', '', path)
    name = stem if stem != path and ending != '.parquet' else f'{stem}{ending}'
    return f'{path}{ending}' if os.path.exists(name) else name
