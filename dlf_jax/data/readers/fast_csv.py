"""Fast parser of plain text tables: short values and whole numbers, by NumPy on whole blocks.

Click logs are mostly such tables, and it is faster on them than Polars' general parser. Text that is not
plain (quotes, characters outside ASCII, long values, decimals, a row with a field too few) is declined and
left to the general parser; a column that both read is the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import polars as pl
import pyarrow as pa

LONGEST_TEXT = 12  # bytes that fit into the 16 bytes of a string view of Polars and Arrow
LONGEST_NUMBER = 8

# Padding around the text, so that the 8 bytes before any of its bytes can be read.
_MARGIN = 16
_NEWLINE = ord('\n')
_MINUS = ord('-')
_WORD = np.uint64(64)
# Number of fields that are read together: enough that threads do not mostly wait for the interpreter lock
# between operations, few enough for a core's caches.
_TOGETHER = 1 << 17


def parse(
    data: bytes, separator: str, columns: Sequence[str], wanted: Sequence[str], numbers: Collection[str]
) -> pl.DataFrame | None:
    """Parses rows without quotes.

    Args:
      data: whole lines.
      separator: character between fields.
      columns: names of all columns.
      wanted: names of the columns to return, in this order.
      numbers: names of the wanted columns that hold numbers.

    Returns:
      The wanted columns, numbers as Float64 and others as String, empty fields null; None where the text
      is not plain.
    """
    if len(columns) < 2 or len(separator.encode()) != 1 or not data.isascii() or b'\r' in data:
        return None
    text = np.empty(_MARGIN + len(data) // 8 * 8 + 2 * _MARGIN, np.uint8)
    text[:_MARGIN] = 0
    last = _MARGIN + len(data)
    text[_MARGIN:last] = np.frombuffer(data, np.uint8)
    if not data.endswith(b'\n'):
        text[last] = _NEWLINE
        last += 1
    text[last:] = 0
    ends = _ends(text, separator, len(columns))
    if ends is None:
        return None
    words = text.view('<u8')
    found: dict[str, pa.Array] = {}
    # Numbers first: decimals are the likeliest reason to decline.
    for read, kind in ((_numbers, True), (_texts, False)):
        chosen = [i for i, name in enumerate(columns) if name in wanted and (name in numbers) == kind]
        for first, stop in _runs(chosen, max(1, _TOGETHER // ends.shape[1])):
            if first:
                starts = ends[first - 1 : stop - 1] + 1
            else:
                starts = np.empty_like(ends[:stop])
                starts[1:] = ends[: stop - 1] + 1
                starts[0, :1], starts[0, 1:] = _MARGIN, ends[-1, :-1] + 1
            if (arrays := read(text, words, starts, ends[first:stop])) is None:
                return None
            found.update(zip(columns[first:stop], arrays, strict=True))
    return pl.DataFrame(pl.from_arrow(pa.table(found))).select(wanted)


def _runs(chosen: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Yields runs (first, after the last) of consecutive numbers, each of at most `most` numbers."""
    first = 0
    for i in range(1, len(chosen) + 1):
        if i == len(chosen) or chosen[i] != chosen[i - 1] + 1 or i - first == most:
            yield chosen[first], chosen[i - 1] + 1
            first = i


def _ends(text: np.ndarray, separator: str, width: int) -> np.ndarray | None:
    """Positions of the ends of the fields, int64 [width, rows]; None unless all rows have `width` fields."""
    newlines = text == _NEWLINE
    rows = np.count_nonzero(newlines)
    found = text == ord(separator)
    found |= newlines
    ends = np.flatnonzero(found)
    if ends.size != rows * width:
        return None
    ends = np.ascontiguousarray(ends.reshape(rows, width).T)
    return ends if newlines[ends[-1]].all() else None


