"""Everything that a step changes."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from dlf_jax.data.schema import Schema
from dlf_jax.models import embedding
from dlf_jax.training.optimizers import Optimizer

# What a random key is for; folded into the seed's key. Dropout's are the steps, from 0 up.
_TABLES, _MODEL = 2**31, 2**31 + 1


class TrainState(flax.struct.PyTreeNode):
    """The state of a run.

    Attributes:
      step: steps taken, int32 scalar.
      seed: int32 scalar; the key of a step is `fold_in(key(seed), step)`, so none is saved.
      params: {'tables': {name: {'categorical', 'numeric'}}, 'model': the module's}, float32.
      batch_stats: BatchNorm's running statistics; empty where the model has none.
      opt_state: of `Optimizer.init`.
      learning_rate_scale: float32 scalar, 1 until a plateau.
      scratch: room for the optimizer to work in; what it holds between steps does not matter, so it
        is not saved.
    """

    step: jax.Array
    seed: jax.Array
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    opt_state: Any
    learning_rate_scale: jax.Array
    scratch: dict[str, jax.Array]

    def weights(self) -> TrainState:
        """Without what only training reads: all that predictions need; with Adam a third of the memory."""
        return self.replace(opt_state={}, scratch={})


def create(
    seed: jax.Array,
    model: nn.Module,
    schema: Schema,
    optimizer: Optimizer,
    std: float,
    multiple: int = 1,
) -> TrainState:
    """The state before the first step; pure, to be called under `jit`.

    Args:
      seed: int32 scalar.
      model: declares its tables; called on looked-up rows.
      schema: of the data, sizes filled in.
      optimizer: its state is made for all parameters.
      std: of the initial embeddings.
      multiple: rows of tables are filled up to a multiple of this.
    """
    key = jax.random.key(seed)
    tables = embedding.init(
        jax.random.fold_in(key, _TABLES),
        model.tables,
        schema,
        std,
        multiple,
    )
    fields = len(schema.fields)
    rows = {name: jnp.zeros((2, fields, width)) for name, width in model.tables.items()}
    variables = model.init(jax.random.fold_in(key, _MODEL), rows)
    params = {'tables': tables, 'model': variables.get('params', {})}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        seed=jnp.asarray(seed, jnp.int32),
        params=params,
        batch_stats=variables.get('batch_stats', {}),
        opt_state=optimizer.init(params),
        learning_rate_scale=jnp.ones(()),
        scratch=optimizer.scratch(params),
    )


def parameter_counts(params: dict[str, Any]) -> dict[str, int]:
    """Numbers of parameters: `table` in the embedding tables, `dense` in the model."""

    def count(tree: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    return {'table': count(params['tables']), 'dense': count(params['model'])}
