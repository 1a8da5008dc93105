"""Optimizer of a config: optax for the dense parameters, an embedding optimizer for the rows of tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dlf_jax import plugins
from dlf_jax.models import embedding, numeric_embedding
from dlf_jax.models.bag_sums import Runs
from dlf_jax.training import schedules
from dlf_jax.training.embedding_optimizer import EmbeddingOptimizer, EveryRow, TouchedRows, sums_of_squares
from dlf_jax.training.row_optimizers import ROW_OPTIMIZERS
from dlf_jax.training.table_sharding import TableSharding

Params = dict[str, Any]

# Value of `config.optimizer.embedding_rows` for the optimizer of the dense parameters, on every row.
DENSE = 'dense'

# By the name in `config.optimizer.name`: optax's transformation for the dense parameters, without learning
# rate, as a function of `config.optimizer`. Names and arguments are optax's. To add one: an entry here, or
# `module:function` or `file.py:function` as the config's value.
OPTIMIZERS: dict[str, Callable[[ConfigDict], optax.GradientTransformation]] = {
    'adam': lambda options: optax.scale_by_adam(options.b1, options.b2, options.eps),
    'adamw': lambda options: optax.chain(
        optax.scale_by_adam(options.b1, options.b2, options.eps),
        optax.add_decayed_weights(options.weight_decay),
    ),
    'adagrad': lambda options: optax.scale_by_rss(options.initial_accumulator_value, options.eps),
    'sgd': lambda options: (
        optax.trace(options.momentum, options.nesterov) if options.momentum else optax.identity()
    ),
    'lion': lambda options: optax.chain(
        optax.scale_by_lion(options.b1, options.b2), optax.add_decayed_weights(options.weight_decay)
    ),
}
# Those that read `config.optimizer.weight_decay`.
DECAYING = ('adamw', 'lion')


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Pure functions that make and change an optimizer's state.

    Attributes:
      dense: transformation of the dense parameters' gradients, with the learning rate, without the clip;
        where `rows` has none of its own, of all parameters' gradients.
      rows: optimizer of the embedding tables.
      schedule: learning rate by step.
      clip_norm: gradients are scaled to this global norm where theirs is larger; 0: never.
      penalty: lambda of the embedding penalty, lambda / 2 * sum E^2.
    """

    dense: optax.GradientTransformation
    rows: EmbeddingOptimizer
    schedule: optax.Schedule
    clip_norm: float
    penalty: float

    @property
    def _is_joint(self) -> bool:
        """Whether one transformation updates all parameters."""
        return isinstance(self.rows, EveryRow) and self.rows.transformation is None

    def init(self, params: Params) -> dict[str, Any]:
        """State before the first step: `all`, or `dense` and `tables`."""
        if self._is_joint:
            return {'all': self.dense.init(params)}
        return {'dense': self.dense.init(params['dense']), 'tables': self.rows.init(params['tables'])}

    def scratch(self, params: Params) -> dict[str, jax.Array]:
        """Work space, by part of the tables; passed from step to step and never saved."""
        return self.rows.scratch(params['tables'])

    def row_leaves(self, opt_state: dict[str, Any], params: Any) -> dict[str, Any]:
        """Booleans in the structure of a state: whether a leaf has an entry for each embedding row.

        Args:
          opt_state: arrays or shapes, of one run or a stack of runs.
          params: booleans in the structure of the parameters.
        """
        if self._is_joint:
            flags = optax.tree_utils.tree_map_params(
                self.dense,
                lambda _, flag: flag,
                opt_state['all'],
                params,
                transform_non_params=lambda _: False,
            )
            return {'all': flags}
        dense = jax.tree.map(lambda _: False, opt_state['dense'])
        return {'dense': dense, 'tables': self.rows.row_leaves(opt_state['tables'])}

    @jax.named_scope('optimizer')
    def update(
        self,
        params: Params,
        opt_state: dict[str, Any],
        scratch: dict[str, jax.Array],
        gradients: Any,
        row_gradients: embedding.Tables,
        ids: Mapping[str, jax.Array],
        runs: Mapping[str, Runs],
        sharding: TableSharding,
        step: jax.Array,
        scale: jax.Array,
    ) -> tuple[Params, dict[str, Any], dict[str, jax.Array], jax.Array]:
        """Takes a step.

        Args:
          params: `tables` and `dense`, as in `TrainState`.
          opt_state: from `init`.
          scratch: from `scratch`.
          gradients: of the loss without the embedding penalty, with respect to the dense parameters; summed
            over the devices.
          row_gradients: with respect to what the batch reads, float32 [b, reads, k]; a device's own.
          ids: of the batch, by part.
          runs: of the ids' columns, by part.
          sharding: of the tables.
          step: number of steps taken before, int32 scalar.
          scale: factor of the learning rate.

        Returns:
          The new params, opt_state and scratch, and the global norm of the gradient, the penalty included,
          before the clip.
        """
        gradients = self._penalised(gradients, params['dense'])
        collected, row_squares, scratch = self.rows.collect(
            params['tables'], scratch, ids, row_gradients, runs, sharding
        )
        norm = self.rows.norm(sums_of_squares(gradients), row_squares)
        clip = self._clip(norm)
        if self._is_joint:
            gradients = {'dense': gradients, 'tables': collected}
            params, state = self._apply(params, opt_state['all'], gradients, clip, scale)
            return params, {'all': state}, scratch, norm
        dense, dense_state = self._apply(params['dense'], opt_state['dense'], gradients, clip, scale)
        rate = self.schedule(step) * scale
        tables, tables_state = self.rows.update(
            params['tables'], opt_state['tables'], collected, clip, rate, scale, step, sharding
        )
        opt_state = {'dense': dense_state, 'tables': tables_state}
        return {'dense': dense, 'tables': tables}, opt_state, scratch, norm

    @jax.named_scope('apply')
    def _apply(
        self, params: Any, state: Any, gradients: Any, clip: jax.Array, scale: jax.Array
    ) -> tuple[Any, Any]:
        gradients = jax.tree.map(lambda g: g * clip, gradients)
        updates, state = self.dense.update(gradients, state, params)
        return optax.apply_updates(params, jax.tree.map(lambda u: u * scale, updates)), state

    def _penalised(self, gradients: Any, dense: Any) -> Any:
        """Gradients with the penalty's on the numeric fields' vectors, which are embeddings too."""
        if not self.penalty:
            return gradients

        def penalised(gradient: jax.Array, values: jax.Array) -> jax.Array:
            return gradient + self.penalty * values

        found = {
            part: jax.tree.map(penalised, of_part, dense['embedding'][part])
            if part in numeric_embedding.EMBEDDINGS
            else of_part
            for part, of_part in gradients['embedding'].items()
        }
        return {**gradients, 'embedding': found}

    def _clip(self, norm: jax.Array) -> jax.Array:
        """Factor of all gradients."""
        if not self.clip_norm:
            return jnp.ones(())
        return jnp.where(norm > self.clip_norm, self.clip_norm / norm, 1.0)


