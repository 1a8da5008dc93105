"""Where the rows of embedding tables live, and how a step reads and changes them there.

`Replicated`: every device holds all rows. `RowSharded`: each device holds 1/devices of the rows, and of the
optimizer's state for them; a lookup asks all devices for the rows of a batch, and each device changes its own
rows. Both give the same numbers, up to rounding.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from dlf_jax.models import bag_sums, embedding
from dlf_jax.models.bag_sums import Runs
from dlf_jax.training.collectives import StepCollectives

# `function(start, *held, *batch)` works on the rows [start, start + rows) of a table.
OnRows = Callable[..., tuple[jax.Array, ...]]


@dataclasses.dataclass(frozen=True)
class Replicated:
    """Tables of which every device holds all rows.

    Attributes:
      collectives: communication of the step that this is part of.
    """

    collectives: StepCollectives

    def gather(self, values: jax.Array, ids: jax.Array, runs: Runs) -> jax.Array:
        """Rows of a batch; see `embedding.gather`."""
        return embedding.gather(values, ids, runs)

    def dense_gradient(self, values: jax.Array, ids: jax.Array, gradient: jax.Array, runs: Runs) -> jax.Array:
        """Gradient of a whole table from the gradient of a batch's rows, float32 like `values`.

        Args:
          values: the table, [vocabulary, k].
          ids: int32 [b, columns], negative where there is none.
          gradient: of what was read, float32 [b, reads, k].
          runs: of the columns.
        """
        return self.collectives.total(_scatter(runs, 0, values, ids, gradient)[0])

    def on_rows(
        self, function: OnRows, held: Sequence[jax.Array], batch: Sequence[jax.Array]
    ) -> tuple[jax.Array, ...]:
        """Calls `function` where the rows are.

        Args:
          function: pure function of the number of the first row, arrays of rows and arrays of the batch.
          held: arrays that are sharded as the tables are; the first one has an entry per row.
          batch: arrays [b, ...]; each call gets those of the whole batch.

        Returns:
          What the function returns: arrays that are sharded as the tables are. The sum over all devices of an
          array [1] is the sum of its elements.
        """
        return function(0, *held, *map(self.collectives.whole_batch, batch))


@dataclasses.dataclass(frozen=True)
class RowSharded:
    """Tables of which each device of a mesh holds the same number of consecutive rows; under `jit` only.

    Attributes:
      mesh: one-dimensional; its size divides the number of rows.
    """

    mesh: Mesh

    @property
    def _axis(self) -> str:
        return self.mesh.axis_names[0]

    def gather(self, values: jax.Array, ids: jax.Array, runs: Runs) -> jax.Array:
        """Rows of a batch, sharded over the devices like `ids`; see `embedding.gather`.

        Every device receives the ids of the whole batch (all-gather), contributes the rows that it holds, or
        their sums, and gets the sum of its own share of the batch (reduce-scatter). So the devices exchange
        what the batch reads once, the least that a dense exchange needs.
        """

        def lookup(values: jax.Array, ids: jax.Array) -> jax.Array:
            rows, ids = values.shape[0], jnp.maximum(ids, 0)
            own = ids - lax.axis_index(self._axis) * rows
            here = (own >= 0) & (own < rows)
            past = ids >= rows * self.mesh.size
            taken = jnp.take(values, jnp.clip(own, 0, rows - 1), axis=0)
            return jnp.where(here[..., None], taken, jnp.where(past[..., None], jnp.nan, 0.0))

        def local(values: jax.Array, ids: jax.Array) -> jax.Array:
            ids = lax.all_gather(ids, self._axis, tiled=True)
            return lax.psum_scatter(bag_sums.read(lookup, values, ids, runs), self._axis, tiled=True)

        by_row = PartitionSpec(self._axis)
        return jax.shard_map(local, mesh=self.mesh, in_specs=(by_row, by_row), out_specs=by_row)(values, ids)

    def dense_gradient(self, values: jax.Array, ids: jax.Array, gradient: jax.Array, runs: Runs) -> jax.Array:
        """Gradient of a whole table, sharded as the table is; see `Replicated.dense_gradient`."""
        return self.on_rows(functools.partial(_scatter, runs), [values], [ids, gradient])[0]

    def on_rows(
        self, function: OnRows, held: Sequence[jax.Array], batch: Sequence[jax.Array]
    ) -> tuple[jax.Array, ...]:
        """Calls `function` on every device with the device's own rows; see `Replicated.on_rows`."""

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


TableSharding = Replicated | RowSharded


def own_positions(start: jax.Array | int, rows: int, ids: jax.Array) -> jax.Array:
    """Positions of ids among the rows [start, start + rows); `rows` for ids outside of them."""
    own = ids - start
    return jnp.where((own >= 0) & (own < rows), own, rows)


def _scatter(
    runs: Runs, start: jax.Array | int, values: jax.Array, ids: jax.Array, gradient: jax.Array
) -> tuple[jax.Array]:
    own = own_positions(start, values.shape[0], ids)
    return (jnp.zeros_like(values).at[own].add(bag_sums.spread(gradient, runs), mode='drop'),)
