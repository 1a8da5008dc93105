"""Statistics of a column: what its values are, how often each occurs, which are missing."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

import numpy as np
import polars as pl

from dlf_jax.data.schema_proposal import markers, names
from dlf_jax.data.values import canonical

# Whole numbers from here on are not all of them floats.
_EXACT = {'Float64': 2.0**53, 'Float32': 2.0**24, 'Float16': 2.0**11}
_LEADING_ZERO = r'^-?0[0-9]'
_DATE = (
    r'^(?:[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}|[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}|[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}|'
    r'[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{4})(?:[T ][0-9]{1,2}:[0-9]{2}.*)?$'
)
# Texts beside numbers that are taken for markers, so many at most, in so small a share of the rows.
_STRAY, _STRAY_SHARE = 2, 0.2
# Number of texts in a comment.
_EXAMPLES = 3
# Number of distinct numbers that are listed as texts too.
_LISTED = 1000
# No values, and their counts.
_NOTHING = pl.Series('value', [], pl.String), np.empty(0, np.int64)


class Nature(enum.Enum):
    """What the values of a column are."""

    UNUSABLE = 'of a type that is no feature'
    NUMBERS = 'numbers'
    TEXT = 'text'
    BOOLEANS = 'booleans'
    MOMENTS = 'dates or times'
    LISTS = 'lists'


@dataclasses.dataclass(frozen=True)
class Column:
    """Statistics of a column.

    Attributes:
      name: its name.
      nature: what its values are, once markers of missing values are left out.
      rows: number of rows.
      missing: number of rows without a value.
      values: the distinct values as text, rising, String [n]; of lists those inside. Empty for numbers of a
        type of their own that are more than `_LISTED`.
      counts: how often each occurs, int64 [n].
      numbers: distinct numbers, rising, float64 [m]; empty where `nature` is another.
      number_counts: how often each occurs, int64 [m].
      distinct: number of distinct values.
      markers: texts that stand for a missing value.
      strays: texts beside numbers that stand for a missing one if the column is numeric.
      doubts: what is not sure about the markers, for people.
      reason: why an unusable column is that.
      rising: whether numbers never fall in the file.
      zeros: whether numbers are written with leading zeros.
      readable_as_numbers: whether the reader takes the column's type for numbers; bytes it does not.
      exact: whether the numbers can be read as categories.
      fractions: whether the lists hold fractions.
      longest: length of the longest list.
      examples: some values, for a comment.
    """

    name: str
    nature: Nature
    rows: int
    missing: int
    values: pl.Series
    counts: np.ndarray
    numbers: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0))
    number_counts: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    distinct: int = 0
    markers: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    reason: str = ''
    rising: bool = False
    zeros: bool = False
    readable_as_numbers: bool = True
    exact: bool = True
    fractions: bool = False
    longest: int = 0
    examples: tuple[str, ...] = ()

    @property
    def present(self) -> int:
        """Number of rows with a value."""
        return self.rows - self.missing

    @property
    def whole(self) -> bool:
        """Whether all numbers are whole."""
        finite = self.finite
        return len(finite) > 0 and bool(np.all(finite == np.floor(finite)))

    @property
    def finite(self) -> np.ndarray:
        """The distinct numbers that are finite."""
        return self.numbers[np.isfinite(self.numbers)]

    @property
    def repeats(self) -> float:
        """How often a value occurs on average."""
        return self.present / max(self.distinct, 1)


def measure(values: pl.Series, missing: Sequence[str] = ()) -> Column:
    """Measures a column.

    Args:
      values: the column as it is in the file, called by its name.
      missing: texts that are known to stand for a missing value.
    """
    kind, name, rows = values.dtype, values.name, len(values)
    if isinstance(kind, pl.List | pl.Array):
        return _lists(values)
    values, reason = _readable(values)
    if reason:
        return _unusable_column(name, rows, values, reason)
    if kind == pl.Boolean or isinstance(kind, pl.Date | pl.Datetime):
        nature = Nature.BOOLEANS if kind == pl.Boolean else Nature.MOMENTS
        values = values.cast(pl.String)
        found = _categories(nature, values, *_counted(values))
        return dataclasses.replace(found, examples=_examples(values))
    if kind.is_numeric():
        return _numbers(values)
    return _texts(values.cast(pl.String), kind != pl.Binary, missing)


def _readable(values: pl.Series) -> tuple[pl.Series, str]:
    """Values, bytes as the text that they are, and why they can be no feature; '' where they can."""
    reason = _unusable(values.dtype)
    if not reason and values.dtype == pl.Binary:
        try:
            return values.cast(pl.String), ''
        except pl.exceptions.PolarsError:
            reason = 'bytes that are no UTF-8 text'
    return values, reason


def _unusable_column(name: str, rows: int, values: pl.Series, reason: str) -> Column:
    return Column(name, Nature.UNUSABLE, rows, values.null_count(), *_NOTHING, reason=reason)


def _unusable(kind: pl.DataType) -> str:
    if isinstance(kind, pl.Struct):
        return 'records of several parts: take the parts as columns of their own'
    if isinstance(kind, pl.List | pl.Array):
        return 'lists of lists or of records'
    if isinstance(kind, pl.Duration):
        return 'lengths of time: write them as numbers'
    if isinstance(kind, pl.Object):
        return 'objects'
    return ''


def _counted(texts: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """Distinct texts in any order, without nulls, and how often each occurs."""
    frame = texts.rename('value').value_counts(sort=False).drop_nulls('value')
    return frame['value'], frame['count'].to_numpy().astype(np.int64)


def _together(texts: pl.Series, counts: np.ndarray, verbatim: bool = False) -> tuple[pl.Series, np.ndarray]:
    """The same with all ways to write a value together, without missing ones, rising."""
    frame = pl.DataFrame({'value': canonical(texts, (), verbatim), 'count': counts}).drop_nulls('value')
    frame = frame.group_by('value').agg(pl.col('count').sum()).sort('value')
    return frame['value'], frame['count'].to_numpy().astype(np.int64)


def _categories(nature: Nature, values: pl.Series, texts: pl.Series, counts: np.ndarray) -> Column:
    """A column of texts, of which those without a marker are given with their counts."""
    rows, name = len(values), values.name
    texts, counts = _together(texts, counts, names.version(name))
    return Column(name, nature, rows, rows - int(counts.sum()), texts, counts, distinct=len(texts))


def _examples(values: pl.Series, without: Sequence[str] = ()) -> tuple[str, ...]:
    """The first values of the file."""
    first = values.drop_nulls().head(10_000).cast(pl.String)
    first = first.filter(~first.is_in(['', *without])).unique(maintain_order=True)
    return tuple(text for text in first.head(_EXAMPLES).to_list())


def _numbers(values: pl.Series) -> Column:
    """A column whose type is that of numbers."""
    kind, order = values.dtype, values.cast(pl.Float64)
    numbers, counts = _distinct_numbers(order)
    # Floats lose whole numbers from 2^53 on, which types of whole numbers have.
    distinct = len(numbers) if kind.is_float() else values.drop_nulls().n_unique()
    listed = _together(*_counted(values.cast(pl.String))) if distinct <= _LISTED else _NOTHING
    finite = numbers[np.isfinite(numbers)]
    limit = _EXACT.get(str(kind), np.inf)
    return Column(
        values.name,
        Nature.NUMBERS,
        len(values),
        len(values) - int(counts.sum()),
        values=listed[0],
        counts=listed[1],
        numbers=numbers,
        number_counts=counts,
        distinct=distinct,
        rising=_rising(order),
        exact=bool(np.abs(finite).max(initial=0) < limit),
        examples=_examples(values.drop_nans() if kind.is_float() else values),
    )


def _distinct_numbers(values: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    found, counts = np.unique(values.drop_nulls().drop_nans().to_numpy(), return_counts=True)
    return found, counts.astype(np.int64)


def _rising(values: pl.Series) -> bool:
    return values.drop_nulls().is_sorted()


def _texts(values: pl.Series, readable_as_numbers: bool, missing: Sequence[str]) -> Column:
    name = values.name
    texts, counts = _counted(values)
    told = texts.is_in(list(missing))
    number = texts.cast(pl.Float64, strict=False).is_not_nan().fill_null(False) & ~told
    if readable_as_numbers and number.any():
        marker = markers.among(texts) | told
        # Beside numbers more words are none, and a rare other text is likely one.
        loose = texts.filter(~number & ~marker & markers.among(texts, beside_numbers=True))
        rest = ~number & ~marker & ~texts.is_in(loose.to_list())
        rare = pl.Series(counts).filter(rest).sum() <= _STRAY_SHARE * counts.sum()
        if not rest.any() or (rest.sum() <= _STRAY and number.sum() > 20 and rare):
            stray = sorted(texts.filter(rest).to_list())
            found = _untold(texts.filter(marker & ~number))
            return dataclasses.replace(
                _number_texts(values, texts.filter(number), counts[number.to_numpy()]),
                markers=found,
                strays=(*_untold(loose), *stray),
                doubts=tuple(f'{text!r} is taken for a missing number' for text in stray),
                examples=_examples(values, (*found, *loose, *stray, *markers.UNTOLD)),
            )
    marker = markers.among(texts) | told
    present = texts.filter(~marker)
    doubtful = [
        text
        for text in _untold(texts.filter(marker & ~told))
        if markers.like_the_others(text.strip(), present)
    ]
    marker &= ~texts.is_in(doubtful)
    found = _untold(texts.filter(marker), names.version(name))
    doubts = [f'{text!r} is written as the other values are, and so kept as one' for text in doubtful]
    kept_texts, kept_counts = texts.filter(~marker), counts[(~marker).to_numpy()]
    dates = len(kept_texts) > 0 and bool(kept_texts.str.contains(_DATE).all())
    nature = Nature.MOMENTS if dates else Nature.TEXT
    return dataclasses.replace(
        _categories(nature, values, kept_texts, kept_counts),
        markers=found,
        doubts=tuple(doubts),
        readable_as_numbers=readable_as_numbers,
        examples=_examples(values, found),
    )


def _untold(texts: pl.Series, verbatim: bool = False) -> tuple[str, ...]:
    """Markers without those that the reader knows."""
    known = ('',) if verbatim else markers.UNTOLD
    return tuple(sorted(text for text in texts.to_list() if text not in known))


def _number_texts(values: pl.Series, texts: pl.Series, counts: np.ndarray) -> Column:
    """A column of text that is numbers beside markers, of which the numbers are given with their counts."""
    numbers = texts.cast(pl.Float64).to_numpy()
    order = np.argsort(numbers, kind='stable')
    numbers, number_counts = numbers[order], counts[order]
    starts = np.flatnonzero(np.concatenate([[True], numbers[1:] != numbers[:-1]]))
    distinct_numbers, number_counts = numbers[starts], np.add.reduceat(number_counts, starts)
    zeros = bool(texts.str.contains(_LEADING_ZERO).any())
    large = np.abs(distinct_numbers[np.isfinite(distinct_numbers)]).max(initial=0) >= 2.0**53
    as_written = zeros or large
    listed = _together(texts, counts, names.version(values.name)) if len(texts) <= _LISTED else _NOTHING
    in_order = values.cast(pl.Float64, strict=False).drop_nans()
    return Column(
        values.name,
        Nature.NUMBERS,
        len(values),
        len(values) - int(counts.sum()),
        values=listed[0],
        counts=listed[1],
        numbers=distinct_numbers,
        number_counts=number_counts,
        distinct=len(texts) if as_written else len(distinct_numbers),
        rising=_rising(in_order),
        zeros=zeros,
    )


def _lists(values: pl.Series) -> Column:
    name, rows, inner = values.name, len(values), values.dtype.inner  # type: ignore[attr-defined]
    values = values.cast(pl.List(inner)) if isinstance(values.dtype, pl.Array) else values
    flat = values.explode(empty_as_null=False, keep_nulls=False).drop_nulls()
    flat, reason = _readable(flat)
    if reason:
        return _unusable_column(name, rows, values, reason)
    lengths = values.list.len().fill_null(0).to_numpy()
    fractions = inner.is_float() and bool((flat != flat.floor()).any())
    texts, counts = _counted(flat.cast(pl.String))
    marker = markers.among(texts)
    present = texts.filter(~marker)
    found = [t for t in _untold(texts.filter(marker)) if not markers.like_the_others(t.strip(), present)]
    kept = ~texts.is_in(found)
    listed = _together(texts.filter(kept), counts[kept.to_numpy()])
    return Column(
        name,
        Nature.LISTS,
        rows,
        int((lengths == 0).sum()),
        values=listed[0],
        counts=listed[1],
        distinct=len(listed[0]),
        markers=tuple(found),
        fractions=fractions,
        longest=int(lengths.max(initial=0)),
        examples=_examples(flat),
    )
