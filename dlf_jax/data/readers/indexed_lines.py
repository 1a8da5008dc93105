"""Lines of a label and indexed values as tables: libSVM (`1 17:0.5`) and libFFM (`1 3:17:1`).

Both know `qid:7` after the label (a column `qid`), comments from `#` on, and blank lines, which are no rows.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import polars as pl

from dlf_jax.data.prefetch import parallel_map
from dlf_jax.data.readers import text_blocks
from dlf_jax.data.readers.base import WrappedTable
from dlf_jax.data.readers.chunk import Chunk, Columns, to_numbers
from dlf_jax.data.readers.text_table import TextTable
from dlf_jax.errors import UserError

LABEL, QUERY, FEATURES = 'label', 'qid', 'features'
# What a column is read as: text or lists of it, text of numbers, or text to be handed on.
TEXT, NUMBER, KEPT = 'text', 'number', 'kept'

# Number of lines that tell which fields there are.
_SAMPLE = 10_000
# Character that separates the fields of a line that has one: no text table has it.
_NONE = '\0'
_NUMBER = r'[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?'
_START = rf'\s*{_NUMBER}(\s+qid:\d+)?'
_FORMS = {
    'libsvm': re.compile(rf'{_START}(\s+\d+:{_NUMBER})+\s*(#.*)?'),
    'libffm': re.compile(rf'{_START}(\s+\d+:\d+:{_NUMBER})+\s*(#.*)?'),
}
_NO_ENTRY = re.compile(rf'\s*({_NUMBER})?(\s+qid:\d+)?\s*(#.*)?')


def format_of(path: str) -> str:
    """Form of a text file's first line that has any entries: 'libsvm', 'libffm' or '' for another."""
    with text_blocks.open_binary(path) as file:
        for _ in range(100):
            data = text_blocks.guard(path, file.readline, text_blocks.MAX_LINE_BYTES)
            line = data.decode('utf-8', 'replace').rstrip('\r\n')
            if data and _NO_ENTRY.fullmatch(line):
                continue
            return next((name for name, form in _FORMS.items() if form.fullmatch(line)), '')
    return ''


