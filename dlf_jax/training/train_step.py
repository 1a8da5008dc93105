"""Training step, and forward pass of evaluation: pure functions of state and batch.

From a batch to its gradient in this file: the ids' rows are gathered, `Forward` makes embeddings of them and
calls the model, the loss is differentiated with respect to the rows and the dense parameters, and the
optimizer takes a step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dlf_jax.data.schema import Schema
from dlf_jax.models import CTRModel, embedding
from dlf_jax.models.bag_sums import Runs
from dlf_jax.training.collectives import Global, StepCollectives
from dlf_jax.training.optimizers import Optimizer
from dlf_jax.training.table_sharding import Replicated, TableSharding
from dlf_jax.training.train_state import TrainState

Metrics = dict[str, jax.Array]
Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Forward:
    """Forward pass from gathered rows to logits.

    Attributes:
      model: called on embeddings.
      schema: of the data, sizes filled in.
      precision: dtype of the model's computations, 'float32' or 'bfloat16'.
      values: whether rows are gathered value by value, for whoever exchanges some of them.
    """

    model: CTRModel
    schema: Schema
    precision: str = 'float32'
    values: bool = False

    @property
    def summed(self) -> bool:
        """Whether multi-valued fields are summed where their rows are gathered."""
        return not self.values and not (self.model.wants_inputs and self.model.wants_bags)

    @property
    def runs(self) -> dict[str, Runs]:
        """How the columns of ids are read, by part of the tables."""
        return embedding.runs_of(self.schema, self.summed)

    def gathered(
        self, tables: embedding.Tables, ids: Mapping[str, jax.Array], gather: embedding.Gather
    ) -> embedding.Tables:
        """Rows of a batch, [b, reads, k] by part and table.

        Args:
          tables: the fused tables.
          ids: of the batch, by part.
          gather: of the tables, wherever their rows lie.
        """
        return embedding.gather_rows(tables, ids, gather, self.runs)

    def logits(
        self, dense: Any, batch_stats: Any, rows: embedding.Tables, batch: Batch, **options: Any
    ) -> Any:
        """Logits, float32 [B]; with `mutable` among the options also the collections that changed.

        Args:
          dense: dense parameters, `embedding` and `model`.
          batch_stats: running statistics of BatchNorm.
          rows: of the batch, from `gathered`.
          batch: numbers, and ids of the multi-valued fields.
          options: of the model's call and of `apply`.
        """
        embeddings = embedding.assemble(rows, dense['embedding'], batch, self.schema, self.summed)
        params, embeddings = self._cast((dense['model'], embeddings))
        if self.model.wants_inputs:
            inputs = embedding.make_inputs(rows, dense['embedding'], batch, self.schema, self.summed)
            options['inputs'] = self._cast(inputs)
        variables = {'params': params, 'batch_stats': batch_stats}
        found: Any = self.model.apply(variables, embeddings, **options)
        if 'mutable' not in options:
            return found.astype(jnp.float32)
        logits, changed = found
        return logits.astype(jnp.float32), changed

    def _cast(self, tree: Any) -> Any:
        """The tree with its floats in the dtype of the model's computations."""
        dtype = jnp.dtype(self.precision)
        return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def make_train_step(
    forward: Forward,
    optimizer: Optimizer,
    collectives: StepCollectives | None = None,
    sharding: TableSharding | None = None,
    accumulate: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Body of training: `(state, batch) -> (state, metrics)`.

    The loss is the weighted mean binary cross-entropy (paper, eq. 17) over the global batch, plus what the
    model sows, plus `lambda / 2 * sum E^2` over the tables (over the touched rows alone where the optimizer
    touches no others).

    `metrics`: `loss` (cross-entropy alone), `gradient_norm` (before the clip), `learning_rate`.

    Args:
      forward: from rows to logits.
      optimizer: takes a step along gradients.
      collectives: of the devices that run the body; None: one device.
      sharding: of the tables; None: replicated.
      accumulate: number of parts that a batch is taken in, one after another, with their gradients summed:
        less memory, the same step, but BatchNorm sees a part at a time and sown losses are averaged over
        the parts.
    """
    collectives = collectives or Global()
    sharding = sharding or Replicated(collectives)

    def gradients_of(
        dense: Any,
        rows: embedding.Tables,
        batch_stats: Any,
        batch: Batch,
        key: jax.Array,
        total_weight: jax.Array,
    ) -> tuple[tuple[Any, embedding.Tables], tuple[jax.Array, Any]]:
        """Gradients of one part's terms of the loss, the loss, and the new running statistics."""

        def loss_of(dense: Any, rows: embedding.Tables) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            logits, changed = forward.logits(
                dense,
                batch_stats,
                rows,
                batch,
                train=True,
                mask=batch['weight'] > 0,
                collectives=collectives,
                labels=batch['label'],
                weight=batch['weight'],
                rngs={'dropout': key},
                mutable=['batch_stats', 'losses'],
            )
            losses = optax.sigmoid_binary_cross_entropy(logits, batch['label'])
            loss = jnp.sum(losses * batch['weight']) / total_weight
            extra = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(changed.get('losses', {})))
            # What is sown is of the whole batch, and every copy of this body adds it.
            terms = loss + extra / (collectives.copies * accumulate)
            return terms, (loss, changed.get('batch_stats', {}))

        found: Any = jax.grad(loss_of, argnums=(0, 1), has_aux=True)(dense, rows)
        return found

    def accumulated(
        dense: Any,
        rows: embedding.Tables,
        batch_stats: Any,
        batch: Batch,
        key: jax.Array,
        total_weight: jax.Array,
    ) -> tuple[tuple[Any, embedding.Tables], tuple[jax.Array, Any]]:
        """The same of a batch taken in parts."""

        def cut(array: jax.Array) -> jax.Array:
            # Every so many rows: each device's rows stay on it.
            return jnp.swapaxes(array.reshape(-1, accumulate, *array.shape[1:]), 0, 1)

        def add(carry: Any, part: Any) -> tuple[Any, embedding.Tables]:
            gradients, loss, batch_stats = carry
            number, rows, batch = part
            part_key = jax.random.fold_in(key, number)
            found = gradients_of(dense, rows, batch_stats, batch, part_key, total_weight)
            (more, row_gradients), (part_loss, batch_stats) = found
            return (jax.tree.map(jnp.add, gradients, more), loss + part_loss, batch_stats), row_gradients

        start = jax.tree.map(jnp.zeros_like, dense), jnp.zeros(()), batch_stats
        parts = jnp.arange(accumulate), jax.tree.map(cut, rows), jax.tree.map(cut, batch)
        (gradients, loss, batch_stats), row_gradients = jax.lax.scan(add, start, parts)
        row_gradients = jax.tree.map(lambda g: jnp.swapaxes(g, 0, 1).reshape(-1, *g.shape[2:]), row_gradients)
        return (gradients, row_gradients), (loss, batch_stats)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        total_weight = jnp.maximum(collectives.total(jnp.sum(batch['weight'])), 1e-12)
        ids = embedding.ids_of(batch, forward.schema)
        rows = forward.gathered(state.params['tables'], ids, sharding.gather)
        differentiate = gradients_of if accumulate == 1 else accumulated
        (gradients, row_gradients), (loss, batch_stats) = differentiate(
            state.params['dense'], rows, state.batch_stats, batch, key, total_weight
        )
        gradients, loss = collectives.total((gradients, loss))
        params, opt_state, scratch, norm = optimizer.update(
            state.params, state.opt_state, state.scratch, gradients, row_gradients, ids, forward.runs,
            sharding, state.step, state.learning_rate_scale,
        )  # fmt: skip
        metrics = {
            'loss': loss,
            'gradient_norm': norm,
            'learning_rate': optimizer.schedule(state.step) * state.learning_rate_scale,
        }
        state = state.replace(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            scratch=scratch,
        )
        return state, metrics

    return train_step


def make_predict_step(
    forward: Forward, sharding: TableSharding | None = None
) -> Callable[[TrainState, Batch], jax.Array]:
    """Forward pass `(state, batch) -> logits`, float32 [B]; running statistics, no dropout."""
    sharding = sharding or Replicated(Global())

    def predict_step(state: TrainState, batch: Batch) -> jax.Array:
        ids = embedding.ids_of(batch, forward.schema)
        rows = forward.gathered(state.params['tables'], ids, sharding.gather)
        return forward.logits(state.params['dense'], state.batch_stats, rows, batch)

    return predict_step
