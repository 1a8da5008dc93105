"""Parquet files as a table."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dlf_jax.data.readers.chunk import Chunk
from dlf_jax.errors import UserError

CHUNK_ROWS = 65_536


class ParquetTable:
    """Parquet files with the same columns; a `Table`."""

    def __init__(self, paths: tuple[str, ...]):
        """Reads the names of the columns. Raises UserError where the files differ or cannot be read."""
        self.paths = paths
        self.columns = self._names(paths[0])
        for path in paths[1:]:
            if self._names(path) != self.columns:
                raise UserError(f'{path}: columns differ from those of {paths[0]}')

    @property
    def name(self) -> str:
        """The files, for error messages."""
        return self.paths[0] if len(self.paths) == 1 else f'{self.paths[0]} and others'

    @staticmethod
    def _names(path: str) -> tuple[str, ...]:
        try:
            return tuple(pq.read_schema(path).names)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f'{path}: not a readable Parquet file: {error}') from error

    def chunks(self, text: Sequence[str], numbers: Sequence[str]) -> Iterator[Chunk]:
        """See `Table.chunks`."""
        empty = True
        for path in self.paths:
            row = 1
            for group in range(pq.read_metadata(path).num_row_groups):
                for chunk in self._group(path, group, row, text, numbers):
                    empty = False
                    yield chunk
                    row += chunk.frame.height
        if empty:
            raise UserError(f'{self.name}: no rows')

    def _group(
        self, path: str, group: int, row: int, text: Sequence[str], numbers: Sequence[str]
    ) -> Iterator[Chunk]:
        """Yields the chunks of a row group; `row` is the number of its first row in the file."""
        wanted = [*text, *numbers]
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(CHUNK_ROWS, row_groups=[group], columns=wanted):
                    frame = pl.DataFrame(pl.from_arrow(batch)).select(wanted)
                    yield Chunk(self._cast(frame, text, numbers, path, row), path, row)
                    row += frame.height
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f'{path}, from row {row}: cannot be read: {error}') from error

    def places(self, file: int) -> Iterator[tuple[tuple, int]]:
        """See `Table.places`."""
        path, row = self.paths[file], 1
        metadata = pq.read_metadata(path)
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            for i, start in enumerate(range(0, rows, CHUNK_ROWS)):
                yield (path, group, i, row), min(CHUNK_ROWS, rows - start)
            row += rows

    def read(self, place: tuple, text: Sequence[str], numbers: Sequence[str]) -> Chunk:
        """See `Table.read`."""
        path, group, number, row = place
        return next(itertools.islice(self._group(path, group, row, text, numbers), number, None))

    @property
    def size(self) -> int:
        """Number of rows of all files."""
        return sum(pq.read_metadata(path).num_rows for path in self.paths)

    @staticmethod
    def _cast(
        frame: pl.DataFrame, text: Sequence[str], numbers: Sequence[str], path: str, row: int
    ) -> pl.DataFrame:
        for name in numbers:
            if not (frame[name].dtype.is_numeric() or frame[name].dtype == pl.Boolean):
                raise UserError(
                    f'{path}, from row {row}: column {name!r}: expected numbers, found {frame[name].dtype}'
                )
        types = pl.Schema(dict.fromkeys(text, pl.String()))
        types |= {n: pl.List(pl.String) for n in text if isinstance(frame[n].dtype, pl.List | pl.Array)}
        types |= dict.fromkeys(numbers, pl.Float64())
        try:
            return frame.cast(types)
        except pl.exceptions.PolarsError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f'{path}, from row {row}: not a column of values: {reason}') from error
