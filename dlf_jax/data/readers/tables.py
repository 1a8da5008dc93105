"""Files of rows (CSV, TSV, Parquet; globs, .gz) as a stream of Polars frames.

Blocks of whole lines (`lines`) are parsed one by one, plain ones by `cells`, others by Polars, so that every
complaint can name its line. Polars fills short rows with nulls without a word, so the separators are counted
first.
"""

from __future__ import annotations

import csv
import dataclasses
import glob
import io
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dlf_jax.data.progress import side_by_side
from dlf_jax.data.readers import fast_csv, text_blocks
from dlf_jax.errors import UserError

PARQUET_ROWS = 65_536

# Long fields are for Polars to take or refuse; csv only looks for the line.
csv.field_size_limit(text_blocks.MAX_LINE_BYTES)

_SEPARATORS = {',': 'a comma', '\t': 'a tab', ';': 'a semicolon', '|': 'a bar', ' ': 'a space'}


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a file.

    Attributes:
      frame: the rows; text columns as String, number columns as Float64, empty fields null.
      path: the file.
      first: line number (text) or row number (Parquet) of the first row, counted from 1.
      raw: the text that the rows were parsed from; None for other forms.
    """

    frame: pl.DataFrame
    path: str
    first: int
    raw: bytes | None = None

    @property
    def size(self) -> int:
        """Its share of the table's `size`."""
        return self.frame.height if self.raw is None else len(self.raw)

    def where(self, row: int) -> str:
        """Names a row of the frame for a person: `file, line N`."""
        if self.raw is None:
            return f'{self.path}, row {self.first + row}'
        if b'"' not in self.raw:
            return f'{self.path}, line {self.first + row}'
        # Inside quotes a row goes on in the next line.
        quotes = np.cumsum([text.count(b'"') for text in self.raw.split(b'\n')])
        starts = np.flatnonzero(np.concatenate([[0], quotes[:-1]]) % 2 == 0)
        return f'{self.path}, line {self.first + int(starts[row])}'


class Table(Protocol):
    """Rows from one or more files of one form, or made on the spot."""

    paths: tuple[str, ...]  # empty where the rows are made on the spot

    @property
    def name(self) -> str:
        """The files, for messages."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns' names, in file order."""

    @property
    def size(self) -> int:
        """Bytes or rows that the chunks' sizes add up to, for the time left; 0 where not known."""

    def chunks(self, text: Sequence[str], numbers: Sequence[str]) -> Iterator[Chunk]:
        """Yields the rows in order, only the columns asked for; those of text as String (or lists of
        it, from Parquet), those of numbers as Float64. Raises UserError on bad rows."""

    def pieces(self, file: int) -> Iterator[tuple[tuple, int]]:
        """Yields (place, rows) of every chunk of `paths[file]`, for workers to read one each."""

    def piece(self, place: tuple, text: Sequence[str], numbers: Sequence[str]) -> Chunk:
        """Reads the chunk at a place."""


def expand(spec: str | Sequence[str], key: str) -> tuple[str, ...]:
    """Paths of a config value: one path, several by commas, or a glob; each must exist.

    Args:
      spec: the value.
      key: the flag or config key that it came from, for the message.
    """
    parts = [p.strip() for p in spec.split(',')] if isinstance(spec, str) else list(spec)
    paths: list[str] = []
    for part in filter(None, parts):
        part = os.path.expanduser(part)
        found = sorted(glob.glob(part)) if glob.has_magic(part) and not Path(part).exists() else [part]
        if not found:
            raise UserError(f'{key}: no file matches {part!r}')
        for path in found:
            if Path(path).is_dir():
                raise UserError(f'{key}: {path} is a folder; name the files, for example {path}/*.csv')
            if not Path(path).is_file():
                raise UserError(f'{key}: no such file: {path}')
        paths += found
    if not paths:
        raise UserError(f'{key}: no file named')
    return tuple(paths)


