"""Markers of missing values: texts such as NA, and numbers such as -999."""

from __future__ import annotations

import numpy as np
import polars as pl

# What programs and people write for no value.
_MARKERS = (
    'NA', 'N/A', 'n/a', '#N/A', '#NA', '<NA>', 'NULL', 'null', 'Null', '(null)', '<null>', 'None', '(none)',
    '\\N', '-', '--', '?', '(missing)', 'NaN', 'nan', 'NAN', '-nan', '-NaN', 'nil', 'undefined', '',
)  # fmt: skip
# Further ones beside numbers, where no word is a value.
_BESIDE_NUMBERS = (*_MARKERS, 'na', 'none', 'NONE', 'missing', 'Missing', 'unknown', 'Unknown', '.', '*', 'x')
# Read as missing without being told.
UNTOLD = ('', 'NaN', 'nan')
_SENTINELS = (-99.0, -999.0, -9999.0, -99999.0, -999999.0)


def among(texts: pl.Series, beside_numbers: bool = False) -> pl.Series:
    """Which texts are markers, whatever spaces are around them, Boolean [n].

    Args:
      texts: String [n], distinct.
      beside_numbers: whether all other values are numbers.
    """
    return texts.str.strip_chars().is_in(list(_BESIDE_NUMBERS if beside_numbers else _MARKERS))


def like_the_others(marker: str, others: pl.Series) -> bool:
    """Whether a marker is written as the other values are, as NA is beside the countries DE and FR.

    Args:
      marker: the marker.
      others: the other values, String [n], distinct.
    """
    forms = _forms(others)
    (own,) = _forms(pl.Series([marker]))
    return len(forms) > 0 and float((forms == own).mean() or 0) > 2 / 3


def _forms(texts: pl.Series) -> pl.Series:
    return (
        texts.str.replace_all('[A-Z]', 'A')
        .str.replace_all('[a-z]', 'a')
        .str.replace_all('[0-9]', '0')
        .str.replace_all('[^A-Za-z0-9]', '.')
    )


def sentinel(values: np.ndarray, counts: np.ndarray) -> tuple[float | None, bool]:
    """The number that stands for a missing one.

    Args:
      values: distinct numbers, float64 [n], rising.
      counts: how often each occurs, int64 [n].

    Returns:
      The number, None where there is none; and whether it is far from all others, so that there is hardly a
      doubt.
    """
    if len(values) < 4 or values[0] not in _SENTINELS:
        return None, False
    others, times = values[1:], np.cumsum(counts[1:])
    if counts[0] < max(3, 0.005 * counts.sum()) or counts[0] < 3 * np.median(counts[1:]):
        return None, False
    if others[0] < 0 and others[0] - values[0] < others[-1] - others[0]:
        return None, False
    low, high = (others[np.searchsorted(times, share * times[-1])] for share in (0.005, 0.995))
    return float(values[0]), bool(others[0] - values[0] > 2 * (high - low))
