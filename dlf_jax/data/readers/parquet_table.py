"""Parquet files as a table."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dlf_jax.data.readers.arrow_columns import CHUNK_ROWS, as_polars, family_of, join_families, typed
from dlf_jax.data.readers.chunk import Chunk, Columns
from dlf_jax.errors import UserError


class ParquetTable:
    """Parquet files; a `Table`.

    Columns of several files are matched by name; a column that not all of them have is not in `columns`.
    """

    folder_columns: tuple[str, ...] = ()

    def __init__(self, paths: tuple[str, ...]):
        """Reads the names and types of the columns. Raises UserError where a file cannot be read."""
        self.paths = paths
        self._schemas = {path: _schema(path) for path in paths}
        found = self._schemas[paths[0]].names
        self.absent = {
            name: path for path in reversed(paths) for name in found if name not in self._schemas[path].names
        }
        self.columns = tuple(name for name in found if name not in self.absent)

    @property
    def name(self) -> str:
        """The files, for error messages."""
        return self.paths[0] if len(self.paths) == 1 else f'{self.paths[0]} and others'

    @property
    def families(self) -> Mapping[str, tuple[str, str]]:
        """See `Table.families`. Raises UserError where two files cannot be brought together."""
        found: dict[str, tuple[str, str]] = {}
        for path, schema in self._schemas.items():
            for name in self.columns:
                family = family_of(schema.field(name).type)
                if family:
                    join_families(found, {name: (family, path)})
        return found

    def chunks(self, columns: Columns) -> Iterator[Chunk]:
        """See `Table.chunks`."""
        empty = True
        for path in self.paths:
            row = 1
            with _readable(path, 1):
                groups = pq.read_metadata(path).num_row_groups
            for group in range(groups):
                for chunk in self._group(path, group, row, columns):
                    empty = False
                    yield chunk
                    row += chunk.frame.height
        if empty:
            raise UserError(f'{self.name}: no rows')

    def _group(self, path: str, group: int, row: int, columns: Columns) -> Iterator[Chunk]:
        """Yields the chunks of a row group; `row` is the number of its first row in the file."""
        wanted = list(dict.fromkeys([*columns.typed, *columns.keep]))
        with contextlib.ExitStack() as stack:
            with _readable(path, row):
                file = stack.enter_context(pq.ParquetFile(path))
                batches = file.iter_batches(CHUNK_ROWS, row_groups=[group], columns=wanted)
            while True:
                with _readable(path, row):
                    batch = next(batches, None)
                    frame = as_polars(batch) if batch is not None else None
                if frame is None:
                    return
                yield typed(frame, columns, path, row)
                row += frame.height

    def places(self, file: int, unpacked: str = '') -> Iterator[tuple[tuple, int]]:
        """See `Table.places`."""
        path, row = self.paths[file], 1
        with _readable(path, row):
            metadata = pq.read_metadata(path)
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            for i, start in enumerate(range(0, rows, CHUNK_ROWS)):
                yield (path, group, i, row), min(CHUNK_ROWS, rows - start)
            row += rows

    def read(self, place: tuple, columns: Columns) -> Chunk:
        """See `Table.read`."""
        path, group, number, row = place
        chunk = next(itertools.islice(self._group(path, group, row, columns), number, None), None)
        if chunk is None:
            raise UserError(f'{path}, from row {row}: fewer rows than the file says; fetch or copy it again')
        return chunk

    @property
    def size(self) -> int:
        """Number of rows of all files."""
        total = 0
        for path in self.paths:
            with _readable(path, 1):
                total += pq.read_metadata(path).num_rows
        return total


def _schema(path: str) -> pa.Schema:
    with _readable(path, 1):
        schema = pq.read_schema(path)
        names = schema.names
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UserError(f'{path}: column {min(twice)!r} is there twice; rename one')
    return schema


@contextlib.contextmanager
def _readable(path: str, row: int) -> Iterator[None]:
    """Turns what goes wrong in reading a file into a UserError that names it."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(f'{path}: the name of a column is not UTF-8 text; write the file again') from error
    except FileNotFoundError as error:
        raise UserError(f'{path}: no such file') from error
    except (pa.ArrowException, OSError, ValueError, pl.exceptions.PolarsError) as error:
        where = f', from row {row}' if row > 1 else ''
        raise UserError(f'{path}{where}: not a readable Parquet file: {error}') from error
