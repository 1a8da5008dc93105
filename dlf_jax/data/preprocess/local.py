"""From tables to the shards of block records, on one machine: every file is read once.

The rows are staged on disk as codes and numbers (`staging`), so that the vocabulary can be counted
before ids are given; memory grows with the vocabularies alone.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dlf_jax.data.loading import records
from dlf_jax.data.loading.records import Rows
from dlf_jax.data.preprocess import encoder as encoders
from dlf_jax.data.preprocess import statistics
from dlf_jax.data.preprocess.splits import PARTS, Split
from dlf_jax.data.preprocess.staging import Staging
from dlf_jax.data.progress import Progress, ahead, side_by_side, threads
from dlf_jax.data.readers.columns import extras, times
from dlf_jax.data.readers.tables import Chunk, Table
from dlf_jax.data.schema import OUT_OF_VOCABULARY, RESERVED, Schema
from dlf_jax.errors import UserError

SHARD_BYTES = 64 << 20
WHOLE = 'all'


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be prepared.

    Attributes:
      name: of the dataset, for messages.
      schema: fields without sizes.
      tables: by part; or one of all rows under `WHOLE`, which `split` cuts.
      split: of the whole; None where parts are given.
      time: column that a split by time reads.
      block_rows: rows of a block.
    """

    name: str
    schema: Schema
    tables: Mapping[str, Table]
    split: Split | None
    time: str
    block_rows: int

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that will be there."""
        return self.split.parts if self.split else tuple(p for p in PARTS if p in self.tables)

    def table_of(self, part: str) -> str:
        """Key in `tables` of the table that holds a part."""
        return WHOLE if self.split else part

    def columns(self) -> tuple[list[str], list[str]]:
        """Columns to read as text and as numbers."""
        schema = self.schema
        text = [*schema.text_columns(), *filter(None, [schema.group, self.time])]
        numbers = [*schema.number_columns(), schema.label, *filter(None, [schema.weight])]
        # A group or time may be a feature as well; a number that is read as text can be both.
        numbers = [name for name in dict.fromkeys(numbers) if name not in text]
        return list(dict.fromkeys(text)), numbers


@dataclasses.dataclass(frozen=True)
class Plan:
    """What TFDS is to write: rows by part, and by part one function per shard that yields its
    numbered blocks."""

    rows: dict[str, int]
    shards: dict[str, list[Callable[[], Iterator[tuple[int, Rows]]]]]


def prepare(task: Task, folder: Path, check_rows: Callable[[dict[str, int]], None]) -> Plan:
    """Stages, counts and fits.

    Args:
      task: what to prepare.
      folder: for the encoder (`encoder/`) and the staged rows (`staging/`).
      check_rows: told the number of rows of every table before anything is written; may raise.

    Raises:
      UserError: bad rows, or a part without any.
    """
    reader = encoders.Reader(task.schema)
    staged = {key: _stage(task, key, reader, folder / 'staging' / key) for key in task.tables}
    check_rows({key: rows.rows for key, rows in staged.items()})
    cuts = _cuts(task, staged)
    locals_ = {part: _StagedPart(task, staged[task.table_of(part)], part, cuts) for part in task.parts}
    for part, rows in locals_.items():
        check_part(task, part, rows.total)
    encoder = encoders.fit(task.schema, _measure(task.schema, reader, locals_['train']))
    encoder.save(folder / 'encoder')
    tables = _id_tables(encoder, reader)
    shards = {
        part: [
            functools.partial(rows.blocks, encoder, tables, first, last)
            for first, last in shard_bounds(rows.total, task.block_rows, row_bytes(encoder.schema))
        ]
        for part, rows in locals_.items()
    }
    return Plan({part: rows.total for part, rows in locals_.items()}, shards)


def check_part(task: Task, part: str, rows: int) -> None:
    """Raises UserError where a part has no rows."""
    if not rows:
        raise UserError(f'the {part} part of {task.tables[task.table_of(part)].name} has no rows')


def row_bytes(schema: Schema) -> int:
    """Bytes of a row in a record."""
    columns = len(schema.categorical) + len(schema.numeric) + schema.bag_columns + 1
    return 4 * columns + 4 * bool(schema.weight) + 8 * bool(schema.group)


def shard_bounds(rows: int, block_rows: int, row_size: int) -> list[tuple[int, int]]:
    """First block, and the one after the last, of every shard."""
    blocks = -(-rows // block_rows)
    per_shard = max(1, SHARD_BYTES // (block_rows * row_size))
    return [(first, min(first + per_shard, blocks)) for first in range(0, blocks, per_shard)]


def read(name: str, table: Table, columns: tuple[list[str], list[str]], doing: str) -> Iterator[Chunk]:
    """The chunks of a table, read ahead in a thread, with progress."""
    size = table.size
    done = rows = 0
    with Progress(f'{name}: {doing}', 'rows') as progress, ahead(table.chunks(*columns)) as chunks:
        for chunk in chunks:
            yield chunk
            rows += chunk.frame.height
            done += chunk.size
            if size:
                progress.total = max(rows, round(rows * size / done))
            progress.advance(chunk.frame.height)


def _stage(task: Task, key: str, reader: encoders.Reader, folder: Path) -> Staging:
    staged = Staging(folder)
    for chunk in read(task.name, task.tables[key], task.columns(), f'reading {key}'):
        raw = reader.read(chunk)
        columns = {'codes': raw.codes, 'numbers': raw.numbers, **extras(chunk, task.schema)}
        if task.time:
            columns['time'] = times(chunk, task.time)
        staged.append(columns)
    staged.close()
    return staged


def _cuts(task: Task, staged: Mapping[str, Staging]) -> list[float]:
    if not task.split or task.split.kind != 'time':
        return []
    whole = staged[WHOLE]

    def all_times() -> Iterator[np.ndarray]:
        return (whole.read(i, ('time',))['time'] for i in range(len(whole)))

    return task.split.time_cuts(all_times, whole.rows)


class _StagedPart:
    """The rows of a part among the staged rows of its table."""

    def __init__(self, task: Task, staged: Staging, part: str, cuts: Sequence[float]):
        self._task, self._staged, self._part, self._cuts = task, staged, part, cuts
        self._counts = [int(np.count_nonzero(self._mask(i))) for i in range(len(staged))]
        self.total = sum(self._counts)

    def _mask(self, chunk: int) -> np.ndarray:
        first, stop = self._staged.bounds(chunk)
        split = self._task.split
        if split is None:
            return np.ones(stop - first, bool)
        times = self._staged.read(chunk, ('time',))['time'] if split.kind == 'time' else None
        found = split.assign(first, stop - first, self._staged.rows, times, self._cuts)
        return found == PARTS.index(self._part)

    def chunks(self, names: Sequence[str], start: int = 0) -> Iterator[tuple[int, np.ndarray, Rows]]:
        """Yields (number of the chunk, its rows' numbers in the table, staged columns) from the
        part's row `start` on."""
        for chunk, count in enumerate(self._counts):
            if start >= count:
                start -= count
                continue
            columns = self._staged.read(chunk, names)
            rows = np.arange(*self._staged.bounds(chunk))
            if count < len(rows) or start:
                kept = np.flatnonzero(self._mask(chunk))[start:]
                rows, columns = rows[kept], {name: c.T[..., kept].T for name, c in columns.items()}
            yield chunk, rows, columns
            start = 0

    def encoded(self, encoder: encoders.Encoder, tables: encoders.IdTables, start: int) -> Iterator[Rows]:
        """The rows from `start` on as they go into records."""
        names = [name for name in self._staged.names if name != 'time']

        def encode(found: tuple[int, np.ndarray, Rows]) -> Rows:
            columns = found[2]
            raw = encoders.Raw(columns.pop('codes'), columns.pop('numbers'))
            return {**columns, **encoder.encode(raw, tables)}

        with ahead(self.chunks(names, start)) as chunks:
            yield from side_by_side(encode, chunks)

    def blocks(
        self, encoder: encoders.Encoder, tables: encoders.IdTables, first: int, last: int
    ) -> Iterator[tuple[int, Rows]]:
        """Yields (number, block) for the blocks of a shard; a block is emptied when the next is asked for."""
        size, doing = self._task.block_rows, f'{self._task.name}: writing {self._part}'
        made = numbered_blocks(self.encoded(encoder, tables, first * size), first, last, size)
        with Progress(doing, 'rows', self.total, first * size) as progress, ahead(made, 16) as blocks:
            for number, block in blocks:
                rows = len(block['label'])
                yield number, block
                # It is written by now; TFDS keeps the dictionaries of a shard to count them at its end.
                block.clear()
                progress.advance(rows)


def numbered_blocks(parts: Iterator[Rows], first: int, last: int, size: int) -> Iterator[tuple[int, Rows]]:
    """Yields (number, block) for blocks `first` to `last`, of rows that begin with the first."""
    blocks = itertools.islice(records.reblock(parts, size), last - first)
    return zip(range(first, last), blocks, strict=True)


def _measure(schema: Schema, reader: encoders.Reader, part: _StagedPart) -> statistics.Statistics:
    """Counts and measures the training part."""
    counts = statistics.no_counts(reader.dictionaries)
    moments, samples = [], []
    with ahead(part.chunks(('codes', 'numbers'))) as chunks:
        for chunk, rows, columns in chunks:
            both = threads().submit(statistics.measured, schema, chunk, columns['numbers'], rows)
            statistics.count_codes(schema, columns['codes'], counts)
            found, sample = both.result()
            moments.append(found)
            samples = [statistics.merge_samples([*samples, sample])]
    values = {
        name: statistics.value_counts(reader.dictionaries[name].values, count)
        for name, count in counts.items()
    }
    return statistics.Statistics(part.total, values, tuple(moments), samples[0] if samples else {})


def _id_tables(encoder: encoders.Encoder, reader: encoders.Reader) -> encoders.IdTables:
    """Tables from the reader's codes to ids."""
    known = {}
    for name, dictionary in reader.dictionaries.items():
        ids = np.full(len(dictionary), OUT_OF_VOCABULARY, np.int32)
        values = encoder.typed_values(name)
        ids[dictionary.find(values)] = np.arange(len(values), dtype=np.int32) + RESERVED
        known[name] = ids
    return encoder.id_tables(known)
