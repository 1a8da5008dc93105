"""Where arrays live: each batch cut over the devices of all hosts, the state on every one of them, or
the rows of its tables cut over them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dlf_jax import allocator
from dlf_jax.errors import UsageError, UserError
from dlf_jax.models import embedding
from dlf_jax.training.collectives import Collectives, Global, Mapped
from dlf_jax.training.table_sharding import ByRows, Placement, Whole

_log = logging.getLogger(__name__)

AXIS = 'data'
# Arrays of a batch that devices have no use for.
HOST_ONLY = ('group',)
# Most bytes of temporary arrays that a step on a CPU takes in one piece. Of single arrays that are larger the
# compiler warns, in lines of its heap_simulator.cc; they do no harm.
_PIECE = allocator.LARGEST // 2


class Partitioner:
    """Data parallelism over the devices of all hosts.

    Under `jit` the means and statistics of a step are over the global batch: the compiler sees one
    program. Under `pmap` the same body says itself what is summed over the devices.
    """

    def __init__(
        self,
        batch_size: int,
        devices: list[jax.Device] | None = None,
        parallel: str = 'jit',
        by_rows: bool = False,
    ):
        """Args:
        batch_size: rows of a global batch.
        devices: of all hosts; None: all there are.
        parallel: 'jit' or 'pmap', for training; evaluation is under `jit` always.
        by_rows: whether the rows of tables are cut over the devices.

        Raises:
          UserError: the devices cannot share the batch.
        """
        # A host's devices side by side, so that its part of a batch is one piece.
        found = sorted(jax.devices() if devices is None else devices, key=lambda d: (d.process_index, d.id))
        if batch_size % len(found):
            raise UserError(
                f'a batch of {batch_size} rows cannot be cut evenly over {len(found)} devices; '
                f'set --config.training.batch_size to a multiple of {len(found)}'
            )
        if parallel == 'pmap' and by_rows:
            raise UsageError('config.sharding.tables=rows: needs --config.parallel=jit')
        self.parallel, self.devices = parallel, found
        self.mesh = Mesh(np.array(found), (AXIS,))
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.by_row = NamedSharding(self.mesh, PartitionSpec(AXIS))
        # Each device takes its share of every run's batch, so any number of runs will do.
        self.by_stacked_row = NamedSharding(self.mesh, PartitionSpec(None, AXIS))
        self.by_rows = by_rows
        # Rows of a table are filled up to a multiple of this.
        self.multiple = len(found) if by_rows else 1

    @property
    def collectives(self) -> Collectives:
        """Of the body of a training step."""
        if self.parallel == 'pmap':
            return Mapped(AXIS)
        return Global(self.replicated if len(self.devices) > 1 else None)

    def placement(self, training: bool = True) -> Placement:
        """Of the tables, in a training step or in the forward pass of evaluation."""
        if self.by_rows:
            return ByRows(self.mesh)
        return Whole(self.collectives if training else Global())

    def shardings(self, shapes: Any) -> Any:
        """The sharding of every leaf of a state: the rows of tables, and the optimizer's moments of
        them, cut over the devices where `by_rows`; all else on every device.

        Args:
          shapes: of a state, or a stack of states.
        """

        def one(path: tuple, leaf: Any) -> NamedSharding:
            return self._rows_of(leaf) if self.by_rows and is_table_rows(path) else self.replicated

        return jax.tree_util.tree_map_with_path(one, shapes)

    def _rows_of(self, leaf: Any) -> NamedSharding:
        """Rows are the last axis but one of a table; the only one of the room to work in, or of a stack
        of runs the second."""
        rows = max(leaf.ndim - 2, 0) if leaf.dtype != np.int32 else leaf.ndim - 1
        return NamedSharding(self.mesh, PartitionSpec(*[None] * rows, AXIS))

    def put(self, batch: dict[str, np.ndarray], stacked: bool = False) -> dict[str, jax.Array]:
        """This host's rows of a batch to its devices, as a part of the global batch.

        Args:
          batch: arrays [b, ...].
          stacked: they are [S, b, ...], one batch for each of several runs.
        """
        shipped = {name: values for name, values in batch.items() if name not in HOST_ONLY}
        sharding = self.by_stacked_row if stacked else self.by_row
        if jax.process_count() == 1:
            return jax.device_put(shipped, sharding)
        with jax.transfer_guard('allow'):  # asked for
            return {n: jax.make_array_from_process_local_data(sharding, v) for n, v in shipped.items()}

    def put_everywhere(self, value: np.ndarray) -> jax.Array:
        """A small array that all hosts know to every device."""
        with jax.transfer_guard('allow'):  # asked for
            return jax.make_array_from_callback(value.shape, self.replicated, lambda index: value[index])

    def make(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs a function that makes a state, so that it is made where it will live; waits for it."""
        shardings = self.shardings(jax.eval_shape(function, *args))
        return jax.block_until_ready(jax.jit(function, out_shardings=shardings)(*args))

    def train(self, step: Callable, stacked: bool = False) -> Callable:
        """Compiles `(state, batch) -> (state, metrics)`, once; the old state's memory is reused.

        Args:
          step: pure; made with this partitioner's `collectives` and `placement`.
          stacked: its batches are [S, B, ...].
        """
        on_cpu = self.devices[0].platform == 'cpu'
        if on_cpu:
            # Every step allocates the same again. Not before the state is made, whose arrays come once.
            allocator.keep_freed_memory()
        if self.parallel == 'pmap':
            return _Mapped(self, step, stacked)

        def jitted(state: Any, batch: Any) -> Any:
            shardings = self.shardings(state)
            rows = self.by_stacked_row if stacked else self.by_row
            return jax.jit(
                step,
                in_shardings=(shardings, rows),
                out_shardings=(shardings, self.replicated),
                donate_argnums=0,
                compiler_options=_temporary_arrays_in_pieces(state) if on_cpu else None,
            )

        return Compiled('training', jitted)

    def predict(self, step: Callable) -> Callable:
        """Compiles `(state, batch) -> logits`, cut over the devices like the batch."""

        def jitted(state: Any, batch: Any) -> Any:
            logits = jax.eval_shape(step, state, batch)
            rows = self.by_row if logits.ndim == 1 else self.by_stacked_row
            return jax.jit(step, in_shardings=(self.shardings(state), self.by_row), out_shardings=rows)

        return Compiled('evaluation', jitted)

    @staticmethod
    def local_rows(logits: jax.Array) -> np.ndarray:
        """This host's part of what `predict` returned, on the host: [b] or [S, b]."""
        if jax.process_count() == 1:
            return jax.device_get(logits)
        shards = sorted(logits.addressable_shards, key=lambda shard: shard.index[-1].start or 0)
        return np.concatenate(jax.device_get([shard.data for shard in shards]), axis=-1)


