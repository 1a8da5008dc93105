"""Where arrays live: the state on every device, each batch cut over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dlf_jax.errors import UserError

AXIS = 'data'
# Arrays of a batch that devices have no use for.
HOST_ONLY = ('group',)


class Partitioner:
    """Data parallelism over the devices of this process, under `jit`.

    The means and statistics of a step are over the global batch: the compiler sees one program.
    """

    def __init__(self, batch_size: int, devices: list[jax.Device] | None = None):
        devices = jax.local_devices() if devices is None else devices
        if batch_size % len(devices):
            raise UserError(
                f'a batch of {batch_size} rows cannot be cut evenly over {len(devices)} devices; '
                f'set --config.training.batch_size to a multiple of {len(devices)}'
            )
        mesh = Mesh(np.array(devices), (AXIS,))
        self.replicated = NamedSharding(mesh, PartitionSpec())
        self.by_row = NamedSharding(mesh, PartitionSpec(AXIS))
        # Each device takes its share of every run's batch, so any number of runs will do.
        self.by_stacked_row = NamedSharding(mesh, PartitionSpec(None, AXIS))

    def put(self, batch: dict[str, np.ndarray], stacked: bool = False) -> dict[str, jax.Array]:
        """Host rows to the devices.

        Args:
          batch: arrays [B, ...].
          stacked: they are [S, B, ...], one batch for each of several runs.
        """
        shipped = {name: values for name, values in batch.items() if name not in HOST_ONLY}
        return jax.device_put(shipped, self.by_stacked_row if stacked else self.by_row)

    def make(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs a function that makes a state, so that it is made where it will live."""
        return jax.jit(function, out_shardings=self.replicated)(*args)

    def train(self, step: Callable, stacked: bool = False) -> Callable:
        """Compiles `(state, batch) -> (state, metrics)`; the old state's memory is reused.

        Args:
          step: pure.
          stacked: its batches are [S, B, ...].
        """
        return jax.jit(
            step,
            in_shardings=(self.replicated, self.by_stacked_row if stacked else self.by_row),
            out_shardings=(self.replicated, self.replicated),
            donate_argnums=0,
        )

    def predict(self, step: Callable) -> Callable:
        """Compiles `(state, batch) -> logits`."""
        return jax.jit(
            step,
            in_shardings=(self.replicated, self.by_row),
            out_shardings=self.replicated,
        )
