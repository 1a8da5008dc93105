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
    for separator in _SEPARATORS:
        there = sample.str.contains(separator, literal=True)
        if (there.mean() or 0) <= _SHARE or sample.str.contains(_DECIMAL_COMMA).mean() > 0.5:  # type: ignore[operator]
            continue
        spaced = f'{separator} '
        if separator in ';,|' and bool(sample.filter(there).str.contains(spaced, literal=True).all()):
            separator = spaced
        if distinct := _are_values(sample, separator):
            longest = int(texts.str.count_matches(separator, literal=True).max() or 0) + 1  # type: ignore[arg-type]
            return Separated(separator, longest, distinct, separator in ('|', ';'))
    return None


def _are_values(texts: pl.Series, separator: str) -> int:
    """Number of distinct parts; 0 where they are not short values that come again, at any place."""
    parts = texts.str.split(separator)
    lengths = parts.list.len().to_numpy()
    flat = parts.explode(empty_as_null=True, keep_nulls=True).fill_null('')
    first = np.zeros(len(flat), bool)
    first[np.cumsum(lengths) - lengths] = True
    later = flat.filter(pl.Series(~first))
    if (
        not len(later)
        or (flat.str.len_bytes() > 40).mean() > 0.02
        or flat.str.contains(_NOT_A_VALUE).mean() > 0.02
    ):  # type: ignore[operator]
        return 0
    plain_words = flat.str.count_matches(' ').fill_null(0)
    if (plain_words > 3).mean() > 0.02:  # type: ignore[operator]
        return 0
    if separator == ' ' and (flat.str.contains('[0-9]').mean() or 0) < 0.95:  # type: ignore[operator]
        # Words of a sentence.
        return 0
    if separator != '|' and flat.str.strip_chars().str.len_bytes().eq(0).mean() > 0.2:  # type: ignore[operator]
        return 0
    overlap = later.is_in(flat.filter(pl.Series(first)).unique().to_list()).mean() or 0
    distinct = flat.n_unique()
    repeated = len(flat) / distinct
    # `city, country` has always two parts, and other words in each place.
    varied = len(np.unique(lengths)) > 2
    again = (overlap > 0.3 and repeated > 1.5) or (varied and repeated > 3)  # type: ignore[operator]
    return distinct if again else 0


def decimal_commas(texts: pl.Series) -> bool:
    """Whether texts are numbers with a comma for the point."""
    return (
        len(texts) > 0
        and bool(texts.str.contains(_DECIMAL_COMMA).mean() > 0.5)
        and bool(  # type: ignore[operator]
            texts.str.contains(r'^-?[0-9.,]+$').all()
        )
    )


def with_units(texts: pl.Series) -> bool:
    """Whether texts are numbers with a currency, a unit, a sign or a separator of thousands about them."""
    pattern = r'^[$€£¥]? ?[<>~]?[+-]?[0-9][0-9,]*(?:\.[0-9]+)? ?(?:%|[$€£¥]|[A-Za-z]{1,5}\.?)?$'
    digits = r'^[$€£¥<>~+]|[%$€£¥]$|[0-9] ?[A-Za-z]{1,5}$|,'
    return len(texts) > 0 and bool((texts.str.contains(pattern) & texts.str.contains(digits)).mean() > 0.95)  # type: ignore[operator]
