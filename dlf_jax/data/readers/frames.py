"""Frames in memory as a table: polars, pandas, pyarrow, or columns by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from dlf_jax.data.readers.arrow_columns import CHUNK_ROWS, family_of, join_families, typed, without_metadata
from dlf_jax.data.readers.chunk import Chunk, Columns
from dlf_jax.errors import UserError


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

    def places(self, file: int) -> Iterator[tuple[tuple, int]]:
        """See `Table.places`."""
        raise UserError(f'{self.name}: a frame has no files; write it as Parquet for the workers to read')

    def read(self, place: tuple, columns: Columns) -> Chunk:
        """See `Table.read`."""
        raise UserError(f'{self.name}: a frame has no files; write it as Parquet for the workers to read')

    def _chunk(self, start: int, columns: Columns) -> Chunk:
        wanted = list(dict.fromkeys([*columns.typed, *columns.keep]))
        part = self._table.select(wanted).slice(start, CHUNK_ROWS)
        try:
            frame = pl.DataFrame(pl.from_arrow(without_metadata(part)))
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
    try:
        table = _to_arrow(data)
    except (pa.ArrowException, pl.exceptions.PolarsError, ValueError, TypeError) as error:
        raise UserError(
            f'{name}: a column cannot be read, since its values are of several types: {error}'
        ) from error
    if table is None:
        raise UserError(
            f'{name}: expected a frame of polars, pandas or pyarrow, or a dict of columns; found '
            f'{type(data).__name__}'
        )
    names = table.column_names
    twice = {found for found in names if names.count(found) > 1}
    if twice:
        raise UserError(f'{name}: column {min(twice)!r} is there twice; rename one')
    return table


def is_frame(data: Any) -> bool:
    """Whether something is a frame rather than the names of files."""
    return isinstance(data, pl.LazyFrame | Mapping) or hasattr(data, '__arrow_c_stream__') or _is_pandas(data)


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
    if hasattr(data, '__arrow_c_stream__'):
        return pa.table(data)
    if isinstance(data, Mapping):
        return pa.table({str(column): pa.array(values) for column, values in data.items()})
    return None