class LibsvmColumns(tuple[str, ...]):
    """Names of the columns of libSVM files; every index is one, listed or not."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and bool(re.fullmatch('[0-9]+', name)))


class LibffmColumns(tuple[str, ...]):
    """Names of the columns of libFFM files; `field_N` is one for every number, listed or not."""

    def __contains__(self, name: object) -> bool:
        known = isinstance(name, str) and bool(re.fullmatch('field_[0-9]+', name))
        return super().__contains__(name) or known


@dataclasses.dataclass(frozen=True)
class LinesChunk(Chunk):
    """Chunk whose rows are lines, but not every line is a row.

    Attributes:
      lines: number of each row's line, int64 [rows].
    """

    lines: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    def where(self, row: int) -> str:
        """See `Chunk.where`."""
        return f'{self.path}, line {self.lines[row]}' if row < len(self.lines) else self.path


@dataclasses.dataclass(frozen=True)
class _Entries:
    """Entries of some rows, one after another.

    Attributes:
      row: number of each entry's row in the chunk, int64 [n].
      field: number of its field; 0 in libSVM, int64 [n].
      index: its index, int64 [n].
      text: its value as it is written, String [n].
      value: its value, float64 [n].
    """

    row: np.ndarray
    field: np.ndarray
    index: np.ndarray
    text: pl.Series
    value: np.ndarray


class IndexedLines(WrappedTable, abc.ABC):
    """Files of lines of a label and entries; a `Table`, of which a subclass makes the columns."""

    # Parts of an entry.
    PARTS: ClassVar[int] = 2
    EXAMPLE: ClassVar[str] = ''

    def __init__(self, paths: tuple[str, ...]):
        """Opens files, and reads the first 10,000 lines of each to know the columns.

        Args:
          paths: the files.
        """
        super().__init__(TextTable(paths, _NONE, ('line',), quote=False))
        names: dict[str, None] = {}
        for path in paths:
            names.update(dict.fromkeys(self._names(path)))
        self._listed = self._columns(list(names))

    @staticmethod
    @abc.abstractmethod
    def _columns(names: Sequence[str]) -> tuple[str, ...]:
        """Names of all columns, from those of the first lines."""

    @abc.abstractmethod
    def _names(self, path: str) -> list[str]:
        """Names of the columns beside the label that the first lines of a file have."""

    @abc.abstractmethod
    def _column(
        self, chunk: LinesChunk, entries: _Entries, columns: Columns, name: str, kind: str
    ) -> pl.Series:
        """Makes a column of entries.

        Args:
          chunk: the rows.
          entries: theirs.
          columns: all columns that are read.
          name: name of the column.
          kind: `TEXT`, `NUMBER` or `KEPT`.
        """

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Table.columns`."""
        return self._listed

    @property
    def absent(self) -> Mapping[str, str]:
        """See `Table.absent`: a column that a file does not have is missing, or 0, in its rows."""
        return {}

    @property
    def families(self) -> Mapping[str, tuple[str, str]]:
        """See `Table.families`."""
        return {}

    def chunks(self, columns: Columns) -> Iterator[Chunk]:
        """See `Table.chunks`."""
        empty = True
        make = functools.partial(self._made, columns=columns)
        for chunk in parallel_map(make, self.table.chunks(self._needed(columns))):
            if len(chunk.lines):
                empty = False
                yield chunk
        if empty:
            raise UserError(f'{self.name}: no rows')

    def places(self, file: int, unpacked: str = '') -> Iterator[tuple[tuple, int]]:
        """See `Table.places`."""
        for place, _ in self.table.places(file, unpacked):
            rows, _ = _rows(self.table.read(place, Columns(('line',))))
            if len(rows):
                yield place, len(rows)

    def _needed(self, columns: Columns) -> Columns:
        return Columns(('line',))

    def _made(self, chunk: Chunk, columns: Columns) -> LinesChunk:
        found, entries, labels, queries = self._entries(chunk)

        def column(name: str, kind: str) -> pl.Series:
            if name not in (LABEL, QUERY):
                values = self._column(found, entries, columns, name, kind)
            else:
                values = labels if name == LABEL else queries
            values = values.alias(name)
            if kind == NUMBER:
                return to_numbers(found, values, columns.missing.get(name, ()))
            return values

        texts = [column(name, TEXT) for name in columns.text]
        numbers = [column(name, NUMBER) for name in columns.numbers]
        kept = [column(name, NUMBER if name in columns.numbers else KEPT) for name in columns.keep]
        frame = pl.DataFrame([*texts, *numbers])
        return dataclasses.replace(found, frame=frame, kept=pl.DataFrame(kept) if kept else None)

    def _entries(self, chunk: Chunk) -> tuple[LinesChunk, _Entries, pl.Series, pl.Series]:
        """The rows of a chunk of lines: without columns; their entries, labels and query ids.

        Raises:
          UserError: an entry that is none, or a line that does not begin with a label.
        """
        rows, lines = _rows(chunk)
        found = LinesChunk(pl.DataFrame(), chunk.path, chunk.first, chunk.raw, lines=lines)
        parts = rows.str.split(' ')
        labels = parts.list.first()
        wrong = labels.str.contains(':', literal=True).arg_true()
        if len(wrong):
            raise UserError(
                f'{found.where(wrong[0])}: expected a label before the entries, found {labels[wrong[0]]!r}'
            )
        # The formats write 1 as +1, too.
        labels = labels.str.strip_prefix('+')
        rest = parts.list.slice(1)
        row = np.repeat(np.arange(len(rows)), rest.list.len().to_numpy().astype(np.int64))
        tokens = rest.list.explode(empty_as_null=False, keep_nulls=False)
        queries = pl.Series(QUERY, [None], pl.String).new_from_index(0, len(rows)) if len(rows) else tokens
        named = tokens.str.starts_with('qid:')
        if named.any():
            at = named.arg_true()
            twice = np.flatnonzero(np.diff(row[at]) == 0)
            if twice.size:
                raise UserError(f'{found.where(int(row[at[int(twice[0])]]))}: qid is there twice')
            queries = queries.scatter(pl.Series(row[at]), tokens.gather(at).str.strip_prefix('qid:'))
            row, tokens = row[~named.to_numpy()], tokens.filter(~named)
        split = tokens.str.splitn(':', self.PARTS).struct.unnest()
        *names, text = (split[name] for name in split.columns)
        whole = [name.str.contains('^[0-9]+$') for name in names]
        integers = [name.cast(pl.Int64, strict=False) for name in names]
        value = text.cast(pl.Float64, strict=False)
        right = functools.reduce(lambda a, b: a & b, [*whole, *(i.is_not_null() for i in integers)])
        wrong = (~(right & value.is_not_null()).fill_null(False)).arg_true()
        if len(wrong):
            raise UserError(
                f'{found.where(int(row[wrong[0]]))}: expected {self.EXAMPLE}, found {tokens[wrong[0]]!r}'
            )
        index = integers[-1].to_numpy()
        field = integers[0].to_numpy() if self.PARTS == 3 else np.zeros_like(index)
        return found, _Entries(row, field, index, text, value.to_numpy()), labels, queries


