"""One step of training, and the forward pass of evaluation: pure functions of state and batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dlf_jax.data.schema import Schema
from dlf_jax.models import embedding
from dlf_jax.training.collectives import Collectives, Global
from dlf_jax.training.optimizers import Optimizer
from dlf_jax.training.table_sharding import Placement, Whole
from dlf_jax.training.train_state import TrainState

Metrics = dict[str, jax.Array]
Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Forward:
    """From parameters and gathered rows to logits.

    Attributes:
      model: called on looked-up rows.
      schema: of the data, sizes filled in.
      precision: dtype of what the model computes, 'float32' or 'bfloat16'.
    """

    model: nn.Module
    schema: Schema
    precision: str = 'float32'

    def logits(
        self, model_params: Any, batch_stats: Any, gathered: embedding.Tables, batch: Batch, **options: Any
    ) -> Any:
        """Logits, float32 [B]; with `mutable` among the options also what changed."""
        rows = embedding.assemble(gathered, batch, self.schema)
        dtype = jnp.dtype(self.precision)
        params, rows = jax.tree.map(lambda x: x.astype(dtype), (model_params, rows))
        found = self.model.apply({'params': params, 'batch_stats': batch_stats}, rows, **options)
        if 'mutable' not in options:
            return found.astype(jnp.float32)
        logits, changed = found
        return logits.astype(jnp.float32), changed


def make_train_step(
    forward: Forward,
    optimizer: Optimizer,
    collectives: Collectives | None = None,
    placement: Placement | None = None,
    accumulate: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The body of training: `(state, batch) -> (state, metrics)`.

    The loss is the weighted mean binary cross-entropy (paper, eq. 17) over the global batch, plus
    what the model sows, plus `lambda / 2 * sum E^2` over the tables (over the touched rows alone
    where the optimizer touches no others).

    `metrics`: `loss` (cross-entropy alone), `gradient_norm` (before the clip), `learning_rate`.

    Args:
      forward: from rows to logits.
      optimizer: what to do with gradients.
      collectives: of the devices that run it; None: one device.
      placement: of the tables; None: whole on every device.
      accumulate: the batch is taken in so many parts, one after another, and their gradients are
        summed: less memory, the same step, but that BatchNorm sees a part at a time and what is sown
        is averaged over the parts.
    """
    across = collectives or Global()
    tables_at = placement or Whole(across)

    def gradients_of(state: TrainState, rows, part: Batch, key: jax.Array, batch_stats, total_weight):
        """Gradients of one part's terms, its loss, and the new running statistics."""
        _, others = embedding.split(state.params['tables'])

        def loss_of(params, rows):
            logits, changed = forward.logits(
                params['model'],
                batch_stats,
                embedding.join(rows, params['tables']),
                part,
                train=True,
                mask=part['weight'] > 0,
                collectives=across,
                rngs={'dropout': key},
                mutable=['batch_stats', 'losses'],
            )
            losses = optax.sigmoid_binary_cross_entropy(logits, part['label'])
            loss = jnp.sum(losses * part['weight']) / total_weight
            extra = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(changed.get('losses', {})))
            # What is sown is of the whole batch, and every copy of this body adds it.
            terms = loss + extra / (across.copies * accumulate)
            return terms, (loss, changed.get('batch_stats', {}))

        params = {'model': state.params['model'], 'tables': others}
        return jax.grad(loss_of, argnums=(0, 1), has_aux=True)(params, rows)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        total_weight = jnp.maximum(across.total(jnp.sum(batch['weight'])), 1e-12)
        ids = embedding.ids_of(batch, forward.schema)
        rows = embedding.gather(embedding.split(state.params['tables'])[0], ids, tables_at.take)
        if accumulate == 1:
            found = gradients_of(state, rows, batch, key, state.batch_stats, total_weight)
            (gradients, row_gradients), (loss, batch_stats) = found
        else:

            def cut(array: jax.Array) -> jax.Array:
                # Every so many rows: each device's rows stay on it.
                return jnp.swapaxes(array.reshape(-1, accumulate, *array.shape[1:]), 0, 1)

            def add(carry, part):
                gradients, loss, batch_stats = carry
                number, rows, part = part
                part_key = jax.random.fold_in(key, number)
                found = gradients_of(state, rows, part, part_key, batch_stats, total_weight)
                (more, row_gradients), (part_loss, batch_stats) = found
                return (jax.tree.map(jnp.add, gradients, more), loss + part_loss, batch_stats), row_gradients

            _, others = embedding.split(state.params['tables'])
            start = {'model': state.params['model'], 'tables': others}
            carry = jax.tree.map(jnp.zeros_like, start), jnp.zeros(()), state.batch_stats
            parts = jnp.arange(accumulate), jax.tree.map(cut, rows), jax.tree.map(cut, batch)
            (gradients, loss, batch_stats), row_gradients = jax.lax.scan(add, carry, parts)
            row_gradients = jax.tree.map(
                lambda g: jnp.swapaxes(g, 0, 1).reshape(-1, *g.shape[2:]), row_gradients
            )
        gradients, loss = across.total((gradients, loss))
        params, opt_state, scratch, norm = optimizer.update(
            state.params, state.opt_state, state.scratch, gradients, row_gradients, ids, tables_at,
            state.step, state.learning_rate_scale,
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
    forward: Forward, placement: Placement | None = None
) -> Callable[[TrainState, Batch], jax.Array]:
    """The forward pass: `(state, batch) -> logits`, float32 [B]; running statistics, no dropout."""
    tables_at = placement or Whole(Global())

    def predict_step(state: TrainState, batch: Batch) -> jax.Array:
        rows, others = embedding.split(state.params['tables'])
        gathered = embedding.gather(rows, embedding.ids_of(batch, forward.schema), tables_at.take)
        joined = embedding.join(gathered, others)
        return forward.logits(state.params['model'], state.batch_stats, joined, batch)

    return predict_step