def open_table(
    paths: Sequence[str], *, separator: str = '', columns: Sequence[str] = (), quote: bool = True
) -> Table:
    """Opens files by their names' endings: `.parquet`, else text, `.gz` or plain.

    Args:
      paths: files of one form, read one after the other.
      separator: of text files; '' takes a comma for `.csv` and a tab for `.tsv` and `.txt`.
      columns: names, for text files without a header line.
      quote: whether double quotes group characters in text files.
    """
    first = paths[0].lower().removesuffix('.gz')
    if first.endswith(('.parquet', '.pq')):
        return ParquetTable(tuple(paths))
    if not separator:
        separator = '\t' if first.endswith(('.tsv', '.txt')) else ','
    return TextTable(tuple(paths), separator, tuple(columns), quote)


def read_first_line(path: str) -> str:
    """The first line of a text file, without its end."""
    with text_blocks.open_binary(path) as file:
        return text_blocks.decode(
            text_blocks.guard(path, file.readline, text_blocks.MAX_LINE_BYTES), path, 1
        ).rstrip('\r\n')


def check_columns(table: Table, wanted: Sequence[str], why: str) -> None:
    """Raises UserError naming the first of `wanted` that the table lacks."""
    for name in wanted:
        if name not in table.columns:
            found = ', '.join(table.columns[:12]) + (', ...' if len(table.columns) > 12 else '')
            hint = ''
            if len(table.columns) == 1:
                other = [s for s in _SEPARATORS if s in table.columns[0]]
                if other:
                    hint = (
                        f'; the separator looks like {_SEPARATORS[other[0]]}: '
                        f'set --config.dataset.separator={other[0]!r}'
                    )
            raise UserError(f'{table.name}: no column {name!r} ({why}); found: {found}{hint}')


