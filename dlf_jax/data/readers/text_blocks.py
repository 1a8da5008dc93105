"""Text files, plain or .gz, as blocks of whole lines, so that memory does not grow with a file."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from dlf_jax.errors import UserError

# Larger ones leave the caches; with smaller ones, threads spend their time in handing over to each other.
CHUNK_BYTES = 8 << 20
MAX_LINE_BYTES = 64 << 20

_QUOTED = re.compile(rb'"[^"]*"')


def unquoted(data: bytes, quote: bool) -> bytes:
    """The text without what stands in double quotes."""
    return _QUOTED.sub(b'', data) if quote and b'"' in data else data


def count_rows(data: bytes, quote: bool = False) -> int:
    plain = unquoted(data, quote)
    return count(plain, '\n') + (not plain.endswith(b'\n'))


def count(data: bytes, character: str) -> int:
    """How often a character comes; bytes.count stops at every find, which is slow where there are many."""
    sign = character.encode()
    if len(sign) > 1:
        return data.count(sign)
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord(sign)))


def open_binary(path: str) -> BinaryIO:
    try:
        return gzip.open(path) if path.lower().endswith('.gz') else open(path, 'rb')
    except OSError as error:
        raise UserError(f'{path}: cannot be opened: {error.strerror}') from error


def guard(path: str, read, size: int) -> bytes:
    try:
        return read(size)
    except EOFError as error:
        raise UserError(f'{path}: the .gz file ends too early; fetch or copy it again') from error
    except (gzip.BadGzipFile, OSError) as error:
        raise UserError(f'{path}: cannot be read: {error}') from error
    except Exception as error:
        if type(error).__module__ == 'zlib':
            raise UserError(f'{path}: damaged .gz file ({error}); fetch or copy it again') from error
        raise


def decode(data: bytes, path: str, line: int) -> str:
    try:
        return data.decode('utf-8')
    except UnicodeDecodeError as error:
        at = line + data.count(b'\n', 0, error.start)
        raise UserError(
            f'{path}, line {at}: not UTF-8 text (byte 0x{data[error.start]:02x}); '
            'convert the file, for example with iconv'
        ) from error


def line_blocks(path: str, header: bool, quote: bool) -> Iterator[tuple[bytes, int]]:
    """Yields (whole lines, number of the first); blank lines at the end of the file are dropped."""
    with open_binary(path) as file:
        line, blank = 1, b''
        if header:
            guard(path, file.readline, MAX_LINE_BYTES)
            line = 2
        while data := guard(path, file.read, CHUNK_BYTES):
            parts = [data]
            # To the end of the line, and of what is in quotes.
            odd = quote and data.count(b'"') % 2 == 1
            while odd or not parts[-1].endswith(b'\n'):
                more = guard(path, file.readline, MAX_LINE_BYTES)
                if not more:
                    break
                parts.append(more)
                odd ^= quote and more.count(b'"') % 2 == 1
                if sum(map(len, parts[1:])) > MAX_LINE_BYTES:
                    last = line + count(data, '\n')
                    raise UserError(
                        f'{path}, line {last}: longer than {MAX_LINE_BYTES >> 20} MiB; '
                        'an unclosed quote, or not a text table'
                    )
            block = blank + (parts[0] if len(parts) == 1 else b''.join(parts))
            # Blank lines at its end: perhaps the end of the file, perhaps rows; what follows decides.
            ended = len(block)
            while ended and block[ended - 1] in b'\r\n':
                ended -= 1
            kept = block.find(b'\n', ended) + 1 or len(block)
            blank = block[kept:] if ended else block
            if not ended:
                continue
            block = block[:kept]
            yield block, line
            line += count(block, '\n')
