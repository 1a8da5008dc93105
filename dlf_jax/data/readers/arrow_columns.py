"""Columns of Arrow, from Parquet files or from memory, as the columns that are asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import polars as pl
import pyarrow as pa

from dlf_jax.data.readers.chunk import Chunk, Columns, to_numbers
from dlf_jax.errors import UserError

CHUNK_ROWS = 65_536

# Whole numbers from here on are not all of them floats, so ids have been rounded before.
_EXACT = {'Float64': 2.0**53, 'Float32': 2.0**24, 'Float16': 2.0**11}


def join_families(found: dict[str, tuple[str, str]], more: Mapping[str, tuple[str, str]]) -> None:
    """Adds families by column to others, in place.

    Raises:
      UserError: two of a column have no value in common, such as numbers and dates.
    """
    for name, (family, path) in more.items():
        before, where = found.setdefault(name, (family, path))
        if before != family:
            raise UserError(
                f'{path}: column {name!r} holds {family}, but {before} in {where}; write it with the same '
                'type in all files'
            )


def as_polars(batch: pa.RecordBatch | pa.Table) -> pl.DataFrame:
    """A batch as a frame with the same names."""
    # Polars does not survive damaged metadata of columns.
    fields = [field.remove_metadata() for field in batch.schema]
    frame = pl.DataFrame(pl.from_arrow(type(batch).from_arrays(batch.columns, schema=pa.schema(fields))))
    # A column without a name is given one.
    frame.columns = batch.schema.names
    return frame


def family_of(kind: pa.DataType) -> str:
    """What a type holds, of what values of other families are never the same as; '' for text and nulls."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind):
        return 'booleans'
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return 'numbers'
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return 'dates or times'
    return ''


def typed(frame: pl.DataFrame, columns: Columns, path: str, row: int) -> Chunk:
    """The chunk of a batch: its columns as what they were asked for."""
    kept = frame.select(columns.keep) if columns.keep else None
    chunk = Chunk(frame, path, row, kept=kept)
    texts = [text_values(frame[name], chunk) for name in columns.text]
    numbers = [number_values(frame[name], chunk, columns.missing.get(name, ())) for name in columns.numbers]
    # By name, since a column without one would be given one.
    return dataclasses.replace(chunk, frame=pl.DataFrame({found.name: found for found in [*texts, *numbers]}))


def text_values(values: pl.Series, chunk: Chunk) -> pl.Series:
    """Values as String, or lists of it; `data.values.canonical` brings the texts of all types together.

    Args:
      values: a column of any type.
      chunk: that it is from, for error messages.

    Raises:
      UserError: values that have no text, or numbers that the type has rounded.
    """
    kind = values.dtype
    inner = kind.inner if isinstance(kind, pl.List | pl.Array) else kind
    if isinstance(inner, pl.Struct | pl.Duration | pl.List | pl.Array | pl.Object) or (
        isinstance(inner, pl.DataType) and inner.is_nested()
    ):
        raise UserError(
            f'{chunk.where(0)}: column {values.name!r}: expected values, found {kind}; take its parts as '
            'columns of their own'
        )
    if str(kind) in _EXACT:
        large = (values.abs() >= _EXACT[str(kind)]).fill_null(False) & values.is_finite().fill_null(False)
        at = large.arg_true()
        if len(at):
            raise UserError(
                f'{chunk.where(at[0])}: column {values.name!r}: the category {values[at[0]]:.17g} is '
                f'rounded, since {kind} holds no whole numbers of that size exactly; write the column as '
                'integers or text'
            )
    if isinstance(inner, pl.Datetime) and inner.time_zone:
        values = values.dt.convert_time_zone('UTC') if inner is kind else values
    target = pl.List(pl.String) if inner is not kind else pl.String()
    try:
        return values.cast(target)
    except pl.exceptions.PolarsError as error:
        raise UserError(
            f'{chunk.where(0)}: column {values.name!r}: {kind} is not readable as text: {error}'
        ) from error


def number_values(values: pl.Series, chunk: Chunk, missing: tuple[str, ...]) -> pl.Series:
    """Values as Float64, null where missing.

    Args:
      values: a column of any type.
      chunk: that it is from, for error messages.
      missing: further texts that stand for a missing number.

    Raises:
      UserError: text that is no number, or values of another kind.
    """
    kind = values.dtype
    if isinstance(kind, pl.String | pl.Categorical | pl.Enum):
        return to_numbers(chunk, values.cast(pl.String), missing)
    if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
        raise UserError(f'{chunk.where(0)}: column {values.name!r}: expected numbers, found {kind}')
    return values.cast(pl.Float64)
