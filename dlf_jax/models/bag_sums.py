"""Rows of a table, some of them summed over the values of a multi-valued field where they are read.

A field of 100 values whose embeddings are summed needs one vector, not the 100 that its ids name: reading
writes none of those to memory, devices that share a table exchange sums, and the gradient, the same for all
values of a sum, is spread where it meets the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# Rows of a table by id, those of `PADDING` included: from [rows, k] and int32 [..., n] to [..., n, k].
Lookup = Callable[[jax.Array, jax.Array], jax.Array]
# Values that a CPU adds in one loop over the rows.
_UNROLLED = 8


class Run(NamedTuple):
    """Columns of ids that lie side by side and are read alike.

    Attributes:
      columns: how many.
      summed: whether their rows are summed, those of `PADDING` left out.
    """

    columns: int
    summed: bool


Runs = tuple[Run, ...]


def read(lookup: Lookup, values: jax.Array, ids: jax.Array, runs: Runs) -> jax.Array:
    """Rows of a batch: of a summed run one, of another one for each column.

    Args:
      lookup: takes the rows.
      values: the table, [rows, k].
      ids: int32 [B, columns].
      runs: of the columns.

    Returns:
      [B, reads, k].
    """
    if not any(run.summed for run in runs):
        return lookup(values, ids)
    parts, start = [], 0
    for run in runs:
        own = ids[:, start : start + run.columns]
        parts.append(_sum(lookup, values, own) if run.summed else lookup(values, own))
        start += run.columns
    return jnp.concatenate(parts, 1)


def _sum(lookup: Lookup, values: jax.Array, ids: jax.Array) -> jax.Array:
    """Sum of the rows of ids [B, n], [B, 1, k]."""

    def rows(values: jax.Array, ids: jax.Array) -> jax.Array:
        return jnp.where((ids >= 0)[..., None], lookup(values, ids), 0.0)

    def at_once(values: jax.Array, ids: jax.Array) -> jax.Array:
        return jnp.sum(rows(values, ids), 1, keepdims=True)

    def one_by_one(values: jax.Array, ids: jax.Array) -> jax.Array:
        def add(total: jax.Array, column: jax.Array) -> tuple[jax.Array, None]:
            return total + rows(values, column), None

        first, others = rows(values, ids[:, 0]), ids.T[1:]
        return lax.scan(add, first, others, unroll=min(len(others), _UNROLLED))[0][:, None]

    if ids.shape[1] == 1:
        return rows(values, ids)

    # GPUs take the rows within the sum. A CPU would write them all to memory first, or read the table number
    # by number: with DLRM's bags (214 values of width 128) one by one is 5 to 10 times as fast.
    return lax.platform_dependent(values, ids, cpu=one_by_one, default=at_once)


def spread(gradient: jax.Array, runs: Runs) -> jax.Array:
    """Gradient of the rows of every column from that of what was read: [B, reads, k] to [B, columns, k].

    Columns of `PADDING` get their run's too, which whoever adds it to rows leaves out.
    """
    if not any(run.summed for run in runs):
        return gradient
    parts, start = [], 0
    for run in runs:
        count = 1 if run.summed else run.columns
        own = gradient[:, start : start + count]
        shape = len(gradient), run.columns, gradient.shape[-1]
        parts.append(jnp.broadcast_to(own, shape) if run.summed else own)
        start += count
    return jnp.concatenate(parts, 1)
