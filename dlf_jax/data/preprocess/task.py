"""Preparation task: what is to be prepared, and how the rows of its parts are laid out in shards."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dlf_jax.data.loading.label_counts import LabelCounts
from dlf_jax.data.preprocess.splits import PARTS, Split
from dlf_jax.data.readers.chunk import Columns
from dlf_jax.data.readers.columns import columns_of
from dlf_jax.data.readers.tables import Table
from dlf_jax.data.rows import Rows, reblock
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UserError

SHARD_BYTES = 64 << 20
# Key of a table that holds the rows of all parts.
WHOLE = 'all'


@dataclasses.dataclass(frozen=True)
class Ancestor:
    """Encoder that the one of a task grows from, see `preprocess.growing`.

    Attributes:
      folder: folder of the encoder.
      digest: hash of its files.
      forget_after: number of generations without a value after which it is forgotten; 0: never.
      refit_numbers: whether means, ranges and curves of numbers are fitted to the new rows.
    """

    folder: Path
    digest: str
    forget_after: int = 0
    refit_numbers: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
    """Dataset to be prepared.

    Attributes:
      name: name of the dataset, for messages.
      schema: the features, their fields without sizes.
      tables: a table for each part; or one under `WHOLE`, which `split` cuts into parts.
      split: how the table under `WHOLE` is cut; None where each part has its own table.
      time: name of the column that a split by time reads; '' for other splits.
      block_rows: rows of a block.
      families: what columns of text features and groups that have a type of their own hold, by name.
      ancestor: encoder to grow from; None: one is fitted to the training part alone.
    """

    name: str
    schema: Schema
    tables: Mapping[str, Table]
    split: Split | None
    time: str
    block_rows: int
    families: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ancestor: Ancestor | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts to prepare, in the order of `PARTS`."""
        return self.split.parts if self.split else tuple(p for p in PARTS if p in self.tables)

    def table_of(self, part: str) -> str:
        """Key in `tables` of the table that holds a part."""
        return WHOLE if self.split else part

    def columns(self) -> Columns:
        """The columns to read."""
        return columns_of(self.schema, labelled=True, time=self.time)


# Yields the numbered blocks of one shard.
ShardWriter = Callable[[], Iterator[tuple[int, Rows]]]


@dataclasses.dataclass(frozen=True)
class Shards:
    """Record shards that TFDS is to write.

    Attributes:
      rows: number of rows by part.
      writers: one writer per shard, by part.
      labels: labels in numbers by part; empty where they are not known before the shards are written.
    """

    rows: dict[str, int]
    writers: dict[str, list[ShardWriter]]
    labels: dict[str, LabelCounts] = dataclasses.field(default_factory=dict)


def check_part(task: Task, part: str, rows: int) -> None:
    """Raises UserError where a part has no rows."""
    if not rows:
        raise UserError(f'the {part} part of {task.tables[task.table_of(part)].name} has no rows')


def row_bytes(schema: Schema) -> int:
    """Number of bytes of a row in a record."""
    columns = len(schema.categorical) + len(schema.numeric) + schema.bag_columns + 1
    return 4 * columns + 4 * bool(schema.weight) + 8 * bool(schema.group)


def shard_bounds(rows: int, block_rows: int, row_size: int) -> list[tuple[int, int]]:
    """Numbers of the first block of each shard and of the block after its last.

    Args:
      rows: number of rows of the part.
      block_rows: rows of a block.
      row_size: bytes of a row; a shard holds about `SHARD_BYTES`.
    """
    blocks = -(-rows // block_rows)
    per_shard = max(1, SHARD_BYTES // (block_rows * row_size))
    return [(first, min(first + per_shard, blocks)) for first in range(0, blocks, per_shard)]


def numbered_blocks(stream: Iterator[Rows], first: int, last: int, size: int) -> Iterator[tuple[int, Rows]]:
    """Yields (number, block) for the blocks `first` to `last - 1` of a part.

    Args:
      stream: the part's rows from the first row of block `first` on.
      first: number of the first block.
      last: number of the block after the last.
      size: rows of a block.
    """
    blocks = itertools.islice(reblock(stream, size), last - first)
    return zip(range(first, last), blocks, strict=True)
