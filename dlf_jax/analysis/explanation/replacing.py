"""Scores of rows in which some fields have other values: permuted ones, or one value for all rows.

The rows' embeddings and the other values' are looked up once; a call then takes the one or the other for each
field, and runs the model. So what a permuted field costs is the model's forward pass alone.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dlf_jax.analysis.explanation.device_batches import batch_size_for, batches_on_devices, everywhere
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import Schema
from dlf_jax.models import embedding
from dlf_jax.serving.predict import Predictor
from dlf_jax.training import evaluation
from dlf_jax.training.compilation import common_options
from dlf_jax.training.train_state import TrainState
from dlf_jax.training.train_step import Batch

# Calls whose scores are on their way to the host.
_AHEAD = 8
# By array of a batch, bool [1, columns]: which columns get other values.
Chosen = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class FieldColumns:
    """Which columns of a batch belong to which field.

    Attributes:
      schema: of the data.
    """

    schema: Schema

    def chosen(self, names: Iterable[str]) -> Chosen:
        """Marks the columns of some fields."""
        names, schema = set(names), self.schema
        found = {}
        if schema.categorical:
            found['categorical'] = np.array([[field.name in names for field in schema.categorical]])
        if schema.numeric:
            found['numeric'] = np.array([[field.name in names for field in schema.numeric]])
        if schema.bags:
            found['bags'] = np.array([[f.name in names for f in schema.bags for _ in range(f.length)]])
        return found


def replaced(
    rows: embedding.Tables,
    batch: Batch,
    other_rows: embedding.Tables,
    other: Batch,
    chosen: dict[str, jax.Array],
    schema: Schema,
) -> tuple[embedding.Tables, Batch]:
    """The looked-up rows and the batch with other values in the chosen columns; pure.

    Args:
      rows: of the batch, from `embedding.gather_rows`.
      batch: arrays [b, ...].
      other_rows: of `other`.
      other: arrays [b, ...], or [1, ...] for the same values in all rows.
      chosen: see `Chosen`.
      schema: of the data.
    """
    # The columns of the fused tables are made of the marks as they are of ids.
    marked = embedding.ids_of(chosen, schema) if rows else {}
    mixed = {
        part: {t: jnp.where(marked[part][..., None], other_rows[part][t], v) for t, v in by_table.items()}
        for part, by_table in rows.items()
    }
    values = {name: jnp.where(marks, other[name], batch[name]) for name, marks in chosen.items()}
    return mixed, {**batch, **values}


class Replacing:
    """Scores the rows of a sample with fields replaced, a batch at a time."""

    def __init__(self, predictor: Predictor, rows: int, advance: Callable[[int], None] = lambda _: None):
        """Defines the compiled functions; compiles nothing.

        Args:
          predictor: the model.
          rows: number of rows of the sample; smaller batches do for few.
          advance: called with the number of rows that have been scored since.
        """
        self._setup, self._state = predictor.setup, predictor.state
        self.columns, self._advance = FieldColumns(self._setup.schema), advance
        partitioner = self._setup.partitioner
        self.batch_size = batch_size_for(rows, predictor.batch_size, self._setup)
        options = common_options(partitioner.platform)
        sharding = partitioner.table_sharding(training=False)
        forward = dataclasses.replace(self._setup.forward, values=True)
        schema = self._setup.schema

        def look_up(state: TrainState, batch: Batch) -> embedding.Tables:
            ids = embedding.ids_of(batch, schema)
            return forward.gathered(state.params['tables'], ids, sharding.gather)

        def look_up_one(state: TrainState, batch: Batch) -> embedding.Tables:
            # A few rows that every device has.
            ids = embedding.ids_of(batch, schema)
            return forward.gathered(state.params['tables'], ids, embedding.gather)

        def score(
            state: TrainState,
            rows: embedding.Tables,
            batch: Batch,
            other_rows: embedding.Tables,
            other: Batch,
            chosen: dict[str, jax.Array],
        ) -> jax.Array:
            mixed = replaced(rows, batch, other_rows, other, chosen, schema)
            return forward.logits(state.params['dense'], state.batch_stats, *mixed)

        self._look_up = jax.jit(look_up, compiler_options=options)
        self._look_up_one = jax.jit(look_up_one, compiler_options=options)
        self._score = jax.jit(self._setup.with_precision(score), compiler_options=options)

    def permuted(self, rows: Rows, order: np.ndarray, fields: Sequence[Sequence[str]]) -> np.ndarray:
        """Logits with the values of some fields taken from other rows.

        Args:
          rows: arrays [n, ...].
          order: the row that each row takes its values from, int64 [n].
          fields: names of the fields that are taken from there; one entry for each scoring, () for none.

        Returns:
          float32 [len(fields), n].
        """
        other = {name: values[order] for name, values in rows.items()}
        pieces = []
        choices = [everywhere(self.columns.chosen(names), self._setup) for names in fields]
        for batch, count, start in batches_on_devices(rows, self.batch_size, self._setup):
            looked = self._look_up(self._state, batch)
            piece = {name: values[start : start + count] for name, values in other.items()}
            ((donors, _, _),) = batches_on_devices(piece, self.batch_size, self._setup)
            donor_rows = self._look_up(self._state, donors)
            calls = (self._score(self._state, looked, batch, donor_rows, donors, c) for c in choices)
            pieces.append(np.stack(list(self._fetched(calls, count, start))))
        return np.concatenate(pieces, 1)

    def set_to(self, rows: Rows, settings: Sequence[tuple[str, Rows]]) -> np.ndarray:
        """Logits with a field set to one value in all rows.

        Args:
          rows: arrays [n, ...].
          settings: name of the field, and a row [1, ...] that has the value.

        Returns:
          float32 [len(settings), n].
        """
        pieces = []
        prepared = []
        for name, value in settings:
            one = everywhere(value, self._setup)
            looked = self._look_up_one(self._state, one)
            prepared.append((looked, one, everywhere(self.columns.chosen([name]), self._setup)))
        for batch, count, start in batches_on_devices(rows, self.batch_size, self._setup):
            looked = self._look_up(self._state, batch)
            calls = (self._score(self._state, looked, batch, *values) for values in prepared)
            pieces.append(np.stack(list(self._fetched(calls, count, start))))
        return np.concatenate(pieces, 1)

    def _fetched(self, calls: Iterable[jax.Array], count: int, start: int) -> Iterator[np.ndarray]:
        """Yields the scores of calls, float32 [count]; some are computed while others are handed on."""
        waiting: collections.deque[jax.Array] = collections.deque()

        def taken() -> np.ndarray:
            logits = np.asarray(self._setup.partitioner.local_rows(waiting.popleft())[:count])
            evaluation.check_finite(logits, self._state, start, of='the sample')
            self._advance(count)
            return logits

        for output in calls:
            waiting.append(output)
            if len(waiting) > _AHEAD:
                yield taken()
        while waiting:
            yield taken()
