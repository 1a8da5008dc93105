"""Raw rows of Criteo's shape, drawn from a seed: for timings on any number of rows, without the real files.

Every column's number of values, its frequencies (Zipf-Mandelbrot) and its share of missing values
are set so that the distinct values grow with the rows as they do in Kaggle's train.txt: the tests of
`tests/benchmarks` compare them at 10,000 rows. Nothing is copied from there, and columns and label are
independent of each other: no model learns anything from these rows.

    python -m benchmarks.criteo_rows --rows=1000000 --output=/tmp/train.txt
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

CHUNK_ROWS = 100_000
POSITIVES = 0.256

# Per number: mean and standard deviation of log(1 + x), and the share of missing values.
NUMBERS = {
    'I1': (0.80, 0.98, 0.448), 'I2': (2.12, 2.13, 0.0), 'I3': (2.25, 1.28, 0.204), 'I4': (1.73, 0.96, 0.198),
    'I5': (7.24, 2.90, 0.049), 'I6': (3.58, 1.81, 0.251), 'I7': (1.54, 1.36, 0.049),
    'I8': (2.06, 1.18, 0.001), 'I9': (3.61, 1.69, 0.049), 'I10': (0.38, 0.39, 0.448),
    'I11': (0.85, 0.74, 0.049), 'I12': (0.30, 0.61, 0.773), 'I13': (1.88, 1.06, 0.198),
}  # fmt: skip

# Per category: values in the full data, exponent and shift of their frequencies, share of missing values.
CATEGORIES = {
    'C1': (1460, 1.944, 0.819, 0.0), 'C2': (583, 1.874, 7.8, 0.0), 'C3': (10131227, 1.034, 1.18, 0.036),
    'C4': (2202608, 1.103, 1.25, 0.036), 'C5': (305, 2.54, 0.808, 0.0), 'C6': (24, 157.6, 110.0, 0.133),
    'C7': (12517, 1.177, 27.5, 0.0), 'C8': (633, 1.989, 0.283, 0.0), 'C9': (3, 2.5, 0.3, 0.0),
    'C10': (93145, 1.051, 0.0732, 0.0), 'C11': (5683, 1.284, 19.4, 0.0), 'C12': (8351593, 1.049, 1.36, 0.036),
    'C13': (3194, 1.268, 17.3, 0.0), 'C14': (27, 9.665, 15.4, 0.0), 'C15': (14992, 1.46, 25.9, 0.0),
    'C16': (5461306, 1.083, 1.86, 0.036), 'C17': (10, 141.1, 195.0, 0.0), 'C18': (5652, 1.598, 13.2, 0.0),
    'C19': (2173, 1.189, 0.0389, 0.45), 'C20': (4, 0.337, 0.111, 0.45), 'C21': (7046547, 1.064, 1.57, 0.036),
    'C22': (18, 153.3, 126.0, 0.818), 'C23': (15, 141.8, 187.0, 0.0), 'C24': (286181, 1.235, 2.61, 0.036),
    'C25': (105, 8.96, 27.3, 0.45), 'C26': (142572, 1.147, 1.74, 0.45),
}  # fmt: skip

COLUMNS = ('label', *NUMBERS, *CATEGORIES)

_HEXADECIMAL = np.array([f'{i:04x}' for i in range(1 << 16)], 'S4')


def frames(rows: int, seed: int = 0) -> Iterator[pl.DataFrame]:
    """Yields the rows in chunks: columns `COLUMNS`, the label and numbers as integers, the categories as
    text; null where missing. Row `i` is the same for every number of rows."""
    for number in itertools.count():
        start = number * CHUNK_ROWS
        if start >= rows:
            return
        yield _chunk(number, seed).head(rows - start)


def write(path: str | Path, rows: int, seed: int = 0, separator: str = '\t', header: bool = False) -> Path:
    """Writes rows as text, by default in the form of Kaggle's train.txt; memory is a chunk's."""
    path = Path(path)
    with path.open('wb') as file:
        for number, frame in enumerate(frames(rows, seed)):
            frame.write_csv(
                file, separator=separator, include_header=header and not number, quote_style='never'
            )
    return path


def _chunk(number: int, seed: int) -> pl.DataFrame:
    draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, number))))
    columns = {'label': pl.Series((draw.random(CHUNK_ROWS) < POSITIVES).astype(np.int8))}
    for name, (mean, deviation, missing) in NUMBERS.items():
        size = draw.normal(mean, deviation, CHUNK_ROWS)
        values = np.floor(np.expm1(np.clip(size, 0, 15))).astype(np.int32)
        if name == 'I2':
            # The only column with negative numbers.
            values[size < mean - 1.3 * deviation] = -1
        columns[name] = _with_nulls(pl.Series(values), draw, missing)
    for column, (name, (size, exponent, shift, missing)) in enumerate(CATEGORIES.items()):
        ranks = _zipf(draw.random(CHUNK_ROWS), size, exponent, shift)
        columns[name] = _with_nulls(_names(ranks, column), draw, missing)
    return pl.DataFrame(columns)


def _zipf(uniform: np.ndarray, size: int, exponent: float, shift: float) -> np.ndarray:
    """Ranks in [0, size) with frequencies like (rank + shift) ** -exponent: the inverse of the
    distribution function of the continuous law."""
    power = 1 - exponent
    reach = 1 - (1 + size / shift) ** power
    ranks = shift * ((1 - uniform * reach) ** (1 / power) - 1)
    return np.minimum(ranks.astype(np.uint32), np.uint32(size - 1))


def _names(ranks: np.ndarray, column: int) -> pl.Series:
    """A name of 8 hexadecimal digits for every rank: a bijection on 32 bits, another in every column."""
    mixed = (ranks + np.uint32(column << 26)) * np.uint32(0x9E3779B1)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x85EBCA77)
    mixed ^= mixed >> np.uint32(13)
    digits = np.stack([_HEXADECIMAL[mixed >> np.uint32(16)], _HEXADECIMAL[mixed & np.uint32(0xFFFF)]], 1)
    offsets = np.arange(0, 8 * len(ranks) + 1, 8, dtype=np.int32)
    text = pa.StringArray.from_buffers(len(ranks), pa.py_buffer(offsets), pa.py_buffer(digits))
    return pl.Series(text)


def _with_nulls(values: pl.Series, draw: np.random.Generator, share: float) -> pl.Series:
    if not share:
        return values
    there = pl.Series(draw.random(CHUNK_ROWS) >= share)
    return values.to_frame('').select(pl.when(there).then(pl.col(''))).to_series()


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rows', type=int, default=1_000_000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--output', required=True)
    arguments = parser.parse_args()
    written = write(arguments.output, arguments.rows, arguments.seed)
    print(json.dumps({'rows': arguments.rows, 'bytes': written.stat().st_size}))