class LibsvmTable(IndexedLines):
    """libSVM files. Columns: `label`; `features`, the list of the indices of a row whose value is 1; `qid`.

    Every index is also a column, called by its number: its value, 0 where a row does not have it. An index
    that is read as numbers is not among the features.
    """

    PARTS = 2
    EXAMPLE = 'an index and a number, such as 17:0.5'

    @staticmethod
    def _columns(names: Sequence[str]) -> tuple[str, ...]:
        return LibsvmColumns((LABEL, *names, FEATURES))

    def _names(self, path: str) -> list[str]:
        return [QUERY] if any(re.search(r'\sqid:', line) for line in _first_lines(path)) else []

    def _column(
        self, chunk: LinesChunk, entries: _Entries, columns: Columns, name: str, kind: str
    ) -> pl.Series:
        if name == FEATURES:
            if kind == NUMBER:
                raise UserError(f'{chunk.where(0)}: column {name!r}: lists of indices, not numbers')
            return _lists(chunk, entries, [int(n) for n in columns.numbers if n.isdecimal()])
        at = np.flatnonzero(entries.index == int(name))
        _refuse_twice(chunk, entries.row[at], f'the index {name}')
        # The format leaves out zeros.
        found = pl.Series(['0'], dtype=pl.String).new_from_index(0, len(chunk.lines))
        return found.scatter(pl.Series(entries.row[at]), entries.text.gather(at))


def _lists(chunk: LinesChunk, entries: _Entries, numeric: Sequence[int]) -> pl.Series:
    """Indices of each row whose value is 1, as lists of texts, without those that are numeric."""
    there = entries.value != 0
    if numeric:
        there &= ~np.isin(entries.index, numeric)
    wrong = np.flatnonzero(there & (entries.value != 1))
    if wrong.size:
        at = wrong[0]
        index = entries.index[at]
        raise UserError(
            f'{chunk.where(int(entries.row[at]))}: the index {index} has the value {entries.text[int(at)]}; '
            f"a feature's is 1; declare the index numeric, for example config.dataset.numeric=('{index}',)"
        )
    return _grouped(entries.row[there], pl.Series(entries.index[there]).cast(pl.String), len(chunk.lines))


