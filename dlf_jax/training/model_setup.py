"""A config's model on its devices: what makes its states and compiles its steps."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dlf_jax.config import build_model
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UsageError, UserError
from dlf_jax.training import model_size, optimizers, train_state
from dlf_jax.training.compilation import Compiled, once_options
from dlf_jax.training.device_memory import device_memory
from dlf_jax.training.embedding_optimizer import EveryRow
from dlf_jax.training.seeds import stacked_seeds, vmap_runs
from dlf_jax.training.sharding import Partitioner
from dlf_jax.training.train_state import TrainState
from dlf_jax.training.train_step import Forward, make_predict_step, make_train_step

_log = logging.getLogger(__name__)

# `auto` cuts tables over the devices where they, with moments and gradients, would fill more than this share
# of one.
_SHARE = 0.25


class ModelSetup:
    """A model for predictions: makes its weights and the compiled forward pass. Holds nothing that training
    changes."""

    # The optimizer whose state is part of the states made here; none for predictions.
    optimizer: optimizers.Optimizer | None = None
    _what = 'weights take'

    def __init__(
        self,
        config: ConfigDict,
        schema: Schema,
        batch_size: int,
        devices: list[jax.Device] | None = None,
    ):
        """Builds the model and shards its state.

        Args:
          config: validated.
          schema: of the data, sizes filled in.
          batch_size: number of rows of a global batch.
          devices: of all hosts; None: all there are.

        Raises:
          UserError: the devices cannot share a batch, or cannot hold the state, or the model needs more
            fields.
        """
        self.config, self.schema = config, schema
        self.forward = Forward(build_model(config), schema, config.precision)
        try:
            self.forward.model.tables_of(len(schema.fields))
        except ValueError as error:
            raise UsageError(f'config.{error}') from error
        devices = jax.devices() if devices is None else devices
        # Bytes that a device may hold.
        self.memory = config.sharding.device_memory or device_memory(devices)
        # By the padding and the number of runs in the stack: JAX traces the same function object once.
        self._creator = functools.cache(self._make_creator)
        shard_rows = self._choose_sharding(devices)
        self.partitioner = Partitioner(batch_size, devices, config.parallel, shard_rows)
        # By the number of runs in the stack; tracing and compiling take time.
        self.abstract_state = functools.cache(self._abstract_state)
        self.predict_step = functools.cache(self.new_predict_step)

    def create(self, seed: jax.Array) -> TrainState:
        """Initial state of a run; pure."""
        return self._create(seed, self.partitioner.multiple)

    def _create(self, seed: jax.Array, multiple: int) -> TrainState:
        std = self.config.embedding.std
        return train_state.create(seed, self.forward.model, self.schema, std, multiple)

    def initial_state(self, seeds: Sequence[int]) -> TrainState:
        """Initial states of the runs of some seeds, as a stack, on the devices; waits for them."""
        create = self._creator(self.partitioner.multiple, len(seeds))
        return self.make(create, len(seeds), stacked_seeds(seeds))

    def _make_creator(self, multiple: int, count: int) -> Callable[[jax.Array], TrainState]:
        return vmap_runs(functools.partial(self._create, multiple=multiple), count)

    def _abstract_state(self, count: int) -> TrainState:
        """Shapes and shardings of the states of a stack of `count` runs."""
        with jax.transfer_guard('allow'):  # shapes alone; nothing is computed
            create = self._creator(self.partitioner.multiple, count)
            shapes = jax.eval_shape(create, stacked_seeds(range(count)))
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            self.shardings(shapes, count),
        )

    def shardings(self, state: TrainState, count: int) -> TrainState:
        """Sharding of every leaf of a state.

        Args:
          state: arrays or shapes; of this setup, or the weights of one.
          count: number of runs in the stack.
        """
        with jax.transfer_guard('allow'):  # optax makes a small state to look at
            row_leaves = train_state.row_leaves(state, self.optimizer)
        return self.partitioner.shardings(row_leaves, count > 1)

    def make(self, function: Callable[..., TrainState], count: int, *args: Any) -> TrainState:
        """Runs a function that makes the state of `count` runs, where the state will live; waits for it."""
        return jax.block_until_ready(self._maker(function, count, *args)(*args))

    def lower_creation(self, count: int) -> jax.stages.Lowered:
        """Traces what makes the initial states of a stack of `count` runs; compiles and makes nothing."""
        create, seeds = self._creator(self.partitioner.multiple, count), stacked_seeds(range(count))
        lowered: jax.stages.Lowered = self._maker(create, count, seeds).lower(seeds)
        return lowered

    def _maker(self, function: Callable[..., TrainState], count: int, *args: Any) -> Any:
        """The function under `jit`, with its result where the state of `count` runs will live."""
        shardings = self.shardings(jax.eval_shape(function, *args), count)
        options = once_options(self.partitioner.platform)
        return jax.jit(function, out_shardings=shardings, compiler_options=options)

    def parameter_counts(self) -> dict[str, int]:
        """Numbers of parameters, see `train_state.parameter_counts`; rows that only pad a table do not
        count."""
        return train_state.parameter_counts(self._unpadded.params)

    @functools.cached_property
    def _unpadded(self) -> TrainState:
        """Shapes of one run's state, without the rows that pad a table."""
        shapes: TrainState = jax.eval_shape(self._creator(1, 1), np.int32(0))
        return shapes

    def new_predict_step(self, count: int) -> Compiled:
        """Compiles `(weights, batch) -> logits` for a stack of so many runs; anew, for another number of rows
        than that of `predict_step`."""
        step = make_predict_step(self.forward, self.partitioner.table_sharding(training=False))
        shapes = self.abstract_state(count).weights()
        shardings = jax.tree.map(lambda x: x.sharding, shapes)
        step = vmap_runs(self.with_precision(step), count, (0, None))
        return self.partitioner.predict(step, shardings, count > 1)

    def with_precision(self, step: Callable) -> Callable:
        """The step with `config.matmul_precision` for its products; 'default' leaves it to JAX."""
        if self.config.matmul_precision == 'default':
            return step

        def precise(*args: Any) -> Any:
            with jax.default_matmul_precision(self.config.matmul_precision):
                return step(*args)

        return precise

    def _choose_sharding(self, devices: list[jax.Device]) -> bool:
        """Whether the rows of tables are cut over the devices."""
        wanted, limit = self.config.sharding.tables, self.memory
        tables, others = self.state_bytes()
        sharded = wanted == 'rows' or (
            wanted == 'auto'
            and self.config.parallel == 'jit'
            and len(devices) > 1
            and tables > _SHARE * limit
        )
        held = others + (-(-tables // len(devices)) if sharded else tables)
        if held > limit:
            raise UserError(
                f'the {self._what} {held / 1e9:.3g} GB of each of {len(devices)} devices, which have '
                f'{limit / 1e9:.3g} GB: {self._advice(others > limit, sharded or len(devices) == 1)}'
            )
        if sharded:
            _log.info('the rows of tables are cut over %d devices', len(devices))
        return sharded

    def _advice(self, dense: bool, cut: bool) -> str:
        """What makes a state smaller that a device cannot hold.

        Args:
          dense: whether it could not hold even what is not in tables.
          cut: whether the tables are as small on each device as they can be.
        """
        if dense:
            return model_size.smaller_dense(self.config, self.schema)
        if cut:
            return (
                'take more devices, a smaller --config.model.embedding_size or a higher '
                '--config.dataset.min_count'
            )
        return 'cut the tables over the devices with --config.sharding.tables=rows'

    def state_bytes(self) -> tuple[int, int]:
        """Bytes of all runs' states in the rows of tables, with what the optimizer keeps of them and the
        gradients that it takes, and in all else."""
        tables, others = self._bytes()
        return self.config.seeds * tables, self.config.seeds * others

    def _bytes(self) -> tuple[int, int]:
        """`state_bytes` of one run."""
        tables = others = 0
        flags = train_state.row_leaves(self._unpadded, self.optimizer)
        for leaf, is_row in zip(jax.tree.leaves(self._unpadded), jax.tree.leaves(flags), strict=True):
            size = leaf.size * leaf.dtype.itemsize
            tables, others = (tables + size, others) if is_row else (tables, others + size)
        return tables, others


class TrainingSetup(ModelSetup):
    """A model and its optimizer: makes states and compiled steps. Holds nothing that training changes."""

    _what = 'state takes'

    def __init__(
        self,
        config: ConfigDict,
        schema: Schema,
        total_steps: int,
        batch_size: int,
        devices: list[jax.Device] | None = None,
    ):
        """Builds model and optimizer and shards their state.

        Args:
          config: validated.
          schema: of the data, sizes filled in.
          total_steps: maximum number of steps, for schedules that end.
          batch_size: number of rows of a global batch.
          devices: of all hosts; None: all there are.

        Raises:
          UserError: the devices cannot share a batch, or cannot hold the state, or the model cannot be
            trained on them.
        """
        self.optimizer = self._optimizer = optimizers.make(config, total_steps)
        super().__init__(config, schema, batch_size, devices)
        try:
            self.forward.model.check_training(config.precision, self.partitioner.devices)
        except ValueError as error:
            raise UsageError(f'config.{error}') from error
        # By the number of runs in the stack.
        self.train_step = functools.cache(self._train_step)

    def _create(self, seed: jax.Array, multiple: int) -> TrainState:
        return train_state.with_optimizer(super()._create(seed, multiple), self._optimizer)

    def body(self) -> Callable:
        """Training step of one run, not compiled."""
        partitioner = self.partitioner
        step = make_train_step(
            self.forward, self._optimizer, partitioner.collectives, partitioner.table_sharding(),
            self.config.training.accumulate,
        )  # fmt: skip
        return self.with_precision(step)

    def _train_step(self, count: int) -> Callable:
        """Compiles `(state, batch) -> (state, metrics)` for a stack of so many runs."""
        size, parts = self.config.training.batch_size, self.config.training.accumulate
        if size % (parts * len(self.partitioner.devices)):
            raise UsageError(
                f'config.training.accumulate={parts}: its parts of a batch of {size} rows cannot be cut '
                f'evenly over {len(self.partitioner.devices)} devices'
            )
        shardings = jax.tree.map(lambda x: x.sharding, self.abstract_state(count))
        return self.partitioner.train(
            vmap_runs(self.body(), count), shardings, count > 1, self.config.deterministic
        )

    def _bytes(self) -> tuple[int, int]:
        tables, others = super()._bytes()
        gradients = self._unpadded.params
        if isinstance(self._optimizer.rows, EveryRow):
            # The gradient is as large as the tables, but for optimizers that touch the batch's rows alone.
            tables += _size(gradients['tables'])
        return tables, others + _size(gradients['dense'])


def _size(tree: Any) -> int:
    """Bytes of a tree of arrays or shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
