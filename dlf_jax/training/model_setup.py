"""A config's model, optimizer and devices: what makes its states and its steps."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dlf_jax.config import build_model
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UsageError, UserError
from dlf_jax.training import optimizers
from dlf_jax.training import train_state as states
from dlf_jax.training import train_step as steps
from dlf_jax.training.seeds import vmap_runs
from dlf_jax.training.sharding import Partitioner, is_table_rows

_log = logging.getLogger(__name__)

# `auto` cuts tables over the devices where they, with moments and gradients, would fill more than this
# share of one.
_SHARE = 0.25


class Learner:
    """Makes states and compiled steps; holds nothing that training changes."""

    def __init__(
        self,
        config: ConfigDict,
        schema: Schema,
        total_steps: int,
        batch_size: int,
        devices: list[jax.Device] | None = None,
        training: bool = True,
    ):
        """Args:
        config: validated.
        schema: of the data, sizes filled in.
        total_steps: at most, for schedules that end.
        batch_size: rows of a global batch.
        devices: of all hosts; None: all there are.
        training: whether devices must have room for what training needs; False: for weights alone.

        Raises:
          UserError: the devices cannot share a batch, or cannot hold the state.
        """
        self._config, self.schema = config, schema
        self._optimizer = optimizers.make(config, total_steps)
        self.forward = steps.Forward(build_model(config), schema, config.precision)
        devices = jax.devices() if devices is None else devices
        by_rows = self._choose(devices, training)
        self.partitioner = Partitioner(batch_size, devices, config.parallel, by_rows)
        # Compiled for a number of runs in the stack.
        self.train_step = functools.cache(self._train_step)
        self.predict_step = functools.cache(self._predict_step)

    def create(self, seed: jax.Array) -> states.TrainState:
        """The state of a run before its first step; pure."""
        return self._create(seed, self.partitioner.multiple)

    def create_weights(self, seed: jax.Array) -> states.TrainState:
        """The weights of that state: what predictions need; pure."""
        return self.create(seed).weights()

    def _create(self, seed: jax.Array, multiple: int) -> states.TrainState:
        std = self._config.embedding.std
        return states.create(seed, self.forward.model, self.schema, self._optimizer, std, multiple)

    def parameter_counts(self) -> dict[str, int]:
        """See `state.parameter_counts`; rows that only fill a table up do not count."""
        shapes = jax.eval_shape(functools.partial(self._create, multiple=1), np.int32(0))
        return states.parameter_counts(shapes.params)

    def body(self) -> Callable:
        """The training step of one run, not compiled."""
        partitioner = self.partitioner
        return steps.make_train_step(
            self.forward, self._optimizer, partitioner.collectives, partitioner.placement(),
            self._config.training.accumulate,
        )  # fmt: skip

    def _train_step(self, count: int) -> Callable:
        """Compiles `(state, batch) -> (state, metrics)` for a stack of so many runs."""
        size, parts = self._config.training.batch_size, self._config.training.accumulate
        if size % (parts * len(self.partitioner.devices)):
            raise UsageError(
                f'config.training.accumulate={parts}: its parts of a batch of {size} rows cannot be cut '
                f'evenly over {len(self.partitioner.devices)} devices'
            )
        return self.partitioner.train(vmap_runs(self.body(), count), count > 1)

    def _predict_step(self, count: int) -> Callable:
        """Compiles `(state, batch) -> logits` for a stack of so many runs."""
        step = steps.make_predict_step(self.forward, self.partitioner.placement(training=False))
        return self.partitioner.predict(vmap_runs(step, count, (0, None)))

    def _choose(self, devices: list[jax.Device], training: bool) -> bool:
        """Whether the rows of tables are cut over the devices."""
        wanted = self._config.sharding.tables
        shapes = jax.eval_shape(functools.partial(self._create, multiple=1), np.int32(0))
        tables, others = _bytes_of(shapes if training else shapes.weights())
        if training and not self._optimizer.rows:
            # The gradient is as large as the table, but for optimizers that touch the batch's rows alone.
            tables += tables // 3
        runs = self._config.seeds
        tables, others = runs * tables, runs * others
        limit = self._config.sharding.device_memory or device_memory(devices)
        by_rows = wanted == 'rows' or (
            wanted == 'auto'
            and self._config.parallel == 'jit'
            and len(devices) > 1
            and tables > _SHARE * limit
        )
        held = others + (-(-tables // len(devices)) if by_rows else tables)
        if held > limit:
            advice = (
                'take more devices, a smaller --config.model.embedding_size or a higher '
                '--config.dataset.min_count'
                if by_rows or len(devices) == 1
                else 'cut the tables over the devices with --config.sharding.tables=rows'
            )
            what = 'state takes' if training else 'weights take'
            raise UserError(
                f'the {what} {held / 1e9:.3g} GB of each of {len(devices)} devices, which have '
                f'{limit / 1e9:.3g} GB: {advice}'
            )
        if by_rows:
            _log.info('the rows of tables are cut over %d devices', len(devices))
        return by_rows


def device_memory(devices: list[jax.Device]) -> float:
    """Bytes that each device may hold; of CPU devices, its share of the machine's."""
    found = devices[0].memory_stats() if devices[0].platform != 'cpu' else None
    if found and 'bytes_limit' in found:
        return found['bytes_limit']
    local = sum(device.process_index == devices[0].process_index for device in devices)
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / local


def _bytes_of(shapes: Any) -> tuple[int, int]:
    """Bytes of a state in the rows of tables, with their moments, and in all else."""
    tables = others = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        size = leaf.size * leaf.dtype.itemsize
        if is_table_rows(path):
            tables += size
        else:
            others += size
    return tables, others
