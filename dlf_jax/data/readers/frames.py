"""Frames in memory as a table: polars, pandas, pyarrow, or columns by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from dlf_jax.data.readers.arrow_columns import CHUNK_ROWS, as_polars, family_of, join_families, typed
from dlf_jax.data.readers.chunk import Chunk, Columns
from dlf_jax.errors import UsageError, UserError


class FrameTable:
    """Frame in memory; a `Table`, whose values are those of the Parquet file that the frame could be written
    to."""

    paths: tuple[str, ...] = ()
    absent: Mapping[str, str] = {}
    folder_columns: tuple[str, ...] = ()

    def __init__(self, data: Any, name: str = 'the frame'):
        """Takes the columns without copying them, where their types allow.

        Args:
          data: see `to_arrow`.
          name: what errors call it.

        Raises:
          UserError: no frame, or one whose columns hold values of several types.
        """
        self.name = name
        self._table = to_arrow(data, name)
        self.columns = tuple(self._table.column_names)

    @property
    def families(self) -> Mapping[str, tuple[str, str]]:
        """See `Table.families`."""
        found: dict[str, tuple[str, str]] = {}
        for field in self._table.schema:
            if family := family_of(field.type):
                join_families(found, {field.name: (family, self.name)})
        return found

    @property
    def size(self) -> int:
        """Number of rows."""
        return self._table.num_rows

    def chunks(self, columns: Columns) -> Iterator[Chunk]:
        """See `Table.chunks`."""
        if not self._table.num_rows:
            raise UserError(f'{self.name}: no rows')
        for start in range(0, self._table.num_rows, CHUNK_ROWS):
            yield self._chunk(start, columns)

    def places(self, file: int, unpacked: str = '') -> Iterator[tuple[tuple, int]]:
        """See `Table.places`."""
        raise UserError(f'{self.name}: a frame has no files; write it as Parquet for the workers to read')

    def read(self, place: tuple, columns: Columns) -> Chunk:
        """See `Table.read`."""
        raise UserError(f'{self.name}: a frame has no files; write it as Parquet for the workers to read')

    def _chunk(self, start: int, columns: Columns) -> Chunk:
        wanted = list(dict.fromkeys([*columns.typed, *columns.keep]))
        part = self._table.select(wanted).slice(start, CHUNK_ROWS)
        try:
            frame = as_polars(part)
        except (pa.ArrowException, ValueError, pl.exceptions.PolarsError) as error:
            raise UserError(f'{self.name}, from row {start + 1}: cannot be read: {error}') from error
        return typed(frame, columns, self.name, start + 1)


def to_arrow(data: Any, name: str = 'the frame') -> pa.Table:
    """A frame as Arrow's table, with the types that its own library writes to Parquet.

    Args:
      data: a DataFrame or LazyFrame of polars, a DataFrame of pandas (its index is left out), a Table or
        RecordBatch of pyarrow, whatever else has `__arrow_c_stream__`, or a mapping from columns' names to
        lists or arrays.
      name: what errors call it.

    Raises:
      UserError: none of these, a column that holds values of several types, or a name that is there twice.
    """
    names = _names(data)
    twice = {found for found in names if names.count(found) > 1}
    if twice:
        raise UserError(f'{name}: column {min(twice)!r} is there twice; rename one')
    try:
        table = _to_arrow(data)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(f'{name}: a column holds values of several types: {error}') from error
    except (pa.ArrowException, pl.exceptions.PolarsError, ValueError, TypeError, OSError) as error:
        raise UserError(f'{name}: cannot be taken as a table: {error}') from error
    if table is None:
        raise UserError(
            f'{name}: expected a frame of polars, pandas or pyarrow, or a dict of columns; found '
            f'{type(data).__name__}'
        )
    return table


def _names(data: Any) -> list[str]:
    """Names of the columns, as texts; none where they are of no use yet."""
    if _is_pandas(data):
        return [str(name) for name in data.columns]
    if isinstance(data, Mapping):
        return [str(name) for name in data]
    return list(data.schema.names) if isinstance(data, pa.Table | pa.RecordBatch) else []


def is_frame(data: Any) -> bool:
    """Whether something is a frame rather than the names of files."""
    return isinstance(data, pl.LazyFrame | Mapping) or _has_stream(data) or _is_pandas(data)


def names_of_files(data: Any, what: str) -> list[str]:
    """Names of files: a path, or several.

    Args:
      data: what a user has given in place of a frame.
      what: what errors call it.

    Raises:
      UsageError: neither a path nor paths, or none of them.
    """
    if isinstance(data, str | os.PathLike):
        data = [data]
    if not (isinstance(data, Sequence) and all(isinstance(one, str | os.PathLike) for one in data)):
        raise UsageError(
            f'{what}: expected a frame of polars, pandas or pyarrow, a dict of columns, or names of files; '
            f'found {type(data).__name__}'
        )
    names = [os.fspath(one) for one in data]
    if not all(names) or not names:
        raise UsageError(f'{what}: no file named')
    return names


def _has_stream(data: Any) -> bool:
    """Whether something gives columns by Arrow's C interface; a series gives one, without a name for it."""
    return hasattr(data, '__arrow_c_stream__') and type(data).__name__ != 'Series'


def _is_pandas(data: Any) -> bool:
    """Whether something is a DataFrame of pandas, which need not be installed."""
    return any(
        kind.__name__ == 'DataFrame' and kind.__module__.partition('.')[0] == 'pandas'
        for kind in type(data).__mro__
    )


def _to_arrow(data: Any) -> pa.Table | None:
    if isinstance(data, pl.LazyFrame):
        data = data.collect()
    if isinstance(data, pl.DataFrame):
        return data.to_arrow()
    if _is_pandas(data):
        return pa.Table.from_pandas(data, preserve_index=False)
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, pa.Table):
        return data
    if _has_stream(data):
        return pa.table(data)
    if isinstance(data, Mapping):
        return pa.table({str(column): pa.array(values) for column, values in data.items()})
    return None
