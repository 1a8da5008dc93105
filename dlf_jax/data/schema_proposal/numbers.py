"""What whole numbers are: names of things, counts, moments. Judged by how often each value occurs.

Neighbours among quantities are about as frequent as each other, while the whole rises and falls; small
counts are the most frequent ones. Identifiers are all as frequent, or as it happens.
"""

from __future__ import annotations

import enum

import numpy as np
import polars as pl

_YEAR = 366 * 86400
# In seconds since 1970: 2000 to 2040, and 1990 where the column's name says that it is a time.
_FIRST, _NAMED_FIRST, _LAST = 946_684_800.0, 631_152_000.0, 2_208_988_800.0
_UNITS = {'seconds': 1.0, 'milliseconds': 1e3, 'microseconds': 1e6, 'nanoseconds': 1e9}
_MONTH, _DAY, _HOUR = '(?:0[1-9]|1[0-2])', '(?:0[1-9]|[12][0-9]|3[01])', '(?:[01][0-9]|2[0-3])'
_FULL_YEAR = '(?:19|20)[0-9]{2}'
_CALENDAR = {
    'YYYYMMDD': f'^{_FULL_YEAR}{_MONTH}{_DAY}$',
    'YYYYMMDDHH': f'^{_FULL_YEAR}{_MONTH}{_DAY}{_HOUR}$',
    'YYYYMMDDHHMM': f'^{_FULL_YEAR}{_MONTH}{_DAY}{_HOUR}[0-5][0-9]$',
    'YYYYMMDDHHMMSS': f'^{_FULL_YEAR}{_MONTH}{_DAY}{_HOUR}[0-5][0-9][0-5][0-9]$',
}
# Too short to be sure of without the column's name.
_SHORT_CALENDAR = {
    'YYMMDDHH': f'^[0-9]{{2}}{_MONTH}{_DAY}{_HOUR}$',
    'YYYYMM': f'^{_FULL_YEAR}{_MONTH}$',
}
_BINS = 32


class Shape(enum.Enum):
    """What the frequencies of whole numbers look like."""

    COUNTS = 'small values are by far the most frequent'
    MEASURED = 'near values are about as frequent as each other'
    EVEN = 'all values are about as frequent'
    UNEVEN = 'near values differ in frequency'
    SPARSE = 'few of the numbers in their range occur'
    RANKED = 'small values are the most frequent, yet the large ones have no gaps'


def shape(values: np.ndarray, counts: np.ndarray) -> Shape:
    """The shape of the frequencies.

    Args:
      values: distinct whole numbers, float64 [n], rising.
      counts: how often each occurs, int64 [n].
    """
    # Neither -1, which stands for no value, nor the one most frequent value, such as 0, is like the others.
    kept = np.arange(len(values)) != np.argmax(counts)
    kept &= values != -1
    if kept.sum() >= 8:
        values, counts = values[kept], counts[kept]
    low, high, rows = values[0], values[-1], counts.sum()
    if len(values) < 2:
        return Shape.EVEN
    if _sparse(values, counts):
        return Shape.SPARSE
    upper = values > (low + high) / 2
    dense = upper.sum() >= 0.25 * (high - low) and counts[upper].sum() >= 0.02 * rows
    if low >= 0 and counts[values <= low + (high - low) / 10].sum() >= 0.5 * rows:
        return Shape.RANKED if dense else Shape.COUNTS
    between = (counts[1:] - counts[:-1]) ** 2 / (counts[1:] + counts[:-1])
    # Of numbers that come by chance with the same probability, half are below 0.46.
    if np.median(between) > 3 and _roughness(counts) > 0.5:
        return Shape.UNEVEN
    width = np.ceil((high - low + 1) / _BINS)
    bins = np.bincount(((values - low) // width).astype(np.int64), weights=counts)
    if len(bins) > 2 and (high - low + 1) % width:
        bins = bins[:-1]
    if _even(bins):
        return Shape.EVEN
    if len(bins) < 8 or _roughness(bins) > 0.5:
        return Shape.UNEVEN
    falling = np.corrcoef(_ranks(bins), np.arange(len(bins)))[0, 1] < -0.8
    return Shape.RANKED if falling and dense and len(values) > 100 else Shape.MEASURED


def _ranks(counts: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(counts, kind='stable'), kind='stable').astype(np.float64)


def _roughness(counts: np.ndarray) -> float:
    """How much neighbours differ: von Neumann's ratio of ranks (Bartels 1982), 1 in an order by chance."""
    ranks = _ranks(counts)
    return float(np.square(np.diff(ranks)).sum() / 2 / np.square(ranks - ranks.mean()).sum())


def _sparse(values: np.ndarray, counts: np.ndarray) -> bool:
    """Whether the same few numbers come again and again, where rows could have had many."""
    if counts.sum() < 5 * len(values):
        return False
    # Prices in tens are as dense as those in ones.
    places = (values - values[0]) / np.gcd.reduce((values - values[0]).astype(np.int64))
    # Ranges of about as many rows each, since the large ones of skewed counts are far apart.
    bins = (np.cumsum(counts) - counts) * _BINS // counts.sum()
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    rows = np.add.reduceat(counts, starts)
    width = np.diff(places[starts], append=places[-1] + 1)
    # Of `width` numbers that are as likely as each other, so many occur.
    expected = width * -np.expm1(rows * np.log1p(-1 / np.maximum(width, 1 + 1e-9)))
    found = np.diff(starts, append=len(values))
    # In most ranges: what is far out may be sparse.
    return bool(np.average(found < 0.3 * expected, weights=rows) > 0.5)


def _even(bins: np.ndarray) -> bool:
    """Whether counts differ by chance alone, or hardly."""
    mean = bins.mean()
    return bool(bins.var() / mean**2 < 3 / mean + 0.01)


def moments(values: np.ndarray, named: bool, rising: bool) -> str:
    """How numbers are moments, such as 'seconds since 1970' or 'YYYYMMDD'; '' where they are none.

    Args:
      values: distinct numbers, float64 [n], rising.
      named: whether the column's name is that of a time.
      rising: whether the numbers never fall in the file.
    """
    if len(values) < 2 or values[0] < 0:
        return ''
    low, high = values[0], values[-1]
    for unit, factor in _UNITS.items():
        if (_NAMED_FIRST if named else _FIRST) * factor <= low and high <= _LAST * factor:
            narrow = high - low <= 10 * _YEAR * factor
            if named or rising or (narrow and len(values) > 100):
                return f'{unit} since 1970'
    if high >= 2.0**53 or np.any(values != np.floor(values)):
        return ''
    texts = pl.Series(values.astype(np.int64)).cast(pl.String)
    for form, pattern in {**_CALENDAR, **(_SHORT_CALENDAR if named else {})}.items():
        if texts.str.contains(pattern).all():
            return form
    return 'numbers that rise' if named and rising and len(values) > 100 else ''
