"""Text files, plain or .gz, as blocks of whole lines, in memory that does not grow with the file."""

from __future__ import annotations

import gzip
import io
import re
import shlex
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from dlf_jax.errors import UserError

# Larger blocks leave the processor's caches; with smaller ones, threads mostly wait for each other.
CHUNK_BYTES = 8 << 20
MAX_LINE_BYTES = 64 << 20

_QUOTED = re.compile(rb'"[^"]*"')


def unquoted(data: bytes, quote: bool) -> bytes:
    """The text without what stands in double quotes, where quotes have a meaning."""
    return _QUOTED.sub(b'', data) if quote and b'"' in data else data


def count_rows(data: bytes, quote: bool = False) -> int:
    """Number of rows of a block; where quotes have a meaning, a line end inside them ends no row."""
    plain = unquoted(data, quote)
    return count(plain, '\n') + (not plain.endswith(b'\n'))


def count(data: bytes, character: str) -> int:
    """Number of occurrences of a character.

    `bytes.count` stops at every find, which is slow where there are many.
    """
    sign = character.encode()
    if len(sign) > 1:
        return data.count(sign)
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord(sign)))


def open_raw(path: str) -> io.BufferedReader:
    """Opens a file as it is stored. Raises UserError where it cannot be opened."""
    try:
        return open(path, 'rb')
    except OSError as error:
        raise UserError(f'{path}: cannot be opened: {error.strerror}') from error


def open_binary(path: str) -> gzip.GzipFile | io.BufferedReader:
    """Opens a file, decompressing gzip, whatever its name. Raises UserError where it cannot be opened."""
    raw = open_raw(path)
    if not is_gzipped(path):
        return raw
    raw.close()
    return gzip.open(path)


def is_gzipped(path: str) -> bool:
    """Whether a file is gzip-compressed, recognised by its first bytes; False where it cannot be read."""
    try:
        with open(path, 'rb') as file:
            return file.read(2) == b'\x1f\x8b'
    except OSError:
        return False


def guard(path: str, read: Callable[[int], bytes], size: int) -> bytes:
    """Calls `read(size)` of an open file, with a UserError that names the path where that fails."""
    try:
        return read(size)
    except EOFError as error:
        raise UserError(f'{path}: the .gz file ends too early; fetch or copy it again') from error
    except gzip.BadGzipFile as error:
        # The first bytes are those of gzip, so it is what follows the compressed text that is not.
        if str(error).startswith('Not a gzipped file'):
            new = shlex.quote(f'{path}.txt')
            raise UserError(
                f'{path}: there are bytes after the end of the gzip data; fetch or copy it again, or go on '
                f'without them: gzip -dc {shlex.quote(path)} > {new}'
            ) from error
        raise UserError(f'{path}: damaged .gz file ({error}); fetch or copy it again') from error
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error}') from error
    except zlib.error as error:
        raise UserError(f'{path}: damaged .gz file ({error}); fetch or copy it again') from error


def decode(data: bytes, path: str, line: int) -> str:
    """Decodes UTF-8 text whose first line has number `line`. Raises UserError naming the line."""
    try:
        return data.decode('utf-8')
    except UnicodeDecodeError as error:
        at = line + data.count(b'\n', 0, error.start)
        raise UserError(
            f'{path}, line {at}: not UTF-8 text (byte 0x{data[error.start]:02x}); convert the file, for '
            f'example: iconv -f LATIN1 -t UTF-8 {shlex.quote(path)} > {shlex.quote(path + ".utf8")}'
        ) from error


def first_line(path: str) -> str:
    """The first line of a text file, without its line end."""
    with open_binary(path) as file:
        return decode(guard(path, file.readline, MAX_LINE_BYTES), path, 1).rstrip('\r\n')


def line_blocks(path: str, header: bool, quote: bool) -> Iterator[tuple[bytes, int]]:
    """Yields blocks of about `CHUNK_BYTES` of whole lines; blank lines at the end of the file are dropped.

    Args:
      path: the file.
      header: whether the first line is a header, which is left out.
      quote: whether a row goes on after a line end inside double quotes; blocks end at ends of rows.

    Yields:
      (lines, number of the first one).

    Raises:
      UserError: a file that cannot be read, or a line of more than `MAX_LINE_BYTES`.
    """
    with open_binary(path) as file:
        line, blank = 1, b''
        if header:
            guard(path, file.readline, MAX_LINE_BYTES)
            line = 2
        while data := guard(path, file.read, CHUNK_BYTES):
            pieces = [data]
            # To the end of the line, and of an open quote.
            odd = quote and data.count(b'"') % 2 == 1
            while odd or not pieces[-1].endswith(b'\n'):
                more = guard(path, file.readline, MAX_LINE_BYTES)
                if not more:
                    break
                pieces.append(more)
                odd ^= quote and more.count(b'"') % 2 == 1
                if sum(map(len, pieces[1:])) > MAX_LINE_BYTES:
                    last = line + count(data, '\n')
                    raise UserError(
                        f'{path}, line {last}: longer than {MAX_LINE_BYTES >> 20} MiB; '
                        'an unclosed quote, or not a text table'
                    )
            block = blank + (pieces[0] if len(pieces) == 1 else b''.join(pieces))
            # Blank lines at the block's end wait: they are rows if more text follows.
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
