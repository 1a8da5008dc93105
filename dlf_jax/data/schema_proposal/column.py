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
_EXACT = {pl.Float64: 2.0**53, pl.Float32: 2.0**24}
_LEADING_ZERO = r'^-?0[0-9]'
_DATE = (
    r'^(?:[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}|[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}|[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}|'
    r'[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{4})(?:[T ][0-9]{1,2}:[0-9]{2}.*)?$'
)
# Texts beside numbers that are taken for markers, so many at most, in so small a share of the rows.
_STRAY, _STRAY_SHARE = 2, 0.2
# Number of texts in a comment.
_EXAMPLES = 3


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
        type of their own that are more than `LISTED`.
      counts: how often each occurs, int64 [n].
      numbers: distinct numbers, rising, float64 [m]; empty where `nature` is another.
      number_counts: how often each occurs, int64 [m].
      distinct: number of distinct values.
      markers: texts that stand for a missing value.
      doubts: what is not sure about the markers, for people.
      reason: why an unusable column is that.
      rising: whether numbers never fall in the file.
      zeros: whether numbers are written with leading zeros.
      number_type: whether the file has a type of numbers for it, or text, which may be read as them.
      exact: whether the numbers can be read as categories.
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
    doubts: tuple[str, ...] = ()
    reason: str = ''
    rising: bool = False
    zeros: bool = False
    readable_as_numbers: bool = True
    exact: bool = True
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


# Number of distinct numbers that are listed as texts too.
LISTED = 1000
_NONE = pl.Series('value', [], pl.String)


def measure(values: pl.Series, missing: Sequence[str] = ()) -> Column:
    """Measures a column.

    Args:
      values: the column as it is in the file, called by its name.
      missing: texts that are known to stand for a missing value.
    """
    kind, name, rows = values.dtype, values.name, len(values)
    none = (_NONE, np.empty(0, np.int64))
    if isinstance(kind, pl.List | pl.Array):
        return _lists(values)
    reason = _unusable(kind)
    if not reason and kind == pl.Binary:
        try:
            values = values.cast(pl.String)
        except pl.exceptions.PolarsError:
            reason = 'bytes that are no UTF-8 text'
    if reason:
        return Column(name, Nature.UNUSABLE, rows, values.null_count(), *none, reason=reason)
    if kind == pl.Boolean:
        texts, counts = _counted(values.cast(pl.String))
        return _plain(name, Nature.BOOLEANS, rows, texts, counts, values.cast(pl.String))
    if isinstance(kind, pl.Date | pl.Datetime):
        texts, counts = _counted(values.cast(pl.String))
        return _plain(name, Nature.MOMENTS, rows, texts, counts, values.cast(pl.String))
    if kind.is_numeric():
        return _numbers(values)
    return _texts(values.cast(pl.String), kind != pl.Binary, missing)


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
    """Distinct texts, rising, without nulls, and how often each occurs."""
    frame = texts.rename('value').value_counts(sort=False).drop_nulls('value').sort('value')
    return frame['value'], frame['count'].to_numpy().astype(np.int64)


def _together(texts: pl.Series, counts: np.ndarray, verbatim: bool = False) -> tuple[pl.Series, np.ndarray]:
    """The same with all ways to write a value together, without missing ones."""
    frame = pl.DataFrame({'value': canonical(texts, (), verbatim), 'count': counts})
    frame = frame.drop_nulls('value').group_by('value').agg(pl.col('count').sum()).sort('value')
    return frame['value'], frame['count'].to_numpy().astype(np.int64)


def _plain(
    name: str,
    nature: Nature,
    rows: int,
    texts: pl.Series,
    counts: np.ndarray,
    order: pl.Series,
    **more: object,
) -> Column:
    texts, counts = _together(texts, counts, names.version(name))
    missing = rows - int(counts.sum())
    return Column(
        name, nature, rows, missing, texts, counts, distinct=len(texts), examples=_examples(order), **more
    )  # type: ignore[arg-type]


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
    listed = (_NONE, np.empty(0, np.int64))
    if distinct <= LISTED:
        listed = _together(*_counted(values.cast(pl.String)))
    finite = numbers[np.isfinite(numbers)]
    limit = _EXACT.get(type(kind), np.inf)
    return Column(
        values.name, Nature.NUMBERS, len(values), len(values) - int(counts.sum()), *listed, numbers, counts,
        distinct=distinct, rising=_rising(order), examples=_examples(values.drop_nans() if kind.is_float() else values),
        exact=bool(np.abs(finite).max(initial=0) < limit),
    )  # fmt: skip


