"""Optimizers for embedding rows: their update rules, and the open list of their names.

Dense Adam moves every row at every step, since moments decay and momentum goes on where the gradient is 0.
The optimizers here leave the rows that a batch does not name as they are, moments included, so a step's cost
does not depend on the vocabulary. They are other optimizers than their dense namesakes, and equal to them
where every row is in every batch.

A step first finds the distinct rows of the batch (`dedup`) and sums the gradients of each (`sum_gradients`),
exactly: there is room for as many distinct rows as the batch has ids. Then it updates those rows (`apply`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dlf_jax.training.table_sharding import own_positions

Moments = dict[str, jax.Array]


class RowOptimizer(Protocol):
    """Update rule for single rows."""

    def init(self, values: jax.Array) -> Moments:
        """Moments before the first step, arrays with a first axis as long as that of `values` [rows, k]."""

    def direction(self, gradient: jax.Array, moments: Moments, step: jax.Array) -> tuple[jax.Array, Moments]:
        """Direction that the learning rate multiplies, [n, k], and the new moments of n rows.

        Args:
          gradient: of n distinct rows, float32 [n, k].
          moments: of those rows.
          step: number of steps taken before this one, int32 scalar.
        """


@dataclasses.dataclass(frozen=True)
class LazyAdam:
    """Adam (Kingma & Ba 2015) of the touched rows, bias-corrected by the run's step, like TensorFlow's
    LazyAdam. Moments `mu` and `nu`, each like the table."""

    b1: float
    b2: float
    eps: float

    def init(self, values: jax.Array) -> Moments:
        """Moments of zero; see `RowOptimizer.init`."""
        return {'mu': jnp.zeros_like(values), 'nu': jnp.zeros_like(values)}

    def direction(self, gradient: jax.Array, moments: Moments, step: jax.Array) -> tuple[jax.Array, Moments]:
        """Bias-corrected mean over the root of the bias-corrected variance; see `RowOptimizer.direction`."""
        mu = self.b1 * moments['mu'] + (1 - self.b1) * gradient
        nu = self.b2 * moments['nu'] + (1 - self.b2) * jnp.square(gradient)
        count = (step + 1).astype(jnp.float32)
        corrected_mu = mu / (1 - self.b1**count)
        corrected_nu = nu / (1 - self.b2**count)
        return corrected_mu / (jnp.sqrt(corrected_nu) + self.eps), {'mu': mu, 'nu': nu}


@dataclasses.dataclass(frozen=True)
class Adagrad:
    """Adagrad (Duchi et al. 2011) of the touched rows, with accumulators `nu` like the table. Without a
    penalty the other rows' gradients are 0, so this is Adagrad of the whole table."""

    eps: float
    initial: float = 0.0

    def init(self, values: jax.Array) -> Moments:
        """Accumulators of the initial value; see `RowOptimizer.init`."""
        return {'nu': jnp.full_like(values, self.initial)}

    def direction(self, gradient: jax.Array, moments: Moments, step: jax.Array) -> tuple[jax.Array, Moments]:
        """Gradient over the root of the accumulators; see `RowOptimizer.direction`."""
        del step
        nu = moments['nu'] + jnp.square(gradient)
        return gradient / (jnp.sqrt(nu) + self.eps), {'nu': nu}


@dataclasses.dataclass(frozen=True)
class RowwiseAdagrad:
    """Adagrad (Duchi et al. 2011) with one accumulator a row, `nu: [rows, 1]`, which grows by the mean of the
    squared gradient (FBGEMM's "exact row-wise Adagrad")."""

    eps: float

    def init(self, values: jax.Array) -> Moments:
        """Accumulators of zero; see `RowOptimizer.init`."""
        return {'nu': jnp.zeros_like(values[:, :1])}

    def direction(self, gradient: jax.Array, moments: Moments, step: jax.Array) -> tuple[jax.Array, Moments]:
        """Gradient over the root of the accumulator; see `RowOptimizer.direction`."""
        del step
        nu = moments['nu'] + jnp.mean(jnp.square(gradient), axis=1, keepdims=True)
        return gradient / (jnp.sqrt(nu) + self.eps), {'nu': nu}