class TextTable:
    """Separated text with a header line, or without one where `columns` are given."""

    def __init__(
        self,
        paths: tuple[str, ...],
        separator: str,
        columns: tuple[str, ...] = (),
        quote: bool = True,
        strip: bool = False,
    ):
        """Args:
        paths: read one after the other.
        separator: one character.
        columns: names, for files without a header line.
        quote: whether double quotes group characters.
        strip: whether separators at the ends of lines are left out.
        """
        self.paths = paths
        self.strip = strip
        self.separator = separator
        self.header = not columns
        self._plain = True  # until a chunk is not; then the others are not expected to be
        self.quote = quote
        self.columns = columns or self._read_header(paths[0])
        if self.header:
            for path in paths[1:]:
                if (other := self._read_header(path)) != self.columns:
                    raise UserError(f'{path}: header {other} differs from {paths[0]}: {self.columns}')

    @property
    def name(self) -> str:
        return self.paths[0] if len(self.paths) == 1 else f'{self.paths[0]} and others'

    def _read_header(self, path: str) -> tuple[str, ...]:
        with text_blocks.open_binary(path) as file:
            line = text_blocks.guard(path, file.readline, text_blocks.MAX_LINE_BYTES)
        if not line.strip():
            raise UserError(f'{path}: the file is empty; expected a header line with column names')
        text = text_blocks.decode(line, path, 1).lstrip('\ufeff').rstrip('\r\n')
        try:
            columns = tuple(self._fields(text))
        except csv.Error as error:
            raise UserError(f'{path}, line 1: not a header line: {error}') from error
        twice = {c for c in columns if columns.count(c) > 1}
        if twice:
            raise UserError(f'{path}, line 1: column {min(twice)!r} is there twice; rename one')
        return columns

    def _fields(self, line: str) -> list[str]:
        if not self.quote:
            return line.split(self.separator)
        return next(csv.reader([line], delimiter=self.separator), [''])

    def chunks(self, text: Sequence[str], numbers: Sequence[str]) -> Iterator[Chunk]:
        def blocks() -> Iterator[tuple[bytes, str, int]]:
            for path in self.paths:
                for data, line in text_blocks.line_blocks(path, self.header, self.quote):
                    yield data, path, line

        empty = True
        for chunk in side_by_side(lambda block: self._chunk(*block, text, numbers), blocks()):
            empty = False
            yield chunk
        if empty:
            raise UserError(f'{self.name}: no rows')

    def _chunk(self, data: bytes, path: str, line: int, text: Sequence[str], numbers: Sequence[str]) -> Chunk:
        if self.strip:
            data = re.sub(rb'[' + re.escape(self.separator.encode()) + rb']+(?=\r?\n|$)', b'', data)
        wanted, frame = [*text, *numbers], None
        if self._plain and not (self.quote and b'"' in data):
            frame = fast_csv.parse(data, self.separator, self.columns, wanted, set(numbers))
        if frame is None:
            self._plain = False
            self._check_fields(data, path, line)
            frame = self._parse(data, path, line, wanted, set(numbers))
        return Chunk(frame, path, line, data)

    def pieces(self, file: int) -> Iterator[tuple[tuple, int]]:
        path = self.paths[file]
        if path.lower().endswith('.gz'):
            raise UserError(f'{path}: workers cannot begin in the midst of a .gz file; unpack it first')
        with text_blocks.open_binary(path) as opened:
            offset = (
                len(text_blocks.guard(path, opened.readline, text_blocks.MAX_LINE_BYTES))
                if self.header
                else 0
            )
        for data, line in text_blocks.line_blocks(path, self.header, self.quote):
            yield (path, offset, len(data), line), text_blocks.count_rows(data, self.quote)
            offset += len(data)

    def piece(self, place: tuple, text: Sequence[str], numbers: Sequence[str]) -> Chunk:
        path, offset, size, line = place
        with text_blocks.open_binary(path) as opened:
            opened.seek(offset)
            data = text_blocks.guard(path, opened.read, size)
        return self._chunk(data, path, line, text, numbers)

    @property
    def size(self) -> int:
        packed = any(path.lower().endswith('.gz') for path in self.paths)
        return 0 if packed else sum(os.path.getsize(path) for path in self.paths)

    def _check_fields(self, data: bytes, path: str, line: int) -> None:
        plain = self._without_quoted(data, path, line) if self.quote and b'"' in data else data
        if b'\r' in plain and text_blocks.count(plain, '\r') != plain.count(b'\r\n'):
            stray = re.search(rb'\r(?!\n)', data)
            at = line + data.count(b'\n', 0, stray.start())
            raise UserError(f'{path}, from line {at}: a carriage return that ends no line; remove it')
        if text_blocks.count(plain, self.separator) != text_blocks.count_rows(plain) * (
            len(self.columns) - 1
        ):
            self._raise_ragged(data, path, line)
            raise UserError(f'{path}, from line {line}: double quotes that do not pair; mend the line')

    def _without_quoted(self, data: bytes, path: str, line: int) -> bytes:
        """The text without its quoted fields. Raises UserError naming a quote that stands elsewhere, which
        parsers take for one thing or another."""
        sign = re.escape(self.separator.encode())
        quoted = re.compile(rb'(^|[\n' + sign + rb'])"[^"]*(?:""[^"]*)*"(?=[\r\n' + sign + rb']|\Z)')
        plain = quoted.sub(rb'\1', data)
        if b'"' in plain:
            at = 0
            for found in quoted.finditer(data):
                if b'"' in data[at : found.start()]:
                    break
                at = found.end()
            stray = line + data.count(b'\n', 0, data.find(b'"', at))
            raise UserError(
                f'{path}, line {stray}: a double quote '
                'that does not begin or end a field; put the field in quotes and double those inside it'
            )
        return plain

    def _raise_ragged(self, data: bytes, path: str, line: int) -> None:
        """Raises UserError naming the first row with too few or too many fields, if there is one."""
        text = text_blocks.decode(data, path, line)
        if self.quote:
            counted = self._count_fields(text, path, line)
        else:
            split = text.removesuffix('\n').split('\n')
            counted = ((r.count(self.separator) + 1, i) for i, r in enumerate(split, 1))
        for found, number in counted:
            if found != len(self.columns):
                separator = _SEPARATORS.get(self.separator, repr(self.separator))
                raise UserError(
                    f'{path}, line {line + number - 1}: expected {len(self.columns)} fields '
                    f'separated by {separator}, found {max(found, 1)}; mend or remove the line'
                )

    def _count_fields(self, text: str, path: str, line: int) -> Iterator[tuple[int, int]]:
        """Yields (fields, lines read so far) of every row."""
        reader = csv.reader(io.StringIO(text, newline=''), delimiter=self.separator)
        try:
            for row in reader:
                yield len(row), reader.line_num
        except csv.Error as error:
            raise UserError(f'{path}, line {line + reader.line_num - 1}: not a row: {error}') from error

    def _parse(self, data: bytes, path: str, line: int, wanted: list[str], numbers: set[str]) -> pl.DataFrame:
        def read(types: dict[str, pl.DataType]) -> pl.DataFrame:
            # All columns, also those that nobody asked for: a row with a field too many is an error
            # only then, and together with the count of separators it means that no row has too few.
            table = pl.scan_csv(
                data,
                has_header=False,
                schema=types,
                separator=self.separator,
                quote_char='"' if self.quote else None,
            )
            return table.collect().select(wanted)

        try:
            return read({c: pl.Float64() if c in numbers else pl.String() for c in self.columns})
        except pl.exceptions.PolarsError as error:
            self._raise_ragged(data, path, line)
            try:
                frame = read({c: pl.String() for c in self.columns})
            except pl.exceptions.PolarsError:
                reason = str(error).splitlines()[0]
                raise UserError(f'{path}, from line {line}: not a table: {reason}') from error
            chunk = Chunk(frame, path, line, data)
            for name in sorted(numbers):
                text = frame[name]
                bad = (text.cast(pl.Float64, strict=False).is_null() & text.is_not_null()).arg_true()
                if len(bad):
                    raise UserError(
                        f'{chunk.where(bad[0])}: column {name!r}: expected a number, found {text[bad[0]]!r}'
                    ) from error
            raise


