"""Where the rows of fused tables lie, and how a step reads and changes them there.

`Whole`: every device holds every row. `ByRows`: each device holds 1/devices of the rows, and of the
optimizer's moments of them; a lookup asks all devices for the rows of a batch, and each changes its
own. Both give the same numbers, to rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from dlf_jax.models import embedding
from dlf_jax.training.collectives import Collectives

# `function(start, *held, *batch)` works on the rows [start, start + rows) of a table.
OnRows = Callable[..., tuple[jax.Array, ...]]


@dataclasses.dataclass(frozen=True)
class Whole:
    """Every device holds the whole tables.

    Attributes:
      collectives: of the step that this is part of.
    """

    collectives: Collectives

    def take(self, values: jax.Array, ids: jax.Array) -> jax.Array:
        """The rows of a batch: see `embedding.take`."""
        return embedding.take(values, ids)

    def dense_gradient(self, values: jax.Array, ids: jax.Array, gradient: jax.Array) -> jax.Array:
        """The gradient of a table from that of the batch's rows, float32 like `values`.

        Args:
          values: the table, [vocabulary, k].
          ids: int32 [b, columns], negative where there is none.
          gradient: float32 [b, columns, k].
        """
        return self.collectives.total(_scatter(0, values, *_flat(ids, gradient))[0])

    def on_rows(
        self, function: OnRows, held: Sequence[jax.Array], batch: Sequence[jax.Array]
    ) -> tuple[jax.Array, ...]:
        """Calls `function` where the rows are.

        Args:
          function: of the first row's number, arrays of rows and arrays of the batch; pure.
          held: arrays [rows, ...] that lie as the tables do.
          batch: arrays [b, ...], of which each call gets the whole batch's.

        Returns:
          What the function returns: arrays that lie as the tables do. Of an array [1] the sum over
          its elements is the sum over all rows.
        """
        return function(0, *held, *map(self.collectives.everywhere, batch))


@dataclasses.dataclass(frozen=True)
class ByRows:
    """Each device of a mesh holds as many consecutive rows; under `jit` only.

    Attributes:
      mesh: one-dimensional; its size divides the tables' rows.
    """

    mesh: Mesh

    @property
    def _axis(self) -> str:
        return self.mesh.axis_names[0]

    def take(self, values: jax.Array, ids: jax.Array) -> jax.Array:
        """The rows of a batch, cut over the devices like `ids`.

        Every device hears the ids of the whole batch (all-gather), puts in the rows that it holds, and
        gets the sum of its own share of the batch (reduce-scatter): the devices' traffic is the
        batch's rows once, the least that a dense exchange needs.
        """

        def local(values: jax.Array, ids: jax.Array) -> jax.Array:
            ids = lax.all_gather(jnp.maximum(ids, 0), self._axis, tiled=True)
            rows = values.shape[0]
            own = ids - lax.axis_index(self._axis) * rows
            here = (own >= 0) & (own < rows)
            past = ids >= rows * self.mesh.size
            taken = jnp.take(values, jnp.clip(own, 0, rows - 1), axis=0)
            taken = jnp.where(here[..., None], taken, jnp.where(past[..., None], jnp.nan, 0.0))
            return lax.psum_scatter(taken, self._axis, tiled=True)

        by_row = PartitionSpec(self._axis)
        return jax.shard_map(local, mesh=self.mesh, in_specs=(by_row, by_row), out_specs=by_row)(values, ids)

    def dense_gradient(self, values: jax.Array, ids: jax.Array, gradient: jax.Array) -> jax.Array:
        """As `Whole.dense_gradient`; lies as the table does."""
        return self.on_rows(_scatter, [values], _flat(ids, gradient))[0]

    def on_rows(
        self, function: OnRows, held: Sequence[jax.Array], batch: Sequence[jax.Array]
    ) -> tuple[jax.Array, ...]:
        """As `Whole.on_rows`, each device with its own rows."""

        def local(held: Sequence[jax.Array], batch: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
            start = lax.axis_index(self._axis) * held[0].shape[0]
            batch = [lax.all_gather(array, self._axis, tiled=True) for array in batch]
            return function(start, *held, *batch)

        by_row = PartitionSpec(self._axis)
        # Nothing is differentiated through this, so the check of what varies over devices is not needed.
        call = jax.shard_map(
            local, mesh=self.mesh, in_specs=(by_row, by_row), out_specs=by_row, check_vma=False
        )
        return call(list(held), list(batch))


Placement = Whole | ByRows


def _flat(ids: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return ids.reshape(-1), gradient.reshape(-1, gradient.shape[-1])


def own_positions(start: jax.Array | int, rows: int, ids: jax.Array) -> jax.Array:
    """Positions of ids among the rows [start, start + rows); `rows` where they are not there."""
    own = ids - start
    return jnp.where((own >= 0) & (own < rows), own, rows)


def _scatter(
    start: jax.Array | int, values: jax.Array, ids: jax.Array, gradient: jax.Array
) -> tuple[jax.Array]:
    own = own_positions(start, values.shape[0], ids)
    return (jnp.zeros_like(values).at[own].add(gradient, mode='drop'),)
