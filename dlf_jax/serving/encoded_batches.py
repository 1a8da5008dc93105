"""Rows of a table as padded batches, encoded as the training data was."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from dlf_jax.data.loading import batches as batching
from dlf_jax.data.loading import unknown_values
from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.readers import columns, tables
from dlf_jax.data.rows import Rows, reblock
from dlf_jax.errors import UserError

# A column of numbers beside the kept ones, so that there are rows where none is kept; no column of a file has
# this name.
ROW = '\0row'


class EncodedBatches:
    """Padded batches of a table, each with the kept columns of its rows, and what was found on the way.

    Attributes:
      rows: number of rows read so far.
    """

    def __init__(
        self,
        table: tables.Table,
        encoder: Encoder,
        batch_size: int,
        labelled: bool,
        keep: tuple[str, ...] = (),
    ):
        """Reads nothing yet.

        Args:
          table: opened and checked.
          encoder: of the training data.
          batch_size: number of rows of a batch.
          labelled: whether label, weight and group are read.
          keep: columns that are handed on as they are.
        """
        self._table, self._encoder, self._batch_size = table, encoder, batch_size
        self._labelled, self._keep = labelled, keep
        self._unknown: dict[str, np.ndarray] = {}
        self.rows = 0

    def __iter__(self) -> Iterator[tuple[batching.Batch, pl.DataFrame]]:
        """Yields batches with the kept columns of their rows, and a column that counts them."""
        kept: list[pl.DataFrame] = []
        for rows in reblock(self._encoded(kept), self._batch_size):
            count = len(rows['label'])
            taken = _concatenated(kept)
            kept[:] = [taken[count:]]
            yield batching.pad(batching.weighted(rows), self._batch_size), taken[:count]

    def _encoded(self, kept: list[pl.DataFrame]) -> Iterator[Rows]:
        schema, seen = self._encoder.schema, set[str]()
        wanted = columns.columns_of(schema, self._labelled, keep=self._keep)
        for chunk in self._table.chunks(wanted):
            rows, unknown = self._encoder.transform(chunk)
            for name, counts in unknown.items():
                self._unknown[name] = self._unknown.get(name, 0) + counts
            self.rows += chunk.frame.height
            number = pl.Series(ROW, np.arange(chunk.frame.height))
            kept.append(pl.DataFrame([number]) if chunk.kept is None else chunk.kept.with_columns(number))
            unlabelled = {'label': np.zeros(chunk.frame.height, np.float32)}
            yield {**rows, **(columns.extras(chunk, schema, seen) if self._labelled else unlabelled)}

    def out_of_vocabulary(self) -> dict[str, float]:
        """Share of the values read so far that the training part did not have (or had too seldom), by field;
        logged as well."""
        shares = {name: float(outside / max(read, 1)) for name, (outside, read) in self._unknown.items()}
        unknown_values.tell(self._table.name, shares, self._encoder.expected_unknown)
        return shares


def _concatenated(kept: list[pl.DataFrame]) -> pl.DataFrame:
    """Frames one after another. Raises UserError where a kept column has other types in other files."""
    for frame in kept[1:]:
        check_types(kept[0].schema, frame.schema)
    return kept[0] if len(kept) == 1 else pl.concat(kept)


def check_types(first: pl.Schema, other: pl.Schema) -> None:
    """Raises UserError where a kept column has another type than before."""
    for name, kind in first.items():
        if other[name] != kind:
            raise UserError(
                f'config.predict.keep: the column {name!r} is of {kind} in one file and of {other[name]} in '
                'another; write it with the same type in all files, or predict them one by one'
            )