def is_table_rows(path: tuple) -> bool:
    """Whether a leaf of a state is the rows of a table, moments of them, or room as long as they are."""
    keys = [getattr(entry, 'key', getattr(entry, 'name', None)) for entry in path]
    return ('tables' in keys or 'scratch' in keys) and any(
        isinstance(key, str) and embedding.is_rows(key) for key in keys
    )


def _temporary_arrays_in_pieces(state: Any) -> dict[str, int]:
    """Compiler options with which a step takes its temporary arrays in pieces that the allocator keeps.

    Otherwise they are one piece, and a gigabyte goes back to the system at the end of every step. The most
    that a piece may hold is enough for the gradient of any array of the state.
    """
    largest = max(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return {'xla_multiheap_size_constraint_per_heap': max(largest, _PIECE)}


class Compiled:
    """A function that is compiled ahead of its first call, and never again: other shapes are errors."""

    def __init__(self, name: str, jitted: Callable[..., Any]):
        """Args:
        name: for the log.
        jitted: gives the function under `jit` for the arguments of its first call.
        """
        self._name, self._jitted = name, jitted
        self.executable: jax.stages.Compiled | None = None

    def __call__(self, *args: Any) -> Any:
        if self.executable is None:
            self.compile(*args)
        return self.executable(*args)

    def compile(self, *args: Any) -> None:
        """Compiles for arguments like these, arrays or shapes with shardings."""
        start = time.perf_counter()
        self.executable = self._jitted(*args).lower(*args).compile()
        _log.info('%s compiled in %.1f s; %s', self._name, time.perf_counter() - start, self._memory())

    def _memory(self) -> str:
        found = self.executable.memory_analysis()
        if found is None:
            return 'memory not known'
        held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
        return f'{(held + found.temp_size_in_bytes) / 1e6:,.0f} MB a device, {held / 1e6:,.0f} of them held'


class _Mapped:
    """A training step under `pmap`, which takes each process's part of a batch and gives its copies of the
    state; around it both are global arrays, as under `jit`."""

    def __init__(self, partitioner: Partitioner, step: Callable, stacked: bool):
        self._stacked, self._replicated = stacked, partitioner.replicated
        mine = [d for d in partitioner.devices if d.process_index == jax.process_index()]
        self._count = len(mine)
        rows = PartitionSpec(None, AXIS) if stacked else PartitionSpec(AXIS)
        self._own = NamedSharding(Mesh(np.array(mine), (AXIS,)), rows)
        self._step = jax.pmap(
            step, AXIS, in_axes=(None, 0), out_axes=(None, None), devices=partitioner.devices,
            donate_argnums=0,
        )  # fmt: skip

    def __call__(self, state: Any, batch: dict[str, jax.Array]) -> Any:
        state, metrics = self._step(state, {name: self._cut(values) for name, values in batch.items()})
        return jax.tree.map(self._everywhere, state), metrics

    def _cut(self, values: jax.Array) -> jax.Array:
        """[B, ...] to this process's [devices, b, ...]; [S, B, ...] to [devices, S, b, ...]."""
        if not values.is_fully_addressable:
            shape = list(values.shape)
            shape[1 if self._stacked else 0] //= jax.process_count()
            values = _of_shards(values, tuple(shape), self._own)
        if not self._stacked:
            return values.reshape(self._count, -1, *values.shape[1:])
        cut = values.reshape(values.shape[0], self._count, -1, *values.shape[2:])
        return cut.swapaxes(0, 1)

    def _everywhere(self, copies: jax.Array) -> jax.Array:
        """The global array of which every process has copies."""
        if jax.process_count() == 1:
            return copies
        return _of_shards(copies, copies.shape, self._replicated)


def _of_shards(array: jax.Array, shape: tuple[int, ...], sharding: NamedSharding) -> jax.Array:
    """This process's shards of an array as those of another one, global or its own; without a copy."""
    shards = [shard.data for shard in array.addressable_shards]
    return jax.make_array_from_single_device_arrays(shape, sharding, shards)
