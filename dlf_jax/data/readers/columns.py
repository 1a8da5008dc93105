"""Typed columns of a chunk: categories, elements of lists, numbers, labels, weights, groups, times."""

from __future__ import annotations

import numpy as np
import polars as pl

from dlf_jax.data.hashing import stable_hash
from dlf_jax.data.readers.chunk import Chunk, Columns, to_numbers
from dlf_jax.data.schema import NO_GROUP, Field, Schema
from dlf_jax.data.values import canonical_rows
from dlf_jax.errors import UserError

# Advice that holds for training and for what comes after it.
_OUT_OF_RANGE = '; mend it, or train with config.dataset.out_of_range=missing, which takes it for missing'
# Squares of larger numbers, and sums of them, leave the range of float64.
LARGEST = 1e140
FLOAT32 = float(np.finfo(np.float32).max)

# Words of labels, in small letters, and what they mean.
LABELS = {
    '1': 1.0, 'true': 1.0, 'yes': 1.0, 'y': 1.0, 't': 1.0,
    '0': 0.0, 'false': 0.0, 'no': 0.0, 'n': 0.0, 'f': 0.0, '-1': 0.0,
}  # fmt: skip


def columns_of(schema: Schema, labelled: bool, time: str = '', keep: tuple[str, ...] = ()) -> Columns:
    """Columns of a table that the functions of this module read.

    Args:
      schema: the features, label, weight and group.
      labelled: whether label, weight and group are read.
      time: name of the column of times; '' for none.
      keep: columns that are handed on as they are.
    """
    extra = [schema.label, schema.group] if labelled else []
    return Columns(
        text=tuple(filter(None, [*schema.text_columns(), *extra, time])),
        numbers=tuple(filter(None, [*schema.number_columns(), schema.weight if labelled else ''])),
        keep=keep,
        missing={field.name: field.missing for field in schema.fields if field.missing},
    )


def categories(chunk: Chunk, field: Field) -> pl.Series:
    """Categories of a field's column as they are written, null where missing.

    Returns:
      String, to be made one with `data.values.canonical`; Int64 for a column of numbers, floor(log(x)^2)
      above 2 and floor(x) below.

    Raises:
      UserError: a list of several values, or an infinite number.
    """
    if not field.number:
        return _single(chunk, field.name)
    return log2_categories(field.name, numbers(chunk, field.name, field))


def log2_categories(name: str, values: np.ndarray) -> pl.Series:
    """Categories of numbers, float64 [n]: floor(log(x)^2) above 2 and floor(x) below.

    Returns:
      Int64 [n], null where the number is NaN.
    """
    found = np.floor(values)
    large = np.flatnonzero(values > 2)
    found[large] = np.floor(np.log(values[large]) ** 2)
    # NaN, which is a missing value, becomes null; all else is within the range of Int64.
    return pl.Series(name, np.maximum(found, -(2.0**62))).cast(pl.Int64, strict=False)


def _single(chunk: Chunk, name: str) -> pl.Series:
    """Column of one value a row, String; a list of one value is that value, an empty one is missing.

    Raises:
      UserError: a list of several values.
    """
    values = chunk.frame[name]
    if values.dtype == pl.String:
        return values
    several = (values.list.len() > 1).arg_true()
    if len(several):
        raise UserError(
            f'{chunk.where(several[0])}: column {name!r}: expected one value a row, found lists of several; '
            'make the field multi-valued'
        )
    return values.list.first()


def elements(chunk: Chunk, field: Field) -> tuple[pl.Series, np.ndarray]:
    """Values of a multi-valued field, without missing ones and cut to the field's length in each row.

    In an ordered field a missing value between others is null, so that each keeps its place, and the latest
    ones are kept; a row of missing values alone has none.

    Returns:
      The values of all rows one after another, String, and the number of values of each row, int64 [rows].

    Raises:
      UserError: text where the field has no separator.
    """
    values = chunk.frame[field.name]
    if values.dtype == pl.String:
        if not field.separator:
            raise UserError(
                f'{chunk.where(0)}: column {field.name!r} holds text, not lists; give the separator '
                'of its values'
            )
        values = values.str.split(field.separator)
    flat = values.list.explode(empty_as_null=False, keep_nulls=False)
    rows = np.repeat(np.arange(len(values)), values.list.len().fill_null(0).to_numpy().astype(np.int64))
    return kept_elements(flat, rows, len(values), field)


