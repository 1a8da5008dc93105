"""Ranges of numbers with about as many rows each, and what they are called."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from dlf_jax.analysis.segments import MISSING

# Number of ranges that numbers are told in.
RANGES = 10


def cuts(numbers: np.ndarray, count: int) -> np.ndarray:
    """Upper ends of the ranges but for the last, which has none, float64, rising.

    Args:
      numbers: NaN where missing, [n].
      count: number of ranges; fewer where numbers repeat.
    """
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return np.zeros(0)
    found = np.quantile(known, np.arange(1, count) / count, method='inverted_cdf')
    return np.unique(found[found < known.max()]).astype(np.float64)


def names(ends: Sequence[float] | np.ndarray, closed: bool = True) -> list[str]:
    """Names of the ranges between ends, one more than there are ends.

    Args:
      ends: rising.
      closed: whether an end belongs to the range below it, as those of `cuts` do; else to the one above.
    """
    short = [f'{end:.6g}' for end in ends]
    # Ranges that are closer have all digits.
    texts = short if len(set(short)) == len(short) else [f'{end}' for end in ends]
    if not texts:
        return ['all']
    first, last = ('up to {}', 'above {}') if closed else ('below {}', '{} or more')
    between = [f'{low} to {high}' for low, high in itertools.pairwise(texts)]
    return [first.format(texts[0]), *between, last.format(texts[-1])]


def coded(numbers: np.ndarray, count: int) -> tuple[np.ndarray, list[str]]:
    """The range of each number, int [n], and the names of all, the missing numbers' last.

    Args:
      numbers: NaN where missing, [n].
      count: see `cuts`.
    """
    ends = cuts(numbers, count)
    codes = np.where(np.isnan(numbers), len(ends) + 1, np.searchsorted(ends, numbers, side='left'))
    return codes, [*names(ends), MISSING]
