"""The proposed kind of a column, with its options and the reason."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import polars as pl

from dlf_jax.data.schema import CATEGORICAL, MULTI_VALUED, NUMERIC
from dlf_jax.data.schema_files import IGNORED, LENGTH
from dlf_jax.data.schema_proposal import markers, names, numbers, separated
from dlf_jax.data.schema_proposal.column import Column, Nature
from dlf_jax.data.schema_proposal.numbers import Shape

# As many values, and no more, are categories whatever they are.
_FEW = 20
# Where a value comes less often on average, nothing can be learnt of it.
_UNIQUE = 1 / 0.95
# Columns of fewer rows tell nothing by having another value in each.
_ENOUGH_ROWS = 50
# From so many values on, those seen once are left out.
_MANY = 1000
# Beyond it, numbers are refused, or leave float32 (`data.readers.columns`).
_LARGEST = 1e38
_OTHER_TREATMENTS = (
    'piecewise or quantile, by the training rows; or periodic, standard, minmax, none; '
    'log2 and bucket with kind = "categorical"'
)
_HEXADECIMAL = r'^[0-9a-fA-F]{8,}$|^[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}$'


@dataclasses.dataclass(frozen=True)
class Proposal:
    """Proposed entry of a column.

    Attributes:
      kind: one of `schema.KINDS`, or ignored.
      why: the reason, for a comment; '' where it goes without saying.
      doubt: whether people should look at it.
      options: further options, as TOML.
      missing: numbers that stand for a missing one, as texts.
      moment: whether the values are moments.
    """

    kind: str
    why: str = ''
    doubt: bool = False
    options: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    moment: bool = False


def propose_kind(column: Column) -> Proposal:
    """Proposes the entry of a column that is not the label."""
    if not column.name:
        return Proposal(IGNORED, 'without a name it cannot be read')
    if column.nature is Nature.UNUSABLE:
        return Proposal(IGNORED, column.reason)
    if not column.distinct or (column.nature is Nature.NUMBERS and not len(column.finite)):
        return Proposal(
            IGNORED, 'no value in any row' if not column.distinct else 'no finite number in any row'
        )
    if column.distinct == 1 and not column.missing:
        return Proposal(IGNORED, 'the same value in every row')
    if column.nature is Nature.MOMENTS:
        return _moment('dates or times')
    found = {Nature.NUMBERS: _number, Nature.TEXT: _text, Nature.LISTS: _list}.get(column.nature, _category)(
        column
    )
    if found.kind == IGNORED:
        return found
    options = found.options
    numeric = found.kind == NUMERIC
    missing = (*column.markers, *(column.strays if numeric else ()), *found.missing)
    if missing:
        options = (*options, f'missing = [{", ".join(map(toml_text, missing))}]')
    if column.doubts and (numeric or not column.strays):
        why = '; '.join(filter(None, [found.why, *column.doubts]))
        found = dataclasses.replace(found, why=why, doubt=True)
    return dataclasses.replace(found, options=options)


def toml_text(text: str) -> str:
    """A text as TOML has it."""
    return json.dumps(text, ensure_ascii=False).replace('\x7f', '\\u007f')


def _category(column: Column, why: str = '', doubt: bool = False, verbatim: bool = False) -> Proposal:
    options = ['min_count = 2'] if column.distinct > _MANY else []
    options += ['verbatim = true  # 1.1 and 1.10 are two values'] if verbatim else []
    return Proposal(CATEGORICAL, why, doubt, tuple(options))


def _measure(column: Column, why: str = '', doubt: bool = False) -> Proposal:
    options = [f'treatment = "auto"  # {_OTHER_TREATMENTS}']
    if np.abs(column.numbers).max(initial=0) > _LARGEST:
        options.append('out_of_range = "missing"  # some are infinite or too large')
    return Proposal(NUMERIC, why, doubt, tuple(options))


def _moment(what: str, doubt: bool = False) -> Proposal:
    why = f'{what}: for a split by time; hour or weekday would be columns of their own'
    return Proposal(IGNORED, why, doubt, moment=True)


def _unique(column: Column) -> bool:
    return column.present >= _ENOUGH_ROWS and column.repeats < _UNIQUE


def _list(column: Column) -> Proposal:
    if column.fractions:
        return Proposal(IGNORED, 'lists of fractions: write them as columns of numbers', doubt=True)
    return _several(column.distinct, column.longest, '', '', False)


def _several(distinct: int, longest: int, separator: str, why: str, doubt: bool) -> Proposal:
    length = min(max(longest, 1), LENGTH)
    options = [f'separator = {toml_text(separator)}'] if separator else []
    options += ['pooling = "mean"  # or sum, max']
    options += [f'length = {length}' + (f'  # of up to {longest:,}' if longest > length else '')]
    options += ['min_count = 2'] if distinct > _MANY else []
    return Proposal(MULTI_VALUED, why, doubt, tuple(options))


def _text(column: Column) -> Proposal:
    texts = column.values
    found = separated.separated(texts) if column.readable_as_numbers else None
    if found:
        why = '' if found.sure else f'{found.separator!r} is taken for a separator of values'
        return _several(found.distinct, found.longest, found.separator, why, not found.sure)
    measured = ''
    if separated.decimal_commas(texts):
        measured = 'numbers with a comma for the point: with a point they could be numeric'
    elif separated.with_units(texts):
        measured = 'numbers with signs or units about them: as plain numbers they could be numeric'
    if _unique(column):
        return Proposal(IGNORED, measured or f'{_free_text(texts)}: nothing to learn from', bool(measured))
    if measured:
        return _category(column, measured, column.distinct > _FEW)
    number = texts.cast(pl.Float64, strict=False).is_not_null().to_numpy()
    share = column.counts[number].sum() / column.present
    if share > 0.5 and column.distinct > _FEW and not names.identifier(column.name):
        other = texts.filter(pl.Series(~number))[0]
        return _category(column, f'{100 * share:.1f} % are numbers, others are not, such as {other!r}', True)
    # As diseases are coded: 003.1, 250.0 and 250.00.
    version = names.version(column.name) or bool(texts.str.contains(r'^0[0-9]+\.').any())
    if column.repeats < 2 and column.present >= _ENOUGH_ROWS:
        return _category(column, f'a value comes {column.repeats:.1f} times', True, version)
    return _category(column, verbatim=version)


def _free_text(texts: pl.Series) -> str:
    if texts.str.contains(_HEXADECIMAL).all():
        return 'another hash or id in nearly every row'
    words = texts.str.count_matches(' ').mean() or 0
    return ('free text' if words > 2 else 'an id or a name') + ', another in nearly every row'  # type: ignore[operator]


def _number(column: Column) -> Proposal:
    value, far = (None, False) if column.zeros else markers.sentinel(column.finite, column.number_counts)
    if value is None:
        return _plain_number(column)
    share = 100 * column.number_counts[0] / column.rows
    if not far:
        found = _plain_number(column)
        if found.kind != NUMERIC:
            return found
        why = f'{value:g} in {share:.1f} % of the rows: missing = ["{value:g}"] if it stands for no number'
        return dataclasses.replace(found, why='; '.join(filter(None, [found.why, why])), doubt=True)
    found = _plain_number(
        dataclasses.replace(
            column,
            missing=column.missing + int(column.number_counts[0]),
            numbers=column.numbers[1:],
            number_counts=column.number_counts[1:],
            distinct=column.distinct - 1,
        )
    )
    if found.kind != NUMERIC:
        # A category of its own is as good.
        return found
    low, high = column.finite[1], column.finite[-1]
    why = (
        f'{value:.0f} in {share:.1f} % of the rows, far from the others ({low:g} to {high:g}), '
        'is taken for missing'
    )
    why = '; '.join(filter(None, [found.why, why]))
    return dataclasses.replace(found, why=why, doubt=True, missing=(f'{value:.0f}',))


def _plain_number(column: Column) -> Proposal:
    name, unique = column.name, _unique(column)
    named, measured = names.identifier(name), names.quantity(name)
    if column.zeros:
        if unique:
            return Proposal(IGNORED, 'a code with leading zeros, another in nearly every row')
        return _category(column, 'leading zeros: a code', measured, not column.whole)
    if names.version(name) and not column.whole:
        return _category(column, 'versions', False, verbatim=True)
    if not named and len(column.finite) == len(column.numbers):
        moment = numbers.moments(column.finite, names.time(name), column.rising)
        if moment:
            return _moment(moment, not names.time(name))
    if not column.whole or len(column.finite) < len(column.numbers):
        if column.distinct <= _FEW and column.repeats >= _FEW and not measured and column.exact:
            return _category(column, 'few numbers, each of them often')
        return _measure(column, 'fractions, though the name is that of a code' if named else '', named)
    return _whole(column, named, measured, unique)


def _whole(column: Column, named: bool, measured: bool, unique: bool) -> Proposal:
    low, high = column.finite[0], column.finite[-1]
    if not column.exact and not measured:
        return Proposal(
            IGNORED, 'whole numbers that the type of floats has rounded: write them as integers or text', True
        )
    if (
        measured
        and column.exact
        and (column.distinct <= 5 or (names.year(column.name) and column.distinct <= _FEW))
    ):
        return _category(column)
    if measured:
        return _measure(column)
    numbered = high - low + 1 == column.distinct or column.rising
    if unique and (named or numbered or high >= 2.0**53):
        return Proposal(IGNORED, 'an id, another in nearly every row: nothing to learn from')
    if named or high >= 2.0**53 or column.distinct <= 2:
        return _category(column)
    if names.cycle(column.name) and low >= 0 and high <= 366:
        return _category(column)
    if column.distinct <= _FEW and column.repeats >= 5:
        return _category(column)
    return _judged(column, unique)


def _judged(column: Column, unique: bool) -> Proposal:
    """Whole numbers of which the name tells nothing."""
    shape = numbers.shape(column.finite, column.number_counts)
    often = f'a value comes {column.repeats:.3g} times, {shape.value}'
    ids, measure = f'taken for ids ({often})', f'taken for a quantity ({often})'
    if shape is Shape.COUNTS:
        gaps = column.distinct < 50 and column.distinct < 0.05 * (column.finite[-1] - column.finite[0])
        return _measure(column, measure, column.repeats < 2 or gaps)
    if shape is Shape.MEASURED:
        return _measure(column, measure, True)
    if unique and shape is Shape.EVEN:
        return Proposal(IGNORED, f'{ids}, another in nearly every row: nothing to learn from', True)
    if column.repeats < 2 or (column.present < 10 * _ENOUGH_ROWS and column.repeats < 5):
        return _measure(column, measure, True)
    sure = shape is not Shape.RANKED and column.repeats >= 10 and column.distinct > 100
    return _category(column, ids, not sure)
