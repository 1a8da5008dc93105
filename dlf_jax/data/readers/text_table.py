"""Separated text files (CSV, TSV) as a table, with errors that name the line.

Blocks of whole lines are parsed one by one: plain ones by `fast_csv`, others by Polars.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import logging
import os
import re
import shlex
import threading
from collections.abc import Generator, Iterator, Mapping

import polars as pl

from dlf_jax.data.prefetch import parallel_map
from dlf_jax.data.readers import fast_csv, text_blocks
from dlf_jax.data.readers.chunk import Chunk, Columns, to_numbers
from dlf_jax.errors import UserError

SEPARATORS = {',': 'a comma', '\t': 'a tab', ';': 'a semicolon', '|': 'a bar', ' ': 'a space'}
# Those that are looked for where the expected one is not in the first line.
_OTHER_SEPARATORS = ('\t', ';', ',', '|')

_log = logging.getLogger(__name__)

_csv_limit = threading.Lock()


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    """Lets the module `csv` read fields as long as a line may be.

    Polars decides about long fields; `csv` only finds the line of an error. Its limit belongs to the whole
    process, so it is restored.
    """
    with _csv_limit:
        before = csv.field_size_limit(text_blocks.MAX_LINE_BYTES)
        try:
            yield
        finally:
            csv.field_size_limit(before)


@dataclasses.dataclass(frozen=True)
class _Form:
    """Form of one file: its separator and the names of its columns, in file order."""

    separator: str
    columns: tuple[str, ...]


def find_separator(line: str, expected: str) -> str:
    """Separator of a line: the expected one, or where it has none, the other that is there most often."""
    others = [other for other in _OTHER_SEPARATORS if other in line]
    return expected if expected in line or not others else max(others, key=line.count)


class TextTable:
    """Text files of separated fields, with a header line or with given column names; a `Table`.

    Columns of several files are matched by name; a column that not all of them have is not in `columns`.
    """

    folder_columns: tuple[str, ...] = ()

    def __init__(
        self,
        paths: tuple[str, ...],
        separator: str,
        columns: tuple[str, ...] = (),
        quote: bool = True,
        strip: bool = False,
    ):
        """Reads the header lines.

        Args:
          paths: the files, read one after the other.
          separator: the character between fields; where the first line of a file has none and there should
            be several columns, another one that it has.
          columns: names of the columns, for files without a header line.
          quote: whether a field may stand in double quotes.
          strip: whether separators at the ends of lines are ignored.

        Raises:
          UserError: a header line that is missing or damaged.
        """
        self.paths = paths
        self.strip = strip
        self.header = not columns
        # False after the first chunk that `fast_csv` declines: the others are not tried.
        self._plain = True
        self.quote = quote
        self._forms = {path: self._form(path, separator, columns) for path in paths}
        found = self._forms[paths[0]].columns
        self.absent = {
            name: path for path in reversed(paths) for name in found if name not in self._forms[path].columns
        }
        self.columns = tuple(name for name in found if name not in self.absent)

    @property
    def name(self) -> str:
        """The files, for error messages."""
        return self.paths[0] if len(self.paths) == 1 else f'{self.paths[0]} and others'

    @property
    def families(self) -> Mapping[str, tuple[str, str]]:
        """See `Table.families`: text can be anything."""
        return {}

    def _form(self, path: str, separator: str, columns: tuple[str, ...]) -> _Form:
        with text_blocks.open_binary(path) as file:
            line = text_blocks.guard(path, file.readline, text_blocks.MAX_LINE_BYTES)
            more = not line.strip() and bool(text_blocks.guard(path, file.read, 1))
        if more:
            raise UserError(
                f'{path}, line 1: the line is blank; expected '
                + ('column names; remove it' if self.header else 'a row; remove it')
            )
        if not line.strip() and self.header:
            raise UserError(f'{path}: the file is empty; expected a header line with column names')
        text = text_blocks.decode(line, path, 1)
        if columns and text.startswith('\ufeff'):
            raise UserError(
                f'{path}, line 1: a byte order mark in front of the first value; remove it: '
                f"sed -i '1s/^\\xEF\\xBB\\xBF//' {shlex.quote(path)}"
            )
        text = text.lstrip('\ufeff').rstrip('\r\n')
        likely = find_separator(text, separator) if len(columns) != 1 else separator
        if likely != separator:
            separator = likely
            _log.info('%s: separated by %s', path, SEPARATORS[separator])
        if columns:
            names = [name.strip().strip('"') for name in text.split(separator)]
            if len(columns) > 1 and names == list(columns):
                raise UserError(
                    f'{path}, line 1: holds the names of config.dataset.columns; a file with a header line '
                    'needs no such key: remove the line, or leave the key out'
                )
            return _Form(separator, columns)
        try:
            found = tuple(self._fields(text, separator))
        except csv.Error as error:
            raise UserError(f'{path}, line 1: not a header line: {error}') from error
        twice = {c for c in found if found.count(c) > 1}
        if twice:
            raise UserError(f'{path}, line 1: column {min(twice)!r} is there twice; rename one')
        return _Form(separator, found)

    def _fields(self, line: str, separator: str) -> list[str]:
        if not self.quote:
            return line.split(separator)
        with _long_fields():
            return next(csv.reader([line], delimiter=separator), [''])

    def chunks(self, columns: Columns) -> Iterator[Chunk]:
        """See `Table.chunks`."""

        def blocks() -> Iterator[tuple[bytes, str, int]]:
            for path in self.paths:
                for data, line in text_blocks.line_blocks(path, self.header, self.quote):
                    yield data, path, line

        empty = True
        for chunk in parallel_map(lambda block: self._chunk(*block, columns), blocks()):
            empty = False
            yield chunk
        if empty:
            raise UserError(f'{self.name}: no rows')

    def _chunk(self, data: bytes, path: str, line: int, columns: Columns) -> Chunk:
        form = self._forms[path]
        if self.strip:
            data = re.sub(rb'[' + re.escape(form.separator.encode()) + rb']+(?=\r?\n|$)', b'', data)
        # Number columns with markers of missing values are read as text first.
        marked = {name: columns.missing[name] for name in columns.numbers if columns.missing.get(name)}
        numbers = set(columns.numbers) - marked.keys()
        frame = self._read(data, path, line, columns.typed, numbers)
        chunk = Chunk(frame, path, line, data)
        for name, markers in marked.items():
            frame = frame.with_columns(to_numbers(chunk, frame[name], markers))
        kept = self._read(data, path, line, list(columns.keep), set()) if columns.keep else None
        return dataclasses.replace(chunk, frame=frame, kept=kept)

    def _read(self, data: bytes, path: str, line: int, wanted: list[str], numbers: set[str]) -> pl.DataFrame:
        """Parses the wanted columns, those in `numbers` as Float64 and others as String."""
        form = self._forms[path]
        if self._plain and not (self.quote and b'"' in data):
            frame = fast_csv.parse(data, form.separator, form.columns, wanted, numbers)
            if frame is not None:
                return frame
        self._plain = False
        self._check_fields(data, path, line)
        return self._parse(data, path, line, wanted, numbers)

    def places(self, file: int, unpacked: str = '') -> Iterator[tuple[tuple, int]]:
        """See `Table.places`; only a .gz file is packed."""
        path = self.paths[file]
        packed = text_blocks.is_gzipped(path)
        if packed and not unpacked:
            raise UserError(f'{path}: workers cannot begin in the midst of a .gz file; unpack it first')
        offset = 0
        if self.header and not packed:
            with text_blocks.open_binary(path) as opened:
                offset = len(text_blocks.guard(path, opened.readline, text_blocks.MAX_LINE_BYTES))
        with open(unpacked, 'wb') if packed else contextlib.nullcontext() as text:
            for data, line in text_blocks.line_blocks(path, self.header, self.quote):
                if text is not None:
                    text.write(data)
                yield (
                    (path, offset, len(data), line, unpacked if packed else path),
                    text_blocks.count_rows(data, self.quote),
                )
                offset += len(data)

    def read(self, place: tuple, columns: Columns) -> Chunk:
        """See `Table.read`."""
        path, offset, size, line, stored = place
        with text_blocks.open_raw(stored) as opened:
            opened.seek(offset)
            data = text_blocks.guard(path, opened.read, size)
        return self._chunk(data, path, line, columns)

    @property
    def size(self) -> int:
        """Bytes of all files; 0 where one is compressed."""
        packed = any(map(text_blocks.is_gzipped, self.paths))
        return 0 if packed else sum(os.path.getsize(path) for path in self.paths)

    def _check_fields(self, data: bytes, path: str, line: int) -> None:
        """Raises UserError where the separators, quotes and line ends do not make rows of equal width.

        Polars fills short rows with nulls silently, so the separators are counted beforehand.
        """
        form = self._forms[path]
        plain = self._without_quoted(data, path, line) if self.quote and b'"' in data else data
        if b'\r' in plain and text_blocks.count(plain, '\r') != plain.count(b'\r\n'):
            before = re.split(rb'\r(?!\n)', data, maxsplit=1)[0]
            at = line + before.count(b'\n')
            raise UserError(f'{path}, from line {at}: a carriage return that ends no line; remove it')
        wanted = text_blocks.count_rows(plain) * (len(form.columns) - 1)
        if text_blocks.count(plain, form.separator) != wanted:
            self._raise_ragged(data, path, line)
            raise UserError(f'{path}, from line {line}: double quotes that do not pair; mend the line')

    def _without_quoted(self, data: bytes, path: str, line: int) -> bytes:
        """The text without its quoted fields.

        Raises:
          UserError: a quote inside an unquoted field, which parsers do not agree about.
        """
        sign = re.escape(self._forms[path].separator.encode())
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
        text, form = text_blocks.decode(data, path, line), self._forms[path]
        if self.quote:
            counted = self._count_fields(text, path, line)
        else:
            split = text.removesuffix('\n').split('\n')
            counted = ((r.count(form.separator) + 1, i) for i, r in enumerate(split, 1))
        # Closed before the error is raised: a generator in its traceback would hold the limit of `csv`.
        with contextlib.closing(counted):
            ragged = next((pair for pair in counted if pair[0] != len(form.columns)), None)
        if ragged:
            found, number = ragged
            separator = SEPARATORS.get(form.separator, repr(form.separator))
            raise UserError(
                f'{path}, line {line + number - 1}: expected {len(form.columns)} fields '
                f'separated by {separator}, found {max(found, 1)}; mend or remove the line'
            )

    def _count_fields(self, text: str, path: str, line: int) -> Generator[tuple[int, int], None, None]:
        """Yields (number of fields, lines read so far) for every row."""
        reader = csv.reader(io.StringIO(text, newline=''), delimiter=self._forms[path].separator)
        try:
            with _long_fields():
                for row in reader:
                    yield len(row), reader.line_num
        except csv.Error as error:
            raise UserError(f'{path}, line {line + reader.line_num - 1}: not a row: {error}') from error

    def _parse(self, data: bytes, path: str, line: int, wanted: list[str], numbers: set[str]) -> pl.DataFrame:
        form = self._forms[path]

        def read(types: dict[str, pl.DataType]) -> pl.DataFrame:
            # All columns, wanted or not: only then is a row with a field too many an error, and since
            # the number of separators is right in total, no row has a field too few either.
            table = pl.scan_csv(
                data,
                has_header=False,
                schema=types,
                separator=form.separator,
                quote_char='"' if self.quote else None,
            )
            return table.collect().select(wanted)

        try:
            return read({c: pl.Float64() if c in numbers else pl.String() for c in form.columns})
        except pl.exceptions.PolarsError as error:
            self._raise_ragged(data, path, line)
            try:
                frame = read({c: pl.String() for c in form.columns})
            except pl.exceptions.PolarsError:
                reason = str(error).splitlines()[0]
                raise UserError(f'{path}, from line {line}: not a table: {reason}') from error
            chunk = Chunk(frame, path, line, data)
            # Quoted empty fields among them are what Polars does not take for missing numbers.
            return frame.with_columns(to_numbers(chunk, frame[name]) for name in sorted(numbers))