def kept_elements(
    flat: pl.Series, rows: np.ndarray, count: int, field: Field
) -> tuple[pl.Series, np.ndarray]:
    """What `elements` keeps of all values.

    Args:
      flat: values of all rows one after another, String [n].
      rows: row of each value, rising, int64 [n].
      count: number of rows.
      field: the multi-valued field.
    """
    flat = canonical_rows(flat, field.missing, field.verbatim)
    present = flat.is_not_null().to_numpy()
    if field.ordered:
        present = (np.bincount(rows[present], minlength=count) > 0)[rows]
    flat, rows = flat.filter(pl.Series(present, dtype=pl.Boolean)), rows[present]
    lengths = np.bincount(rows, minlength=count).astype(np.int64)
    if lengths.max(initial=0) > field.length:
        # Position of each value in its row.
        place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        first = (lengths - field.length)[rows] if field.ordered else 0
        flat = flat.filter(pl.Series((place >= first) & (place < first + field.length)))
        lengths = np.minimum(lengths, field.length)
    return flat, lengths


def numbers(chunk: Chunk, name: str, field: Field | None = None) -> np.ndarray:
    """Numbers of a column, float64 [rows], NaN where missing.

    Args:
      chunk: the rows.
      name: name of the column.
      field: field of the column, whose texts of missing values count; None for another column.

    Raises:
      UserError: an infinite number, one beyond 1e140 (float32 where it is not treated), or text that is no
        number; numbers out of range are missing where `field.out_of_range` says so.
    """
    column = chunk.frame[name]
    missing = field.missing if field else ()
    if column.dtype == pl.String:
        # Read as text, because it is the group or the time as well.
        column = to_numbers(chunk, column, missing)
    values = column.to_numpy()
    for marker in missing:
        try:
            values = np.where(values == float(marker), np.nan, values)
        except ValueError:
            continue
    # A number that stays as it is must be one of float32.
    largest = FLOAT32 if field and field.treatment == 'none' else LARGEST
    beyond = np.abs(values) > largest
    wrong = np.flatnonzero(beyond)
    if wrong.size and field and field.out_of_range == 'missing':
        return np.where(beyond, np.nan, values)
    if wrong.size:
        found = values[wrong[0]]
        expected = 'a finite number or an empty field' if np.isinf(found) else f'at most {largest:g}'
        raise UserError(
            f'{chunk.where(int(wrong[0]))}: column {name!r}: expected {expected}, found {found:g}'
            + (_OUT_OF_RANGE if field else '')
        )
    return values


def extras(chunk: Chunk, schema: Schema, seen: set[str] | None = None) -> dict[str, np.ndarray]:
    """Columns beside the features: `label`, and `weight` and `group` where the schema has them.

    Args:
      chunk: the rows.
      schema: names of the columns, and what the labels mean.
      seen: see `labels`.
    """
    found = {'label': labels(chunk, schema, seen)}
    if schema.weight:
        found['weight'] = weights(chunk, schema.weight)
    if schema.group:
        found['group'] = groups(chunk, schema.group)
    return found