def make(config: ConfigDict, total_steps: int) -> Optimizer:
    """The optimizer that `config.optimizer` describes.

    Args:
      config: the whole config.
      total_steps: maximum number of steps, for schedules that end.
    """
    options = config.optimizer
    schedule = schedules.learning_rate(config, total_steps)
    direction = plugins.lookup(options.name, OPTIMIZERS, 'config.optimizer.name')(options)

    def with_rate(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
        return optax.chain(transformation, optax.scale_by_learning_rate(schedule))

    return Optimizer(
        with_rate(direction), _rows(config, with_rate), schedule, options.clip_norm, config.embedding.penalty
    )


def _rows(
    config: ConfigDict, with_rate: Callable[[optax.GradientTransformation], optax.GradientTransformation]
) -> EmbeddingOptimizer:
    """Optimizer of the embedding tables."""
    options, penalty = config.optimizer, config.embedding.penalty
    # Adam on both sides is one transformation of all parameters, as it is by default.
    if options.embedding_rows == DENSE or options.embedding_rows == options.name == 'adam':
        return EveryRow(None, penalty)
    rule = plugins.lookup(options.embedding_rows, ROW_OPTIMIZERS, 'config.optimizer.embedding_rows')(options)
    if isinstance(rule, optax.GradientTransformation):
        return EveryRow(with_rate(rule), penalty)
    return TouchedRows(rule, penalty)
