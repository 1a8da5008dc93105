"""One step of training, and the forward pass of evaluation: pure functions of state and batch."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dlf_jax.data.schema import Schema
from dlf_jax.models import embedding
from dlf_jax.training.state import TrainState

Metrics = dict[str, jax.Array]
Batch = dict[str, jax.Array]


def cross_entropy(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted mean binary cross-entropy (paper, eq. 17), a scalar; rows of weight 0 do not count.

    Args:
      logits: float32 [B].
      labels: 0 or 1, float32 [B].
      weights: float32 [B].
    """
    losses = optax.sigmoid_binary_cross_entropy(logits, labels)
    return jnp.sum(losses * weights) / jnp.maximum(jnp.sum(weights), 1e-12)


def table_penalty(tables: embedding.Tables, strength: float) -> jax.Array:
    """lambda / 2 * sum E^2 over every row of every table, seen in the batch or not."""
    return 0.5 * strength * sum(jnp.sum(jnp.square(part)) for part in embedding.penalised(tables))


def make_train_step(
    model: nn.Module,
    schema: Schema,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    penalty: float,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The body of training: `(state, batch) -> (state, metrics)`.

    `metrics`: `loss` (cross-entropy alone), `gradient_norm` (before the clip), `learning_rate`.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)

        def loss_of(params):
            rows = embedding.lookup(params['tables'], batch, schema)
            logits, changed = model.apply(
                {'params': params['model'], 'batch_stats': state.batch_stats},
                rows,
                train=True,
                mask=batch['weight'] > 0,
                rngs={'dropout': key},
                mutable=['batch_stats', 'losses'],
            )
            loss = cross_entropy(logits, batch['label'], batch['weight'])
            extra = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(changed.get('losses', {})))
            total = loss + extra + table_penalty(params['tables'], penalty)
            return total, (loss, changed.get('batch_stats', {}))

        gradients, (loss, batch_stats) = jax.grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        updates = jax.tree.map(lambda u: u * state.learning_rate_scale, updates)
        metrics = {
            'loss': loss,
            'gradient_norm': optax.global_norm(gradients),
            'learning_rate': schedule(state.step) * state.learning_rate_scale,
        }
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return state, metrics

    return train_step


def make_predict_step(model: nn.Module, schema: Schema) -> Callable[[TrainState, Batch], jax.Array]:
    """The forward pass: `(state, batch) -> logits`, float32 [B]; running statistics, no dropout."""

    def predict_step(state: TrainState, batch: Batch) -> jax.Array:
        rows = embedding.lookup(state.params['tables'], batch, schema)
        variables = {'params': state.params['model'], 'batch_stats': state.batch_stats}
        return model.apply(variables, rows)

    return predict_step