def labels(chunk: Chunk, schema: Schema, seen: set[str] | None = None) -> np.ndarray:
    """Labels, float32 [rows].

    1 is written 1, true, yes, y or t, and 0 is written 0, -1, false, no, n or f, in capitals or not. Where
    `schema.positive` names a value, that is 1 and every other 0; with `schema.soft_labels` any number in
    [0, 1] is one.

    Args:
      chunk: the rows.
      schema: name of the column, and what its values mean.
      seen: texts of 0 and -1 in earlier chunks of the table, to which this one's are added; None: none.

    Raises:
      UserError: another label, a missing one, or both 0 and -1; names its line.
    """
    name = schema.label
    texts = canonical_rows(_single(chunk, name))
    distinct = texts.unique().to_list()
    if schema.positive:
        (positive,) = canonical_rows(pl.Series([schema.positive])).to_list()
        known = {text: float(text == positive) for text in distinct if text is not None}
    elif schema.soft_labels:
        known = {text: number for text in distinct if (number := _probability(text)) is not None}
    else:
        known = {text: LABELS[key] for text in distinct if text and (key := text.lower()) in LABELS}
        seen = set() if seen is None else seen
        seen.update({'0', '-1'} & known.keys())
        if len(seen) > 1:
            raise UserError(
                f'{chunk.where(texts.is_in(["0", "-1"]).arg_true()[0])}: label {name!r}: both 0 and -1; '
                'labels are 0 and 1, or -1 and 1; in training, config.dataset.positive names the value of a '
                'click where there are more'
            )
    wrong = (~texts.is_in(list(known)).fill_null(False)).arg_true()
    if len(wrong):
        found = chunk.frame[name][wrong[0]]
        expected = (
            'a value' if schema.positive else 'a number from 0 to 1' if schema.soft_labels else '0 or 1'
        )
        hint = ''
        if not (schema.positive or schema.soft_labels) and found:
            soft = _probability(texts[wrong[0]]) is not None
            hint = (
                '; training with config.dataset.soft_labels=True takes shares for labels'
                if soft
                else '; in training, config.dataset.positive names the value that is a click'
            )
        raise UserError(
            f'{chunk.where(int(wrong[0]))}: label {name!r}: expected {expected}, '
            f'found {found if found else "an empty field"}{hint}'
        )
    old = list(known)
    found = texts.replace_strict(old, [known[text] for text in old], return_dtype=pl.Float32)
    return found.to_numpy()


def _probability(text: str | None) -> float | None:
    try:
        number = float(text or '')
    except ValueError:
        return None
    return number if 0 <= number <= 1 else None


def weights(chunk: Chunk, name: str) -> np.ndarray:
    """Row weights, float32 [rows]. Raises UserError where one is missing or below 0."""
    values = numbers(chunk, name)
    wrong = np.flatnonzero(~((values >= 0) & (values <= np.finfo(np.float32).max)))
    if wrong.size:
        found = values[wrong[0]]
        raise UserError(
            f'{chunk.where(int(wrong[0]))}: weight {name!r}: expected a number of 0 or more, '
            f'found {"an empty field" if np.isnan(found) else found}'
        )
    return values.astype(np.float32)


def groups(chunk: Chunk, name: str) -> np.ndarray:
    """Groups as stable hashes of their values, int64 [rows] of 0 and more; `NO_GROUP` where missing."""
    values = canonical_rows(_single(chunk, name))
    found = (stable_hash(values) >> np.uint64(1)).astype(np.int64)
    if values.null_count():
        found[values.is_null().to_numpy()] = NO_GROUP
    return found


def times(chunk: Chunk, name: str) -> np.ndarray:
    """Times, float64 [rows]: numbers as they are, dates and times in seconds since 1970.

    Raises:
      UserError: neither a number nor a time like 2026-01-31 or 2026-01-31 23:59:59.
    """
    values = chunk.frame[name]
    found = values.cast(pl.Float64, strict=False)
    if found.null_count():
        found = found.fill_null(_moments(values).cast(pl.Int64).cast(pl.Float64) / 1e6)
    wrong = (found.is_null() | ~found.is_finite().fill_null(False)).arg_true()
    if len(wrong):
        raise UserError(
            f'{chunk.where(int(wrong[0]))}: time {name!r}: expected a number or a time such as '
            f'2026-01-31 23:59:59, found {values[int(wrong[0])]!r}'
        )
    return found.to_numpy()


def _moments(texts: pl.Series) -> pl.Series:
    """Dates and times in microseconds, null where a text is neither."""
    day = pl.col(texts.name)
    frame = canonical_rows(texts).to_frame()
    whole = frame.select(
        pl.when(day.str.len_bytes() == 10).then(day + ' 00:00:00').otherwise(day)
    ).to_series()
    found = whole.str.to_datetime('%Y-%m-%d %H:%M:%S%.f', time_unit='us', strict=False)
    rest = found.is_null() & texts.is_not_null()
    if not rest.any():
        return found
    # Written in another way, which Polars may know.
    others = texts.filter(rest).str.to_datetime(time_unit='us', strict=False)
    return found.scatter(rest.arg_true(), others.dt.replace_time_zone(None))
