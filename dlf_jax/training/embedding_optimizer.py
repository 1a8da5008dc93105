"""Optimizers of whole embedding tables: every row at each step, or the rows of the batch alone.

Both work in two phases, because gradients are clipped by the norm of all of them: `collect` turns the
gradients of a batch's rows into those of the tables, `update` applies them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dlf_jax.models import bag_sums
from dlf_jax.models.bag_sums import Runs
from dlf_jax.models.embedding import Tables
from dlf_jax.training import row_optimizers
from dlf_jax.training.row_optimizers import RowOptimizer
from dlf_jax.training.table_sharding import TableSharding

Scratch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class EveryRow:
    """Optimizer that updates every embedding row at each step.

    Attributes:
      transformation: optax's, with the learning rate; None: the tables are updated together with the dense
        parameters, by one transformation of both.
      penalty: lambda of the embedding penalty, on all rows.
    """

    transformation: optax.GradientTransformation | None
    penalty: float

    def init(self, tables: Tables) -> Any:
        """State before the first step."""
        assert self.transformation is not None
        return self.transformation.init(tables)

    def scratch(self, tables: Tables) -> Scratch:
        """Work space; none."""
        del tables
        return {}

    def row_leaves(self, state: Any) -> Any:
        """Booleans in the structure of a state: whether a leaf has an entry for each row."""
        return optax.tree_utils.tree_map_params(
            self.transformation, lambda _: True, state, transform_non_params=lambda _: False
        )

    @jax.named_scope('gather_gradients')
    def collect(
        self,
        tables: Tables,
        scratch: Scratch,
        ids: Mapping[str, jax.Array],
        gradients: Tables,
        runs: Mapping[str, Runs],
        sharding: TableSharding,
    ) -> tuple[Tables, Tables, Scratch]:
        """Gradients of the tables, with the penalty's.

        Args:
          tables: the fused tables.
          scratch: from `scratch`.
          ids: of the batch's rows, by part, int32 [b, columns].
          gradients: of what the batch reads, float32 [b, reads, k]; a device's own.
          runs: of the columns, by part.
          sharding: of the tables.

        Returns:
          The gradients, the sums of their squares by part and table, and the work space.
        """

        def dense(part: str, table: str, values: jax.Array) -> jax.Array:
            return sharding.dense_gradient(values, ids[part], gradients[part][table], runs[part])

        found = {
            part: {table: dense(part, table, values) for table, values in by_table.items()}
            for part, by_table in tables.items()
        }
        if self.penalty:
            found = jax.tree.map(lambda g, values: g + self.penalty * values, found, tables)
        return found, sums_of_squares(found), scratch

    def norm(self, dense: Any, rows: Tables) -> jax.Array:
        """Global norm of the gradients.

        Args:
          dense: sums of squares of the dense parameters' gradients, by parameter.
          rows: sums of squares from `collect`.
        """
        # In an order that has not changed since the first version, which the last bits depend on.
        return jnp.sqrt(_sum([dense['model'], _by_table({**dense['embedding'], **rows})]))

    @jax.named_scope('apply_rows')
    def update(
        self,
        tables: Tables,
        state: Any,
        collected: Tables,
        clip: jax.Array,
        learning_rate: jax.Array,
        scale: jax.Array,
        step: jax.Array,
        sharding: TableSharding,
    ) -> tuple[Tables, Any]:
        """The new tables and state.

        Args:
          tables: the fused tables.
          state: from `init`.
          collected: from `collect`.
          clip: factor of all gradients.
          learning_rate: of this step, with `scale`; the transformation has its own.
          scale: factor of the learning rate.
          step: number of steps taken before this one.
          sharding: of the tables.
        """
        del learning_rate, step, sharding
        gradients = jax.tree.map(lambda g: g * clip, collected)
        assert self.transformation is not None
        updates, state = self.transformation.update(gradients, state, tables)
        return optax.apply_updates(tables, jax.tree.map(lambda u: u * scale, updates)), state


@dataclasses.dataclass(frozen=True)
class TouchedRows:
    """Optimizer that updates the rows of the batch alone.

    Attributes:
      rule: update rule of a row.
      penalty: lambda of the embedding penalty, on the touched rows.
    """

    rule: RowOptimizer
    penalty: float

    def init(self, tables: Tables) -> Any:
        """Moments before the first step, by part and table."""
        return jax.tree.map(self.rule.init, tables)

    def scratch(self, tables: Tables) -> Scratch:
        """Work space, int32 [rows] for each part; passed from step to step and never saved."""
        rows = {part: next(iter(by_table.values())).shape[0] for part, by_table in tables.items()}
        return {part: jnp.zeros((count,), jnp.int32) for part, count in rows.items()}

    def row_leaves(self, state: Any) -> Any:
        """Booleans in the structure of a state: every moment has an entry for each row."""
        return jax.tree.map(lambda _: True, state)

    @jax.named_scope('gather_gradients')
    def collect(
        self,
        tables: Tables,
        scratch: Scratch,
        ids: Mapping[str, jax.Array],
        gradients: Tables,
        runs: Mapping[str, Runs],
        sharding: TableSharding,
    ) -> tuple[Any, Tables, Scratch]:
        """Positions and summed gradients of the touched rows; see `EveryRow.collect`."""
        collected: dict[str, dict[str, tuple[jax.Array, jax.Array]]] = {}
        squares: Tables = {}
        room: Scratch = {}
        for part, by_table in tables.items():
            flat = ids[part].reshape(-1)
            room[part], positions, represented = sharding.on_rows(
                row_optimizers.dedup, [scratch[part]], [flat]
            )
            collected[part], squares[part] = {}, {}
            summing = functools.partial(self._summed, runs[part])
            for table, values in by_table.items():
                gradient = gradients[part][table]
                summed, square = sharding.on_rows(summing, [values, positions, represented], [gradient])
                squares[part][table] = jnp.sum(square)
                collected[part][table] = positions, summed
        return collected, squares, room

    def norm(self, dense: Any, rows: Tables) -> jax.Array:
        """Global norm of the gradients; see `EveryRow.norm`."""
        dense_norm = jnp.sqrt(_sum([dense['model'], _by_table(dense['embedding'])]))
        return jnp.sqrt(_sum([jnp.square(dense_norm), _by_table(rows)]))

    def _summed(
        self,
        runs: Runs,
        start: jax.Array | int,
        values: jax.Array,
        positions: jax.Array,
        representatives: jax.Array,
        gradient: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        del start
        gradient = bag_sums.spread(gradient, runs).reshape(-1, values.shape[1])
        return row_optimizers.sum_gradients(values, positions, representatives, gradient, self.penalty)

    @jax.named_scope('apply_rows')
    def update(
        self,
        tables: Tables,
        state: Any,
        collected: Any,
        clip: jax.Array,
        learning_rate: jax.Array,
        scale: jax.Array,
        step: jax.Array,
        sharding: TableSharding,
    ) -> tuple[Tables, Any]:
        """The new tables and moments; see `EveryRow.update`."""
        del scale

        def one(values: jax.Array, moments: row_optimizers.Moments, found: tuple) -> tuple:
            names = list(moments)

            def apply(
                start: jax.Array | int,
                values: jax.Array,
                positions: jax.Array,
                gradient: jax.Array,
                *moments: jax.Array,
            ) -> tuple[jax.Array, ...]:
                del start
                named = dict(zip(names, moments, strict=True))
                values, new = row_optimizers.apply(
                    self.rule, values, named, positions, gradient * clip, learning_rate, step
                )
                return values, *new.values()

            values, *new = sharding.on_rows(apply, [values, *found, *moments.values()], [])
            return values, dict(zip(names, new, strict=True))

        changed = jax.tree.map(one, tables, state, collected)
        tables, state = (jax.tree.map(lambda _, pair, i=i: pair[i], tables, changed) for i in (0, 1))
        return tables, state


EmbeddingOptimizer = EveryRow | TouchedRows


def sums_of_squares(tree: Any) -> Any:
    """Sum of the squares of each array of a tree, float32 scalars."""
    return jax.tree.map(lambda x: jnp.sum(jnp.square(x)), tree)


def _sum(tree: Any) -> jax.Array:
    """Sum of all scalars of a tree, in its order."""
    total: Any = sum(jax.tree.leaves(tree))
    return total


def _by_table(tables: Tables) -> dict[str, dict[str, jax.Array]]:
    """Arrays by table and part instead of by part and table."""
    found: dict[str, dict[str, jax.Array]] = {}
    for part, by_table in tables.items():
        for table, values in by_table.items():
            found.setdefault(table, {})[part] = values
    return found
