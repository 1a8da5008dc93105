"""The optimizer of a config: optax for the dense parameters, and for the rows of tables optax too or one
that touches the batch's rows alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dlf_jax.models import embedding
from dlf_jax.training import row_optimizers, schedules
from dlf_jax.training.row_optimizers import RowOptimizer
from dlf_jax.training.table_sharding import Placement

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Pure functions that make and change an optimizer's state.

    Attributes:
      dense: of all parameters, or with `rows` of all but the rows of tables; without the clip.
      rows: of the rows of tables; None: they are dense parameters like the others.
      schedule: learning rate by step.
      clip_norm: gradients are scaled to this global norm where theirs is larger; 0: never.
      penalty: lambda of the embedding penalty.
    """

    dense: optax.GradientTransformation
    rows: RowOptimizer | None
    schedule: optax.Schedule
    clip_norm: float
    penalty: float

    def init(self, params: Params) -> dict[str, Any]:
        """The state before the first step: `dense`, optax's; with `rows`, `tables`: their moments."""
        if self.rows is None:
            return {'dense': self.dense.init(params)}
        rows, others = embedding.split(params['tables'])
        moments = {
            table: {part: self.rows.init(values) for part, values in parts.items()}
            for table, parts in rows.items()
        }
        return {'dense': self.dense.init({**params, 'tables': others}), 'tables': moments}

    def scratch(self, params: Params) -> dict[str, jax.Array]:
        """Room to work in, by part of the tables; passed from step to step and never saved."""
        if self.rows is None:
            return {}
        rows, _ = embedding.split(params['tables'])
        sizes = {part: values.shape[0] for parts in rows.values() for part, values in parts.items()}
        return {part: row_optimizers.scratch(size) for part, size in sizes.items()}

    def update(
        self,
        params: Params,
        opt_state: dict[str, Any],
        scratch: dict[str, jax.Array],
        gradients: Params,
        row_gradients: embedding.Tables,
        ids: Mapping[str, jax.Array],
        placement: Placement,
        step: jax.Array,
        scale: jax.Array,
    ) -> tuple[Params, dict[str, Any], dict[str, jax.Array], jax.Array]:
        """Takes a step.

        Args:
          params: whole, as in `TrainState`.
          opt_state: of `init`.
          scratch: of `scratch`.
          gradients: of the loss without the embedding penalty, of all parameters but the rows of
            tables; summed over the devices.
          row_gradients: of the batch's rows, float32 [b, columns, k]; a device's own.
          ids: of those rows, by part.
          placement: of the tables.
          step: steps taken before, int32 scalar.
          scale: of the learning rate.

        Returns:
          The new params, opt_state and scratch, and the global norm of the gradient, the penalty
          included, before the clip.
        """
        rows, others = embedding.split(params['tables'])
        gradients = {**gradients, 'tables': self._penalised(gradients['tables'], others)}
        if self.rows is None:
            dense_rows = {
                table: {
                    part: placement.dense_gradient(values, ids[part], row_gradients[table][part])
                    for part, values in parts.items()
                }
                for table, parts in rows.items()
            }
            tables = embedding.join(self._penalised(dense_rows, rows), gradients['tables'])
            gradients = {**gradients, 'tables': tables}
            norm = optax.global_norm(gradients)
            params, dense = self._dense(params, opt_state['dense'], gradients, norm, scale)
            return params, {'dense': dense}, scratch, norm

        touched: dict[str, dict[str, Any]] = {table: {} for table in rows}
        squares = jnp.square(optax.global_norm(gradients))
        for table, parts in rows.items():
            for part, values in parts.items():
                flat = ids[part].reshape(-1)
                gradient = row_gradients[table][part].reshape(-1, values.shape[1])

                def distinct(start, values, room, ids, gradient):
                    return row_optimizers.distinct(start, values, room, ids, gradient, self.penalty)

                held = [values, scratch[part]]
                room, positions, summed, square = placement.on_rows(distinct, held, [flat, gradient])
                scratch = {**scratch, part: room}
                touched[table][part] = positions, summed
                squares += jnp.sum(square)
        norm = jnp.sqrt(squares)
        without_rows, dense = self._dense(
            {**params, 'tables': others}, opt_state['dense'], gradients, norm, scale
        )
        rate, clip = self.schedule(step) * scale, self._clip(norm)
        changed: embedding.Tables = {table: {} for table in rows}
        moments: dict[str, dict[str, Any]] = {table: {} for table in rows}
        for table, parts in rows.items():
            for part, values in parts.items():
                changed[table][part], moments[table][part] = self._change(
                    placement, values, opt_state['tables'][table][part], *touched[table][part],
                    clip, rate, step,
                )  # fmt: skip
        params = {**without_rows, 'tables': embedding.join(changed, without_rows['tables'])}
        return params, {'dense': dense, 'tables': moments}, scratch, norm

    def _penalised(self, gradients: embedding.Tables, tables: embedding.Tables) -> embedding.Tables:
        """With the gradient of lambda / 2 * sum E^2."""
        if not self.penalty:
            return gradients
        return {
            table: {
                part: g if embedding.is_projection(part) else g + self.penalty * tables[table][part]
                for part, g in parts.items()
            }
            for table, parts in gradients.items()
        }

    def _clip(self, norm: jax.Array) -> jax.Array:
        """What gradients are multiplied by."""
        if not self.clip_norm:
            return jnp.ones(())
        return jnp.where(norm > self.clip_norm, self.clip_norm / norm, 1.0)

    def _dense(
        self, params: Params, state: Any, gradients: Params, norm: jax.Array, scale: jax.Array
    ) -> tuple[Params, Any]:
        clip = self._clip(norm)
        gradients = jax.tree.map(lambda g: g * clip, gradients)
        updates, state = self.dense.update(gradients, state, params)
        return optax.apply_updates(params, jax.tree.map(lambda u: u * scale, updates)), state

    def _change(
        self, placement: Placement, values: jax.Array, moments: dict[str, jax.Array], positions: jax.Array,
        gradient: jax.Array, clip: jax.Array, rate: jax.Array, step: jax.Array,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:  # fmt: skip
        names = list(moments)

        def change(start, values, positions, gradient, *moments):
            del start
            named = dict(zip(names, moments, strict=True))
            values, new = row_optimizers.change(
                self.rows, values, named, positions, gradient * clip, rate, step
            )
            return values, *new.values()

        held = [values, positions, gradient, *moments.values()]
        values, *new = placement.on_rows(change, held, [])
        return values, dict(zip(names, new, strict=True))


def make(config: ConfigDict, total_steps: int) -> Optimizer:
    """The optimizer that `config.optimizer` describes.

    Args:
      config: the whole config.
      total_steps: at most, for schedules that end.
    """
    options = config.optimizer
    schedule = schedules.learning_rate(config, total_steps)
    rows: dict[str, RowOptimizer | None] = {
        'adam': None,
        'lazy_adam': row_optimizers.LazyAdam(options.b1, options.b2, options.eps),
        'rowwise_adagrad': row_optimizers.RowwiseAdagrad(options.eps),
        'sgd': row_optimizers.SGD(),
    }
    dense = optax.chain(
        optax.scale_by_adam(options.b1, options.b2, options.eps), optax.scale_by_learning_rate(schedule)
    )
    return Optimizer(dense, rows[options.tables], schedule, options.clip_norm, config.embedding.penalty)
