"""Texts that hold several values with a separator between them, such as `a|b|c`."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl

_SEPARATORS = ('|', ';', ',', ' ')
# Texts that are looked at.
_SAMPLE = 50_000
# Share of the texts that must hold the separator.
_SHARE = 0.05
_DECIMAL_COMMA = r'^-?[0-9]+(?:\.[0-9]{3})*,[0-9]+$'
# Opening brackets of JSON, marks of sentences and of programs' names.
_NOT_A_VALUE = r'[\[\](){}"!?]|[.:] '


@dataclasses.dataclass(frozen=True)
class Separated:
    """How the values of texts are separated.

    Attributes:
      separator: what is between them.
      longest: number of values of the longest text.
      distinct: number of distinct values; of many texts, in those that were looked at.
      sure: whether the separator is hardly used for anything else.
    """

    separator: str
    longest: int
    distinct: int
    sure: bool


def separated(texts: pl.Series) -> Separated | None:
    """Finds out whether texts are lists of values; None where they are not.

    Args:
      texts: String [n], distinct.
    """
    sample = texts.gather_every(max(1, len(texts) // _SAMPLE))
    if _share(sample.str.contains(_DECIMAL_COMMA)) > 0.5:
        return None
    for separator in _SEPARATORS:
        there = sample.str.contains(separator, literal=True)
        if _share(there) <= _SHARE:
            continue
        spaced = f'{separator} '
        if separator != ' ' and sample.filter(there).str.contains(spaced, literal=True).all():
            separator = spaced
        if distinct := _distinct_values(sample, separator):
            counts = texts.str.count_matches(separator, literal=True).to_numpy()
            return Separated(separator, int(counts.max()) + 1, distinct, separator in ('|', ';'))
    return None


def _share(found: pl.Series) -> float:
    """Share of true ones; 0 of none."""
    return float(found.fill_null(False).to_numpy().mean()) if len(found) else 0.0


def _distinct_values(texts: pl.Series, separator: str) -> int:
    """Number of distinct parts; 0 where they are not short values that come again, at any place."""
    parts = texts.str.split(separator)
    lengths = parts.list.len().to_numpy()
    flat = parts.explode(empty_as_null=True, keep_nulls=True).fill_null('')
    is_first = np.zeros(len(flat), bool)
    is_first[np.cumsum(lengths) - lengths] = True
    odd = (
        (flat.str.len_bytes() > 40)
        | flat.str.contains(_NOT_A_VALUE)
        # Words of a sentence.
        | (flat.str.count_matches(' ', literal=True) > 3)
    )
    if _share(odd) > 0.02:
        return 0
    if separator == ' ' and _share(flat.str.contains('[0-9]')) < 0.95:
        return 0
    if separator != '|' and _share(flat.str.strip_chars() == '') > 0.2:
        return 0
    first, later = flat.filter(pl.Series(is_first)), flat.filter(pl.Series(~is_first))
    overlap = _share(later.is_in(first.unique().to_list()))
    distinct = flat.n_unique()
    repeated = len(flat) / distinct
    # `city, country` has always two parts, and other words in each place.
    varied = len(np.unique(lengths)) > 2
    return distinct if (overlap > 0.3 and repeated > 1.5) or (varied and repeated > 3) else 0


def decimal_commas(texts: pl.Series) -> bool:
    """Whether texts are numbers with a comma for the point."""
    return _share(texts.str.contains(_DECIMAL_COMMA)) > 0.5 and bool(
        texts.str.contains(r'^-?[0-9.,]+$').all()
    )


def with_units(texts: pl.Series) -> bool:
    """Whether texts are numbers with a currency, a unit, a sign or a separator of thousands about them."""
    pattern = r'^[$€£¥]? ?[<>~]?[+-]?[0-9][0-9,]*(?:\.[0-9]+)? ?(?:%|[$€£¥]|[A-Za-z]{1,5}\.?)?$'
    digits = r'^[$€£¥<>~+]|[%$€£¥]$|[0-9] ?[A-Za-z]{1,5}$|,'
    return _share(texts.str.contains(pattern) & texts.str.contains(digits)) > 0.95
