"""Preparation on one machine: tables to the shards of block records, with every file read once.

The rows are staged on disk as codes and numbers, so that the vocabulary can be counted before ids are
assigned; memory grows with the vocabularies alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from dlf_jax.data.loading.label_counts import join_sums
from dlf_jax.data.prefetch import prefetch
from dlf_jax.data.preprocess import encoder as encoders
from dlf_jax.data.preprocess import growing
from dlf_jax.data.preprocess.coder import Coder
from dlf_jax.data.preprocess.id_tables import IdTables
from dlf_jax.data.preprocess.splits import count_times
from dlf_jax.data.preprocess.staged_part import StagedPart
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
from dlf_jax.data.readers.tables import Table
from dlf_jax.data.rows import Rows


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
    parts = {p: StagedPart(staged[task.table_of(p)], task.split, p, cuts) for p in task.parts}
    for name, part in parts.items():
        check_part(task, name, part.rows)
    values = {name: dictionary.values for name, dictionary in coder.dictionaries.items()}
    encoder = growing.fit(task, parts['train'].measure(task.schema, values), folder / 'encoder')
    tables = encoder.id_tables(coder.dictionaries)
    writers: dict[str, list[ShardWriter]] = {
        name: [
            functools.partial(_blocks, task, name, part, encoder, tables, first, last)
            for first, last in shard_bounds(part.rows, task.block_rows, row_bytes(encoder.schema))
        ]
        for name, part in parts.items()
    }
    labels = {name: join_sums(part.labels()) for name, part in parts.items()}
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
        staged.append(coder.staged(chunk, task.time, seen))
    staged.close()
    return staged


def _cuts(task: Task, staged: Mapping[str, Staging]) -> list[float]:
    if not task.split or task.split.kind != 'time':
        return []
    whole = staged[WHOLE]

    def all_times() -> Iterator[np.ndarray]:
        return (whole.read(i, ('time',))['time'] for i in range(len(whole)))

    return task.split.time_cuts(lambda *level: count_times(all_times(), *level), whole.rows)


def _where(table: Table, row: int, column: str) -> str:
    """Location of a row of a table; reads the table again, for an error message."""
    for chunk in table.chunks(Columns(text=(column,))):
        if row < chunk.frame.height:
            return chunk.where(row)
        row -= chunk.frame.height
    return table.name


def _blocks(
    task: Task,
    name: str,
    part: StagedPart,
    encoder: encoders.Encoder,
    tables: IdTables,
    first: int,
    last: int,
) -> Iterator[tuple[int, Rows]]:
    """Yields (number, block) for the blocks of a shard; a block is emptied when the next is requested."""
    size, doing = task.block_rows, f'{task.name}: writing {name}'
    where = functools.partial(_where, task.tables[task.table_of(name)])
    made = numbered_blocks(part.encoded(encoder, tables, first * size, where), first, last, size)
    with (
        Progress(doing, 'rows', part.rows, first * size) as progress,
        prefetch(made, 16) as blocks,
    ):
        for number, block in blocks:
            rows = len(block['label'])
            yield number, block
            # Written by now. TFDS keeps the dictionaries of a shard, to count them at its end.
            block.clear()
            progress.advance(rows)
