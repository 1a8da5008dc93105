"""Train state: parameters, optimizer state, batch statistics, step."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from dlf_jax.data.schema import Schema
from dlf_jax.models import CTRModel, embedding, initializers
from dlf_jax.training.optimizers import Optimizer

# Purposes of random keys, folded into the seed's key. Dropout's are the steps, from 0 up.
_TABLES, _MODEL = 2**31, 2**31 + 1


class TrainState(flax.struct.PyTreeNode):
    """The state of a run.

    Attributes:
      step: number of steps taken, int32 scalar.
      seed: int32 scalar; the random key of a step is `fold_in(key(seed), step)`, so none is saved.
      params: float32; `tables`, the embedding rows (see `models.embedding`), and `dense`, everything else:
        `embedding` (vectors of numeric fields, projections) and `model` (the module's own).
      batch_stats: running statistics of BatchNorm; empty where the model has none.
      opt_state: from `Optimizer.init`; empty where the state is for predictions alone.
      learning_rate_scale: float32 scalar, 1 until a plateau.
      scratch: work space of the optimizer; its content between steps does not matter, so it is not saved.
    """

    step: jax.Array
    seed: jax.Array
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    opt_state: Any
    learning_rate_scale: jax.Array
    scratch: dict[str, jax.Array]

    def weights(self) -> TrainState:
        """The state without what only training reads; with Adam a third of the memory."""
        return self.replace(opt_state={}, scratch={})


def create(
    seed: jax.Array,
    model: CTRModel,
    schema: Schema,
    std: float,
    multiple: int = 1,
) -> TrainState:
    """Initial weights; pure, to be called under `jit`.

    Args:
      seed: int32 scalar.
      model: declares its tables; called on embeddings.
      schema: of the data, sizes filled in.
      std: standard deviation of the initial embeddings.
      multiple: tables are padded with rows of 0 to a multiple of this.

    Returns:
      A state for predictions; `with_optimizer` makes it one for training.
    """
    key = jax.random.key(seed)
    widths = model.tables_of(len(schema.fields))
    tables, dense = embedding.init(jax.random.fold_in(key, _TABLES), widths, schema, std, multiple)
    embeddings, inputs = embedding.example(widths, schema)
    options: dict[str, Any] = {'inputs': inputs} if model.wants_inputs else {}
    variables = initializers.drawn_together(
        lambda model_key: model.init(model_key, embeddings, **options), jax.random.fold_in(key, _MODEL)
    )
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        seed=jnp.asarray(seed, jnp.int32),
        params={'tables': tables, 'dense': {'embedding': dense, 'model': variables.get('params', {})}},
        batch_stats=variables.get('batch_stats', {}),
        opt_state={},
        learning_rate_scale=jnp.ones(()),
        scratch={},
    )


def with_optimizer(state: TrainState, optimizer: Optimizer) -> TrainState:
    """Initial weights with the optimizer's initial state and work space."""
    return state.replace(opt_state=optimizer.init(state.params), scratch=optimizer.scratch(state.params))


def row_leaves(state: TrainState, optimizer: Optimizer | None = None) -> TrainState:
    """Booleans in the structure of a state: whether a leaf has an entry for each embedding row, and so is
    sharded as the tables are.

    Args:
      state: arrays or their shapes, of one run or a stack of runs.
      optimizer: that made its `opt_state`; None where it is empty.
    """

    def all_are(value: bool, tree: Any) -> Any:
        return jax.tree.map(lambda _: value, tree)

    params = {'tables': all_are(True, state.params['tables']), 'dense': all_are(False, state.params['dense'])}
    opt_state = optimizer.row_leaves(state.opt_state, params) if optimizer and state.opt_state else {}
    flags = all_are(False, state)
    return flags.replace(params=params, opt_state=opt_state, scratch=all_are(True, state.scratch))


def leaf_name(path: tuple) -> str:
    """Name of a leaf by its path in a tree, such as `params.dense.model.tower.kernel`; the same for a state
    and for what Orbax tells of a saved one."""
    return '.'.join(str(getattr(e, 'key', getattr(e, 'name', getattr(e, 'idx', e)))) for e in path)


def parameter_counts(params: dict[str, Any]) -> dict[str, int]:
    """Numbers of parameters: `table` in embeddings, those of numeric fields included, `dense` in the
    model."""

    def count(tree: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    dense = params['dense']
    return {'table': count(params['tables']) + count(dense['embedding']), 'dense': count(dense['model'])}