def _load(words: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Unaligned little-endian loads: the 8 bytes from each position on, uint64 [n]."""
    # Combined from two aligned words.
    place = at >> 3
    shift = ((at & 7) << 3).view(np.uint64)
    low = words.take(place)
    low >>= shift
    place += 1
    high = words.take(place)
    # NumPy's shifts by 64 give 0.
    np.subtract(_WORD, shift, out=shift)
    high <<= shift
    low |= high
    return low


def _texts(
    text: np.ndarray, words: np.ndarray, starts: np.ndarray, stops: np.ndarray
) -> list[pa.Array] | None:
    """Text columns of fields [columns, rows]; None where a value is longer than `LONGEST_TEXT`."""
    lengths = stops - starts
    longest = int(lengths.max())
    if longest > LONGEST_TEXT:
        return None
    # A string view: 4 bytes for the length, then the value and zeros.
    views = np.empty((*lengths.shape, 2), np.uint64)
    value = _load(words, stops - 8)
    if longest <= 8:
        value >>= _unused_bits(lengths)
        np.right_shift(value, 32, out=views[..., 1])
    else:
        rest = value >> _unused_bits(np.maximum(lengths - 8, 0))
        unused = _unused_bits(np.minimum(lengths, 8))
        value = _load(words, starts) << unused
        value >>= unused
        np.right_shift(value, 32, out=views[..., 1])
        views[..., 1] |= rest << np.uint64(32)
    value <<= np.uint64(32)
    value |= lengths.view(np.uint64)
    views[..., 0] = value
    return _arrays(pa.string_view(), lengths, views)


def _numbers(
    text: np.ndarray, words: np.ndarray, starts: np.ndarray, stops: np.ndarray
) -> list[pa.Array] | None:
    """Float64 columns of fields [columns, rows]; None where a value is no whole number."""
    lengths = stops - starts
    if lengths.max() > LONGEST_NUMBER:
        return None
    digits = _load(words, stops - 8)
    digits ^= np.uint64(0x3030303030303030)
    values = _decimal(digits, lengths)
    if values is None:
        negative = text.take(starts) == _MINUS
        if (negative & (lengths == 1)).any():
            return None
        values = _decimal(digits, lengths - negative)
        if values is None:
            return None
        # 0 included: the general parser reads -0.0, too.
        np.negative(values, where=negative, out=values)
    return _arrays(pa.float64(), lengths, values)


def _arrays(kind: pa.DataType, lengths: np.ndarray, values: np.ndarray) -> list[pa.Array]:
    """Arrow arrays of values [columns, rows, ...]; fields of length 0 are null."""
    there = lengths > 0
    found = []
    for present, column in zip(there, values, strict=True):
        # Validity: a bit for each row.
        bits = None if present.all() else pa.py_buffer(np.packbits(present, bitorder='little'))
        found.append(pa.Array.from_buffers(kind, len(column), [bits, pa.py_buffer(column)]))
    return found


def _decimal(digits: np.ndarray, lengths: np.ndarray) -> np.ndarray | None:
    """Numbers whose digits are the last `lengths` bytes of 8-byte words; None where a byte is no digit.

    Neighbours are combined: bytes to pairs, to fours, to eights (Lemire 2018).

    Args:
      digits: uint64 [n], each byte less the character '0'.
      lengths: int64 [n].

    Returns:
      float64 [n].
    """
    unused = _unused_bits(lengths)
    value = digits >> unused
    value <<= unused
    wrong = value + np.uint64(0x7676767676767676)
    wrong |= value
    if np.bitwise_or.reduce(wrong, axis=None) & np.uint64(0x8080808080808080):
        return None
    for bits, base, mask in (
        (8, 10, 0x00FF00FF00FF00FF),
        (16, 100, 0x0000FFFF0000FFFF),
        (32, 10000, 0xFFFFFFFF),
    ):
        above = value >> np.uint64(bits)
        value *= np.uint64(base)
        value += above
        value &= np.uint64(mask)
    return value.astype(np.float64)


def _unused_bits(lengths: np.ndarray) -> np.ndarray:
    """Number of unused bits of an 8-byte word that holds `lengths` bytes, uint64 [n]."""
    unused = 8 - lengths
    unused <<= 3
    return unused.view(np.uint64)
