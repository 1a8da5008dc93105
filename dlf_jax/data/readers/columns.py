"""Typed columns of a chunk: categories, elements of lists, numbers, labels, weights, groups, times."""

from __future__ import annotations

import numpy as np
import polars as pl

from dlf_jax.data.hashing import stable_hash
from dlf_jax.data.readers.chunk import Chunk
from dlf_jax.data.schema import Field, Schema
from dlf_jax.errors import UserError


def categories(chunk: Chunk, field: Field) -> pl.Series:
    """Categories of a field's column, null where missing.

    Returns:
      String; Int64 for a column of numbers, floor(log(x)^2) above 2 and floor(x) below.

    Raises:
      UserError: lists in place of values, or an infinite number.
    """
    if not field.number:
        values = chunk.frame[field.name]
        if values.dtype != pl.String:
            raise UserError(
                f'{chunk.where(0)}: column {field.name!r}: expected one value a row, found lists; '
                'make the field multi-valued'
            )
        return values
    raw = numbers(chunk, field.name)
    found = np.floor(raw)
    large = np.flatnonzero(raw > 2)
    found[large] = np.floor(np.log(raw[large]) ** 2)
    # NaN, which is a missing value, becomes null; all else is within the range of Int64.
    return pl.Series(field.name, np.maximum(found, -(2.0**62))).cast(pl.Int64, strict=False)


def elements(chunk: Chunk, field: Field) -> tuple[pl.Series, np.ndarray]:
    """Values of a multi-valued field, without empty ones and cut to the field's length in each row.

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
    present = pl.element().filter(pl.element().is_not_null() & (pl.element() != ''))
    frame = values.rename('value').to_frame()
    lists = frame.select(pl.col('value').list.eval(present).list.head(field.length)).to_series()
    lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    return lists.drop_nulls().list.explode(empty_as_null=False, keep_nulls=False), lengths


def numbers(chunk: Chunk, name: str) -> np.ndarray:
    """Numbers of a column, float64 [rows], NaN where missing.

    Raises:
      UserError: an infinite number, or text that is no number.
    """
    column = chunk.frame[name]
    if column.dtype == pl.String:
        # Read as text, because it is the group or the time as well.
        text, column = column, column.cast(pl.Float64, strict=False)
        wrong = (column.is_null() & text.is_not_null()).arg_true()
        if len(wrong):
            raise UserError(
                f'{chunk.where(wrong[0])}: column {name!r}: expected a number, found {text[wrong[0]]!r}'
            )
    values = column.to_numpy()
    infinite = np.flatnonzero(np.isinf(values))
    if infinite.size:
        raise UserError(
            f'{chunk.where(int(infinite[0]))}: column {name!r}: expected a finite number or an empty '
            f'field, found {values[infinite[0]]}'
        )
    return values


def extras(chunk: Chunk, schema: Schema) -> dict[str, np.ndarray]:
    """Columns beside the features: `label`, and `weight` and `group` where the schema has them."""
    found = {'label': labels(chunk, schema.label)}
    if schema.weight:
        found['weight'] = weights(chunk, schema.weight)
    if schema.group:
        found['group'] = groups(chunk, schema.group)
    return found


def labels(chunk: Chunk, name: str) -> np.ndarray:
    """Labels, float32 [rows]. Raises UserError, with the line, where one is not 0 or 1."""
    values = chunk.frame[name].to_numpy()
    wrong = np.flatnonzero(~((values == 0) | (values == 1)))
    if wrong.size:
        found = values[wrong[0]]
        raise UserError(
            f'{chunk.where(int(wrong[0]))}: label {name!r}: expected 0 or 1, '
            f'found {"an empty field" if np.isnan(found) else found}'
        )
    return values.astype(np.float32)


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
    """Groups as stable hashes of their values, int64 [rows]."""
    return (stable_hash(chunk.frame[name]) >> np.uint64(1)).astype(np.int64)


def times(chunk: Chunk, name: str) -> np.ndarray:
    """Times, float64 [rows]: numbers as they are, dates and times in seconds since 1970.

    Raises:
      UserError: neither a number nor a time like 2026-01-31 or 2026-01-31 23:59:59.
    """
    values = chunk.frame[name]
    found = values.cast(pl.Float64, strict=False)
    if found.null_count():
        moments = values.str.to_datetime(time_unit='us', strict=False) if values.len() else values
        found = found.fill_null(moments.cast(pl.Int64).cast(pl.Float64) / 1e6)
    wrong = (found.is_null() | ~found.is_finite().fill_null(False)).arg_true()
    if len(wrong):
        raise UserError(
            f'{chunk.where(int(wrong[0]))}: time {name!r}: expected a number or a time such as '
            f'2026-01-31 23:59:59, found {values[int(wrong[0])]!r}'
        )
    return found.to_numpy()
