"""Encoded rows of a part as the baselines read them, and numbers from 1 for the ids that matter."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

import numpy as np

from dlf_jax.data.loading.batches import weighted
from dlf_jax.data.loading.records import Blocks
from dlf_jax.data.progress import Progress
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import PADDING, Field, Schema

# Maximum number of rows that a baseline is fitted to.
MAX_ROWS = 10_000_000
# Bytes that a value of a row takes while a baseline is fitted, about: as read, and as the libraries keep it.
_BYTES = 24
# Columns that a multi-valued field takes, about, where it holds fewer values than that.
_BAG_COLUMNS = 64


def stride(schema: Schema, rows: int) -> int:
    """Distance between the training rows that are taken, so that these fit half of the machine's memory.

    Args:
      schema: the features.
      rows: number of rows of the training part.

    Returns:
      1 where all rows are taken, which is so up to `MAX_ROWS` where the memory is enough.
    """
    columns = len(schema.categorical) + 2 * len(schema.numeric)
    columns += sum(max(field.length, _BAG_COLUMNS) for field in schema.bags)
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    fitting = max(1, memory // 2 // (_BYTES * max(columns, 1)))
    return -(-rows // min(MAX_ROWS, fitting))


def iterate(blocks: Blocks, every: int = 1) -> Iterator[Rows]:
    """Yields the rows of a part whose weight is above 0, block by block.

    Args:
      blocks: of the part.
      every: distance between the rows that are taken.

    Yields:
      Arrays of the block's rows; `weight` is always there.
    """
    for block in range(len(blocks)):
        rows = weighted(blocks.read(block))
        taken = (
            np.arange(block * blocks.block_rows, block * blocks.block_rows + len(rows['label'])) % every == 0
        )
        taken &= rows['weight'] > 0
        yield {name: values[taken] for name, values in rows.items()}


def read(blocks: Blocks, every: int, what: str) -> Rows:
    """All rows of `iterate` in memory.

    Args:
      blocks: of a part.
      every: distance between the rows that are taken.
      what: heading of the progress bar.
    """
    pieces: dict[str, list[np.ndarray]] = {}
    with Progress(what, 'samples', blocks.rows) as progress:
        for rows in iterate(blocks, every):
            for name, values in rows.items():
                pieces.setdefault(name, []).append(values)
            progress.advance(len(rows['label']) * every)
    # One by one, so that no more than one array is there twice.
    return {name: np.concatenate(pieces.pop(name)) for name in list(pieces)}


def bags(rows: Rows, schema: Schema) -> Iterator[tuple[Field, np.ndarray]]:
    """Each multi-valued field with its ids, int32 [rows, length]."""
    return ((field, rows['bags'][:, columns]) for field, columns in schema.bag_slices())


@dataclasses.dataclass(frozen=True)
class Ids:
    """The most frequent ids of a field in the training part, numbered from 1; 0 stands for all others.

    Attributes:
      kept: the ids, rising.
    """

    kept: np.ndarray

    @classmethod
    def most_frequent(cls, ids: np.ndarray, limit: int) -> Ids:
        """The ids of a field that have numbers of their own.

        Args:
          ids: of the training rows, of any shape; `PADDING` is none.
          limit: maximum number of ids.
        """
        kept, counts = np.unique(ids[ids != PADDING], return_counts=True)
        if len(kept) > limit:
            kept = np.sort(kept[np.argsort(-counts, kind='stable')[:limit]])
        return cls(kept)

    def __len__(self) -> int:
        """How many numbers there are, 0 among them."""
        return len(self.kept) + 1

    def numbers(self, ids: np.ndarray) -> np.ndarray:
        """Number of each id, int32 of the same shape."""
        at = np.searchsorted(self.kept, ids)
        found = np.take(self.kept, at, mode='clip') == ids if len(self.kept) else np.zeros(ids.shape, bool)
        return np.where(found, at + 1, 0).astype(np.int32)