def _distinct_numbers(values: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    found, counts = np.unique(values.drop_nulls().drop_nans().to_numpy(), return_counts=True)
    return found, counts.astype(np.int64)


def _rising(values: pl.Series) -> bool:
    return values.drop_nulls().is_sorted()


def _texts(values: pl.Series, readable_as_numbers: bool, missing: Sequence[str]) -> Column:
    name, rows = values.name, len(values)
    texts, counts = _counted(values)
    told = texts.is_in(list(missing))
    number = texts.cast(pl.Float64, strict=False)
    is_number = number.is_finite().fill_null(False) | number.is_infinite().fill_null(False)
    marker = (markers.among(texts, beside_numbers=True) & ~is_number) | told
    other = ~is_number & ~marker
    weights = pl.Series(counts)
    stray: list[str] = []
    if 0 < other.sum() <= _STRAY and (is_number & ~told).sum() > 20:
        if weights.filter(other).sum() <= _STRAY_SHARE * counts.sum():
            stray = texts.filter(other).to_list()
            marker, other = marker | other, other & False
    if not other.any() and (is_number & ~told).any() and readable_as_numbers:
        kept = is_number & ~told
        found = _untold(texts.filter(marker & (weights > 0)))
        doubts = [f'{_quote(text)} is taken for a missing number' for text in stray]
        return _number_texts(values, texts.filter(kept), counts[kept.to_numpy()], found, doubts)
    marker = markers.among(texts) | told
    present = texts.filter(~marker)
    doubtful = [
        text
        for text in _untold(texts.filter(marker & ~told))
        if markers.like_the_others(text.strip(), present)
    ]
    marker &= ~texts.is_in(doubtful)
    found = _untold(texts.filter(marker), names.version(name))
    doubts = [f'{_quote(text)} is written as the other values are, and so kept as one' for text in doubtful]
    kept_texts, kept_counts = texts.filter(~marker), counts[(~marker).to_numpy()]
    more = {'markers': found, 'doubts': tuple(doubts), 'readable_as_numbers': readable_as_numbers}
    dates = len(kept_texts) > 0 and bool(kept_texts.str.contains(_DATE).all())
    nature = Nature.MOMENTS if dates else Nature.TEXT
    order = values.filter(~values.is_in(found)) if found else values
    return _plain(name, nature, rows, kept_texts, kept_counts, order, **more)


def _untold(texts: pl.Series, verbatim: bool = False) -> tuple[str, ...]:
    """Markers without those that the reader knows."""
    known = ('',) if verbatim else markers.UNTOLD
    return tuple(text for text in texts.to_list() if text not in known)


def _number_texts(
    values: pl.Series, texts: pl.Series, counts: np.ndarray, found: tuple[str, ...], doubts: list[str]
) -> Column:
    """A column of text that is numbers beside markers."""
    numbers = texts.cast(pl.Float64).to_numpy()
    order = np.argsort(numbers, kind='stable')
    numbers, number_counts = numbers[order], counts[order]
    starts = np.flatnonzero(np.concatenate([[True], numbers[1:] != numbers[:-1]]))
    distinct_numbers, number_counts = numbers[starts], np.add.reduceat(number_counts, starts)
    zeros = bool(texts.str.contains(_LEADING_ZERO).any())
    large = np.abs(distinct_numbers[np.isfinite(distinct_numbers)]).max(initial=0) >= 2.0**53
    as_written = zeros or large
    listed = (texts, counts) if as_written else (_NONE, np.empty(0, np.int64))
    if len(texts) <= LISTED:
        listed = _together(texts, counts, names.version(values.name))
    in_order = values.cast(pl.Float64, strict=False).drop_nans()
    return Column(
        values.name, Nature.NUMBERS, len(values), len(values) - int(counts.sum()), *listed, distinct_numbers,
        number_counts, distinct=len(texts) if as_written else len(distinct_numbers), markers=found,
        doubts=tuple(doubts), rising=_rising(in_order), zeros=zeros,
        examples=_examples(values, (*found, 'NaN', 'nan')),
    )  # fmt: skip


def _lists(values: pl.Series) -> Column:
    name, rows, inner = values.name, len(values), values.dtype.inner  # type: ignore[attr-defined]
    values = values.cast(pl.List(inner)) if isinstance(values.dtype, pl.Array) else values
    flat = values.explode(empty_as_null=False, keep_nulls=False).drop_nulls()
    reason = _unusable(inner)
    if not reason and inner == pl.Binary:
        try:
            flat = flat.cast(pl.String)
        except pl.exceptions.PolarsError:
            reason = 'bytes that are no UTF-8 text'
    if reason:
        none = (_NONE, np.empty(0, np.int64))
        return Column(name, Nature.UNUSABLE, rows, values.null_count(), *none, reason=reason)
    lengths = values.list.len().fill_null(0).to_numpy()
    fractions = inner.is_float() and bool((flat != flat.floor()).any())
    numbers, number_counts = (
        _distinct_numbers(flat.cast(pl.Float64)) if fractions else (np.empty(0), np.empty(0))
    )
    texts, counts = _counted(flat.cast(pl.String))
    marker = markers.among(texts)
    present = texts.filter(~marker)
    marker &= ~texts.is_in([t for t in texts.filter(marker) if markers.like_the_others(t.strip(), present)])
    found = _untold(texts.filter(marker))
    texts, counts = _together(present, counts[(~markers.among(texts)).to_numpy()])
    return Column(
        name, Nature.LISTS, rows, int((lengths == 0).sum()), texts, counts, numbers, number_counts,
        distinct=len(texts), markers=found, longest=int(lengths.max(initial=0)), examples=_examples(flat),
    )  # fmt: skip


def _quote(text: str) -> str:
    return repr(text)