def _grouped(row: np.ndarray, values: pl.Series, rows: int) -> pl.Series:
    """Lists of the values of each row; `row` is rising."""
    numbers = pl.DataFrame({'row': np.arange(rows)})
    found = pl.DataFrame({'row': row, 'value': values}).group_by('row', maintain_order=True).agg('value')
    joined = numbers.join(found, on='row', how='left', maintain_order='left')['value']
    return joined.cast(pl.List(pl.String)).fill_null(pl.Series([[]], dtype=pl.List(pl.String)))


class LibffmTable(IndexedLines):
    """libFFM files. Columns: `label`, `qid`, and `field_N` for each number of a field.

    Read as text, a field holds the list of its indices in each row, whose value must be 1. Read as numbers,
    it holds the value. Kept, it holds the indices joined by commas, or the values where they are not all 1. A
    row without the field has it missing.
    """

    PARTS = 3
    EXAMPLE = 'a field, an index and a number, such as 3:17:1'

    @staticmethod
    def _columns(names: Sequence[str]) -> tuple[str, ...]:
        fields = sorted(int(name.removeprefix('field_')) for name in names if name != QUERY)
        query = [QUERY] if QUERY in names else []
        return LibffmColumns((LABEL, *query, *(f'field_{field}' for field in fields)))

    def _names(self, path: str) -> list[str]:
        found: set[str] = set()
        for line in _first_lines(path):
            found.update(re.findall(r'\s(\d+|qid):', line.partition('#')[0]))
        return [name if name == QUERY else f'field_{int(name)}' for name in found]

    def _column(
        self, chunk: LinesChunk, entries: _Entries, columns: Columns, name: str, kind: str
    ) -> pl.Series:
        at = np.flatnonzero(entries.field == int(name.removeprefix('field_')))
        row, rows = entries.row[at], len(chunk.lines)
        wrong = np.flatnonzero(entries.value[at] != 1)
        if kind == TEXT and wrong.size:
            raise UserError(
                f'{chunk.where(int(row[wrong[0]]))}: {name} has the value {entries.text[int(at[wrong[0]])]}; '
                'that of a category is 1; declare it numeric'
            )
        if kind == NUMBER:
            _refuse_twice(chunk, row, name, '; a number is one')
            missing = pl.Series(name, [None], pl.String).new_from_index(0, rows)
            return missing.scatter(pl.Series(row), entries.text.gather(at))
        values = entries.text.gather(at) if wrong.size else pl.Series(entries.index[at]).cast(pl.String)
        lists = _grouped(row, values, rows)
        if kind == TEXT:
            return lists
        joined = lists.list.join(',')
        return joined.set(joined == '', None)


def _refuse_twice(chunk: LinesChunk, row: np.ndarray, what: str, more: str = '') -> None:
    """Raises UserError where a row occurs twice in rising numbers of rows."""
    twice = np.flatnonzero(np.diff(row) == 0)
    if twice.size:
        raise UserError(f'{chunk.where(int(row[twice[0]]))}: {what} is there more than once{more}')


def _rows(chunk: Chunk) -> tuple[pl.Series, np.ndarray]:
    """The lines that are rows, with single spaces and without comments; and their numbers, int64 [rows]."""
    lines = chunk.frame['line'].fill_null('')
    raw = chunk.raw or b''
    if b'#' in raw:
        lines = lines.str.replace('#.*$', '')
    if b'\t' in raw or b'  ' in raw:
        lines = lines.str.replace_all(r'[ \t]+', ' ')
    lines = lines.str.strip_chars()
    there = lines != ''
    numbers = chunk.first + np.flatnonzero(there.to_numpy())
    return lines.filter(there), numbers


def _first_lines(path: str) -> list[str]:
    with text_blocks.open_binary(path) as file:
        read = (text_blocks.guard(path, file.readline, text_blocks.MAX_LINE_BYTES) for _ in itertools.count())
        lines = itertools.islice(itertools.takewhile(bool, read), _SAMPLE)
        return [line.decode('utf-8', 'replace') for line in lines]
