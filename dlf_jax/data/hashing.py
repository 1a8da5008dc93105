"""Hashes that are the same for ever and everywhere: of strings, of row numbers, of 64-bit words."""

from __future__ import annotations

import numpy as np
import polars as pl

# Odd, so that it has an inverse modulo 2^64.
_BASE = 0xD6E8FEB86659FD93
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_STEP = np.uint64(0x9E3779B97F4A7C15)


def stable_hash(values: pl.Series) -> np.ndarray:
    """Hashes of strings that are the same for ever and everywhere, uint64 [n]; nulls like ''.

    A polynomial in the bytes modulo 2^64 (Karp & Rabin 1987), mixed: the sums of all strings come
    from one running sum over the column's bytes.
    """
    array = values.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    first, last = int(ends[0]), int(ends[-1])
    ends = ends - first
    text = np.frombuffer(data, np.uint8)[first:last] if last > first else np.empty(0, np.uint8)
    terms = (text.astype(np.uint64) + np.uint64(1)) * _powers(_BASE, text.size)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
    inverse = _powers(pow(_BASE, -1, 1 << 64), text.size + 1)
    hashes = (sums[ends[1:]] - sums[ends[:-1]]) * inverse[ends[:-1]]
    return mix(hashes + np.diff(ends).astype(np.uint64))


def _powers(base: int, count: int) -> np.ndarray:
    """base^0 ... base^(count - 1) modulo 2^64."""
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)


def mix(x: np.ndarray) -> np.ndarray:
    """The last step of splitmix64 (Steele et al. 2014): every bit depends on every bit; uint64 [n]."""
    x = (x ^ (x >> np.uint64(30))) * _MIX[0]
    x = (x ^ (x >> np.uint64(27))) * _MIX[1]
    return x ^ (x >> np.uint64(31))


def row_hash(index: np.ndarray, seed: int) -> np.ndarray:
    """A fixed hash per row number (splitmix64), uint64."""
    with np.errstate(over='ignore'):
        return mix(index.astype(np.uint64) + np.uint64(seed % (1 << 32) + 1) * _STEP)
