"""Where arrays live: each batch is cut over the devices of all hosts; the state is on every one of them, or
the rows of its tables are cut over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dlf_jax import allocator
from dlf_jax.errors import UsageError, UserError
from dlf_jax.training.collectives import Global, Mapped, StepCollectives
from dlf_jax.training.compilation import Compiled, common_options, step_options
from dlf_jax.training.table_sharding import Replicated, RowSharded, TableSharding

AXIS = 'data'
# Arrays of a batch that devices have no use for.
HOST_ONLY = ('group',)


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
        shard_rows: bool = False,
    ):
        """Lays a one-dimensional mesh over the devices.

        Args:
          batch_size: number of rows of a global batch.
          devices: of all hosts; None: all there are.
          parallel: 'jit' or 'pmap', for training; evaluation is under `jit` always.
          shard_rows: whether the rows of tables are cut over the devices.

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
        if parallel == 'pmap' and shard_rows:
            raise UsageError('config.sharding.tables=rows: needs --config.parallel=jit')
        self.parallel, self.devices, self.shard_rows = parallel, found, shard_rows
        self.mesh = Mesh(np.array(found), (AXIS,))
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        # Rows of a table are padded to a multiple of this.
        self.multiple = len(found) if shard_rows else 1

    @property
    def platform(self) -> str:
        """Platform of the devices, such as 'cpu'."""
        return self.devices[0].platform

    @property
    def collectives(self) -> StepCollectives:
        """Communication of the body of a training step."""
        if self.parallel == 'pmap':
            return Mapped(AXIS)
        return Global(self.replicated if len(self.devices) > 1 else None)

    def table_sharding(self, training: bool = True) -> TableSharding:
        """Sharding of the tables, in a training step or in the forward pass of evaluation."""
        if self.shard_rows:
            return RowSharded(self.mesh)
        return Replicated(self.collectives if training else Global())

    def by_row(self, stacked: bool = False) -> NamedSharding:
        """Sharding of arrays [B, ...] whose rows are cut over the devices; stacked: [S, B, ...].

        Each device takes its share of every run's batch, so any number of runs will do.
        """
        return NamedSharding(self.mesh, PartitionSpec(None, AXIS) if stacked else PartitionSpec(AXIS))

    def shardings(self, row_leaves: Any, stacked: bool) -> Any:
        """Sharding of every leaf of a state.

        Args:
          row_leaves: booleans in the state's structure; see `train_state.row_leaves`.
          stacked: whether the state is of a stack of runs, with a leading axis.
        """
        rows = self.by_row(stacked) if self.shard_rows else self.replicated
        return jax.tree.map(lambda is_row: rows if is_row else self.replicated, row_leaves)

    def put(self, batch: dict[str, np.ndarray], stacked: bool = False) -> dict[str, jax.Array]:
        """Puts this host's rows of a batch onto its devices, as a part of the global batch.

        Args:
          batch: arrays [b, ...].
          stacked: they are [S, b, ...], one batch for each of several runs.
        """
        shipped = {name: values for name, values in batch.items() if name not in HOST_ONLY}
        sharding = self.by_row(stacked)
        if jax.process_count() == 1:
            return jax.device_put(shipped, sharding)
        with jax.transfer_guard('allow'):  # asked for
            return {n: jax.make_array_from_process_local_data(sharding, v) for n, v in shipped.items()}

    def shapes(self, batch: dict[str, np.ndarray], rows: int, stacked: int = 1) -> dict[str, Any]:
        """Shapes and shardings of a global batch, as `put` places it.

        Args:
          batch: arrays of any number of rows, of one run.
          rows: number of rows of the global batch.
          stacked: number of runs that each have a batch, [S, B, ...]; 1: [B, ...].
        """
        leading, sharding = (stacked,) * (stacked > 1), self.by_row(stacked > 1)
        return {
            name: jax.ShapeDtypeStruct((*leading, rows, *values.shape[1:]), values.dtype, sharding=sharding)
            for name, values in batch.items()
            if name not in HOST_ONLY
        }

    def put_everywhere(self, value: np.ndarray) -> jax.Array:
        """Puts a small array that all hosts know onto every device."""
        with jax.transfer_guard('allow'):  # asked for
            return jax.make_array_from_callback(value.shape, self.replicated, lambda index: value[index])

    def train(
        self,
        step: Callable,
        state_shardings: Any = None,
        stacked: bool = False,
        deterministic: bool = False,
    ) -> Callable:
        """Compiles `(state, batch) -> (state, metrics)`, once; the old state's memory is reused.

        Args:
          step: pure; made with this partitioner's `collectives` and `table_sharding`.
          state_shardings: from `shardings`; None: on every device.
          stacked: its batches are [S, B, ...].
          deterministic: see `compilation.step_options`.
        """
        # Every step allocates the same again. Not before the state is made, whose arrays come once.
        before_first = allocator.keep_freed_memory if self.platform == 'cpu' else lambda: None
        if self.parallel == 'pmap':
            before_first()
            return _Mapped(self, step, stacked)
        state_shardings = self.replicated if state_shardings is None else state_shardings

        def jitted(state: Any, batch: Any) -> Any:
            del batch
            return jax.jit(
                step,
                in_shardings=(state_shardings, self.by_row(stacked)),
                out_shardings=(state_shardings, self.replicated),
                donate_argnums=0,
                compiler_options=step_options(self.platform, state, deterministic),
            )

        return Compiled('training', jitted, before_first)

    def predict(self, step: Callable, state_shardings: Any, stacked: bool = False) -> Compiled:
        """Compiles `(state, batch) -> logits`, cut over the devices like the batch.

        Args:
          step: pure.
          state_shardings: from `shardings`.
          stacked: the state is of a stack of runs, all of which score the same batch.
        """

        def jitted(state: Any, batch: Any) -> Any:
            del state, batch
            shardings = (state_shardings, self.by_row())
            return jax.jit(
                step,
                in_shardings=shardings,
                out_shardings=self.by_row(stacked),
                compiler_options=common_options(self.platform),
            )

        return Compiled('evaluation', jitted)

    @staticmethod
    def begin_to_fetch(logits: jax.Array) -> None:
        """Begins to copy what `predict` returned to the host; `local_rows` waits for the copy."""
        with jax.transfer_guard('allow'):  # asked for
            logits.copy_to_host_async()

    @staticmethod
    def local_rows(logits: jax.Array) -> np.ndarray:
        """This host's part of what `predict` returned, on the host: [b] or [S, b]."""
        if jax.process_count() == 1:
            return jax.device_get(logits)
        shards = sorted(logits.addressable_shards, key=lambda shard: shard.index[-1].start or 0)
        return np.concatenate(jax.device_get([shard.data for shard in shards]), axis=-1)


class _Mapped:
    """Training step under `pmap`, which takes each process's part of a batch and gives its copies of the
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