class ParquetTable:
    """Parquet files of one schema."""

    def __init__(self, paths: tuple[str, ...]):
        self.paths = paths
        self.columns = self._names(paths[0])
        for path in paths[1:]:
            if self._names(path) != self.columns:
                raise UserError(f'{path}: columns differ from those of {paths[0]}')

    @property
    def name(self) -> str:
        return self.paths[0] if len(self.paths) == 1 else f'{self.paths[0]} and others'

    @staticmethod
    def _names(path: str) -> tuple[str, ...]:
        try:
            return tuple(pq.read_schema(path).names)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f'{path}: not a readable Parquet file: {error}') from error

    def chunks(self, text: Sequence[str], numbers: Sequence[str]) -> Iterator[Chunk]:
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
        """The chunks of a row group, whose first row is row `row` of the file."""
        wanted = [*text, *numbers]
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(PARQUET_ROWS, row_groups=[group], columns=wanted):
                    frame = pl.DataFrame(pl.from_arrow(batch)).select(wanted)
                    yield Chunk(self._cast(frame, text, numbers, path, row), path, row)
                    row += frame.height
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f'{path}, from row {row}: cannot be read: {error}') from error

    def pieces(self, file: int) -> Iterator[tuple[tuple, int]]:
        path, row = self.paths[file], 1
        metadata = pq.read_metadata(path)
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            for i, start in enumerate(range(0, rows, PARQUET_ROWS)):
                yield (path, group, i, row), min(PARQUET_ROWS, rows - start)
            row += rows

    def piece(self, place: tuple, text: Sequence[str], numbers: Sequence[str]) -> Chunk:
        path, group, number, row = place
        return next(itertools.islice(self._group(path, group, row, text, numbers), number, None))

    @property
    def size(self) -> int:
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
        lists = {n: pl.List(pl.String) for n in text if isinstance(frame[n].dtype, pl.List | pl.Array)}
        types = {n: pl.String() for n in text} | lists | {n: pl.Float64() for n in numbers}
        try:
            return frame.cast(types)
        except pl.exceptions.PolarsError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f'{path}, from row {row}: not a column of values: {reason}') from error