@dataclasses.dataclass(frozen=True)
class SGD:
    """Plain stochastic gradient descent of the touched rows; no moments."""

    def init(self, values: jax.Array) -> Moments:
        """No moments; see `RowOptimizer.init`."""
        del values
        return {}

    def direction(self, gradient: jax.Array, moments: Moments, step: jax.Array) -> tuple[jax.Array, Moments]:
        """The gradient; see `RowOptimizer.direction`."""
        del step
        return gradient, moments


# By the name in `config.optimizer.embedding_rows`: a function of `config.optimizer`. A `RowOptimizer`
# updates the rows of the batch; an optax transformation (without the learning rate) updates every row at
# each step. To add one: an entry here, or `module:function` or `file.py:function` as the config's value.
ROW_OPTIMIZERS: dict[str, Callable[[ConfigDict], RowOptimizer | optax.GradientTransformation]] = {
    'adam': lambda options: optax.scale_by_adam(options.b1, options.b2, options.eps),
    'lazy_adam': lambda options: LazyAdam(options.b1, options.b2, options.eps),
    'adagrad': lambda options: Adagrad(options.eps, options.initial_accumulator_value),
    'rowwise_adagrad': lambda options: RowwiseAdagrad(options.eps),
    'sgd': lambda options: SGD(),
}


def dedup(
    start: jax.Array | int, scratch: jax.Array, ids: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Finds the distinct ids of a batch among the rows [start, start + rows).

    Every id writes its place in the batch into its row of `scratch`; the place that stays there represents
    the row. No sorting, and no pass over the table.

    Args:
      start: number of the first row.
      scratch: int32 [rows]; its content does not matter.
      ids: int32 [n]; ids of other rows, and negative ones, are ignored.

    Returns:
      scratch: as it is now.
      positions: for each place of the batch the position among the rows that it represents, int32 [n], or
        `rows` where it represents none.
      representatives: for each place the place that represents its row, int32 [n], or `n` for an ignored id.
    """
    rows, places = scratch.shape[0], jnp.arange(ids.size, dtype=jnp.int32)
    own = own_positions(start, rows, ids)
    scratch = scratch.at[own].set(places, mode='drop')
    representatives = scratch.at[own].get(mode='fill', fill_value=ids.size)
    return scratch, jnp.where(representatives == places, own, rows), representatives


def sum_gradients(
    values: jax.Array, positions: jax.Array, representatives: jax.Array, gradient: jax.Array, penalty: float
) -> tuple[jax.Array, jax.Array]:
    """Sums the gradients of equal ids.

    Args:
      values: the rows, float32 [rows, k].
      positions: int32 [n], from `dedup`.
      representatives: int32 [n], from `dedup`.
      gradient: float32 [n, k].
      penalty: lambda of the embedding penalty, here on the touched rows: adds `lambda E`.

    Returns:
      The summed gradients at the places that represent rows, float32 [n, k], 0 elsewhere; and the sum of
      their squares, float32 [1].
    """
    rows = values.shape[0]
    total = jnp.zeros_like(gradient).at[representatives].add(gradient, mode='drop')
    if penalty:
        here = jnp.take(values, jnp.minimum(positions, rows - 1), axis=0)
        total += jnp.where((positions < rows)[:, None], penalty * here, 0.0)
    # First those of each row, which `RowwiseAdagrad` needs too: one pass over the gradients for both.
    squares = jax.lax.optimization_barrier(jnp.sum(jnp.square(total), 1))
    return total, jnp.sum(squares)[None]


def apply(
    optimizer: RowOptimizer,
    values: jax.Array,
    moments: Mapping[str, jax.Array],
    positions: jax.Array,
    gradient: jax.Array,
    learning_rate: jax.Array,
    step: jax.Array,
) -> tuple[jax.Array, Moments]:
    """Updates the rows at `positions` and their moments.

    Args:
      optimizer: update rule.
      values: the rows, float32 [rows, k].
      moments: of the rows.
      positions: int32 [n] from `dedup`, all different but for `rows`, which stands for none.
      gradient: float32 [n, k], from `sum_gradients`.
      learning_rate: scalar.
      step: number of steps taken before this one.
    """
    there = jnp.minimum(positions, values.shape[0] - 1)
    old = {name: jnp.take(array, there, axis=0) for name, array in moments.items()}
    direction, new = optimizer.direction(gradient, old, step)
    at: dict[str, Any] = {'mode': 'drop', 'unique_indices': True}
    moved = values.at[positions].add(-learning_rate * direction, **at)
    return moved, {name: array.at[positions].set(new[name], **at) for name, array in moments.items()}
