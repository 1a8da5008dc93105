"""Parquet files as a table."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dlf_jax.data.readers.chunk import Chunk, Columns, to_numbers
from dlf_jax.errors import UserError

CHUNK_ROWS = 65_536

# Whole numbers from here on are not all of them floats, so ids have been rounded before.
_EXACT = {'Float64': 2.0**53, 'Float32': 2.0**24, 'Float16': 2.0**11}


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
                family = _family(schema.field(name).type)
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
                    frame = pl.DataFrame(pl.from_arrow(_plain(batch))) if batch is not None else None
                if frame is None:
                    return
                yield _typed(frame, columns, path, row)
                row += frame.height

    def places(self, file: int) -> Iterator[tuple[tuple, int]]:
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


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch without the metadata of its columns, which Polars does not survive where it is damaged."""
    fields = [field.remove_metadata() for field in batch.schema]
    return pa.RecordBatch.from_arrays(batch.columns, schema=pa.schema(fields))


def _family(kind: pa.DataType) -> str:
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


def _typed(frame: pl.DataFrame, columns: Columns, path: str, row: int) -> Chunk:
    """The chunk of a batch: its columns as what they were asked for."""
    kept = frame.select(columns.keep) if columns.keep else None
    chunk = Chunk(frame, path, row, kept=kept)
    texts = [_text(frame[name], chunk) for name in columns.text]
    numbers = [_numbers(frame[name], chunk, columns.missing.get(name, ())) for name in columns.numbers]
    return dataclasses.replace(chunk, frame=pl.DataFrame([*texts, *numbers]))


def _text(values: pl.Series, chunk: Chunk) -> pl.Series:
    """Values as String, or lists of it; `data.values.canonical` brings the texts of all types together."""
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


def _numbers(values: pl.Series, chunk: Chunk, missing: tuple[str, ...]) -> pl.Series:
    kind = values.dtype
    if isinstance(kind, pl.String | pl.Categorical | pl.Enum):
        return to_numbers(chunk, values.cast(pl.String), missing)
    if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
        raise UserError(f'{chunk.where(0)}: column {values.name!r}: expected numbers, found {kind}')
    return values.cast(pl.Float64)
