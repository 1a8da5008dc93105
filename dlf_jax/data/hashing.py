"""Stable hashes of strings, row numbers and 64-bit words: the same in every release and on every machine."""

from __future__ import annotations

import numpy as np
import polars as pl

# Odd, so that it has an inverse modulo 2^64.
_BASE = 0xD6E8FEB86659FD93
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_STEP = np.uint64(0x9E3779B97F4A7C15)


def stable_hash(values: pl.Series) -> np.ndarray:
    """Stable hashes of a column of strings; a null has the hash of ''.

    A polynomial in the bytes modulo 2^64 (Karp & Rabin 1987), mixed. The sums of all strings are
    differences of one running sum over the column's bytes.

    Args:
      values: String [n].

    Returns:
      uint64 [n].
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
    """Powers base^0 ... base^(count - 1) modulo 2^64, uint64 [count]."""
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)


def mix(x: np.ndarray) -> np.ndarray:
    """Mixes the bits of uint64 [n]: the last step of splitmix64 (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * _MIX[0]
    x = (x ^ (x >> np.uint64(27))) * _MIX[1]
    return x ^ (x >> np.uint64(31))


def row_hash(index: np.ndarray, seed: int) -> np.ndarray:
    """Stable hash of row numbers, int64 [n], under a seed (splitmix64), uint64 [n]."""
    with np.errstate(over='ignore'):
        return mix(index.astype(np.uint64) + np.uint64(seed % (1 << 32) + 1) * _STEP)
