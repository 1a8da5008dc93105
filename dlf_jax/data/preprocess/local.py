"""Preparation on one machine: tables to the shards of block records, with every file read once.

The rows are staged on disk as codes and numbers, so that the vocabulary can be counted before ids are
assigned; memory grows with the vocabularies alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dlf_jax.data.loading.label_counts import LabelCounts, count_labels
from dlf_jax.data.prefetch import column_pool, parallel_map, prefetch
from dlf_jax.data.preprocess import encoder as encoders
from dlf_jax.data.preprocess import growing, statistics
from dlf_jax.data.preprocess.coder import CodedRows, Coder
from dlf_jax.data.preprocess.id_tables import IdTables
from dlf_jax.data.preprocess.splits import PARTS
from dlf_jax.data.preprocess.staging import Staging
from dlf_jax.data.preprocess.task import (
    WHOLE,
    Shards,
    ShardWriter,
    Task,
    check_part,
    numbered_blocks,
    row_bytes,
    shard_bounds,
)
from dlf_jax.data.progress import Progress
from dlf_jax.data.readers.chunk import Chunk, Columns
from dlf_jax.data.readers.columns import extras, times
from dlf_jax.data.rows import Rows
from dlf_jax.errors import UserError


def prepare(task: Task, folder: Path, staging: Path, check_rows: Callable[[dict[str, int]], None]) -> Shards:
    """Stages the rows, counts the vocabularies and fits the encoder.

    Args:
      task: what to prepare.
      folder: folder of the prepared data; the encoder is written to `encoder/` in it.
      staging: folder for the staged rows, which the returned shards read.
      check_rows: called with the number of rows of every table before the encoder is fitted; may raise.

    Raises:
      UserError: rows that cannot be read, or a part without rows.
    """
    coder = Coder(task.schema)
    staged = {key: _stage(task, key, coder, staging / key) for key in task.tables}
    check_rows({key: rows.rows for key, rows in staged.items()})
    cuts = _cuts(task, staged)
    parts = {part: _StagedPart(task, staged[task.table_of(part)], part, cuts) for part in task.parts}
    for name, part in parts.items():
        check_part(task, name, part.rows)
    encoder = growing.fit(task, _measure(coder, parts['train']), folder / 'encoder')
    tables = encoder.id_tables(coder.dictionaries)
    writers: dict[str, list[ShardWriter]] = {
        name: [
            functools.partial(part.blocks, encoder, tables, first, last)
            for first, last in shard_bounds(part.rows, task.block_rows, row_bytes(encoder.schema))
        ]
        for name, part in parts.items()
    }
    labels = {name: part.labels() for name, part in parts.items()}
    return Shards({name: part.rows for name, part in parts.items()}, writers, labels)


def _chunks(task: Task, key: str) -> Iterator[Chunk]:
    """The chunks of one of the task's tables, prefetched, with progress."""
    table = task.tables[key]
    size = table.size
    done = rows = 0
    with (
        Progress(f'{task.name}: reading {key}', 'rows') as progress,
        prefetch(table.chunks(task.columns())) as chunks,
    ):
        for chunk in chunks:
            yield chunk
            rows += chunk.frame.height
            done += chunk.size
            if size:
                progress.total = max(rows, round(rows * size / done))
            progress.advance(chunk.frame.height)


def _stage(task: Task, key: str, coder: Coder, folder: Path) -> Staging:
    staged = Staging(folder)
    seen: set[str] = set()
    for chunk in _chunks(task, key):
        coded = coder.code(chunk)
        columns = {'codes': coded.codes, 'numbers': coded.numbers, **extras(chunk, task.schema, seen)}
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
    """Rows of one part among the staged rows of its table."""

    def __init__(self, task: Task, staged: Staging, part: str, cuts: Sequence[float]):
        self._task, self._staged, self._part, self._cuts = task, staged, part, cuts
        self._counts = [int(np.count_nonzero(self._mask(i))) for i in range(len(staged))]
        self.rows = sum(self._counts)

    def _mask(self, chunk: int) -> np.ndarray:
        first, stop = self._staged.bounds(chunk)
        split = self._task.split
        if split is None:
            return np.ones(stop - first, bool)
        times = self._staged.read(chunk, ('time',))['time'] if split.kind == 'time' else None
        found = split.assign(first, stop - first, self._staged.rows, times, self._cuts)
        return found == PARTS.index(self._part)

    def chunks(self, names: Sequence[str], start: int = 0) -> Iterator[tuple[int, np.ndarray, Rows]]:
        """Yields the part's staged rows, chunk by chunk.

        Args:
          names: names of the staged arrays to read.
          start: number of the first row within the part.

        Yields:
          (number of the chunk, row numbers in the table int64 [rows], staged columns).
        """
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

    def labels(self) -> LabelCounts:
        """The part's labels in numbers; reads the columns of labels and weights alone."""
        names = [name for name in ('label', 'weight') if name in self._staged.names]
        return count_labels(columns for _, _, columns in self.chunks(names))

    def _where(self, row: int, column: str) -> str:
        """Location of a row of the table; reads the table again, for an error message."""
        table = self._task.tables[self._task.table_of(self._part)]
        for chunk in table.chunks(Columns(text=(column,))):
            if row < chunk.frame.height:
                return chunk.where(row)
            row -= chunk.frame.height
        return table.name

    def encoded(self, encoder: encoders.Encoder, tables: IdTables, start: int) -> Iterator[Rows]:
        """Yields the rows from `start` on as they are stored in records."""
        names = [name for name in self._staged.names if name != 'time']

        def encode(found: tuple[int, np.ndarray, Rows]) -> Rows:
            _, rows, columns = found
            coded = CodedRows(columns.pop('codes'), columns.pop('numbers'))
            try:
                return {**columns, **encoder.encode(coded, tables)}
            except encoders.OutOfRange as error:
                where = self._where(int(rows[error.row]), error.field.name)
                raise UserError(f'{where}: {error}') from error

        with prefetch(self.chunks(names, start)) as chunks:
            yield from parallel_map(encode, chunks)

    def blocks(
        self, encoder: encoders.Encoder, tables: IdTables, first: int, last: int
    ) -> Iterator[tuple[int, Rows]]:
        """Yields (number, block) for the blocks of a shard; a block is emptied when the next is requested."""
        size, doing = self._task.block_rows, f'{self._task.name}: writing {self._part}'
        made = numbered_blocks(self.encoded(encoder, tables, first * size), first, last, size)
        with (
            Progress(doing, 'rows', self.rows, first * size) as progress,
            prefetch(made, 16) as blocks,
        ):
            for number, block in blocks:
                rows = len(block['label'])
                yield number, block
                # Written by now. TFDS keeps the dictionaries of a shard, to count them at its end.
                block.clear()
                progress.advance(rows)


def _measure(coder: Coder, part: _StagedPart) -> statistics.Statistics:
    """Statistics of the training part."""
    schema = coder.schema
    counts = statistics.no_counts(coder.dictionaries)
    moments: list[tuple[int, dict[str, statistics.Moments]]] = []
    samples: dict[str, statistics.Sample] = {}
    with prefetch(part.chunks(('codes', 'numbers'))) as chunks:
        for chunk, rows, columns in chunks:
            measured = column_pool().submit(statistics.moments_and_samples, schema, columns['numbers'], rows)
            statistics.count_codes(schema, columns['codes'], counts)
            found, sample = measured.result()
            moments.append((chunk, found))
            samples = statistics.merge_samples([samples, sample])
    values = statistics.value_counts(coder.dictionaries, counts)
    return statistics.Statistics(part.rows, values, tuple(moments), samples)
