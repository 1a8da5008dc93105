"""Communication between the devices that run the body of a training step, under `jit` and under `pmap`.

One body serves both. Under `jit` its arrays are the global ones and the compiler adds the communication;
under `pmap` they are a device's share and the body asks for it. Never differentiate through these
functions: gradients are taken of a device's own terms and summed afterwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from dlf_jax.models.mode import Collectives


@dataclasses.dataclass(frozen=True)
class Global(Collectives):
    """Collectives of a step under `jit`: arrays are whole already.

    Attributes:
      replicated: sharding of what every device is to hold; None on one device.
    """

    replicated: NamedSharding | None = None

    @property
    def copies(self) -> int:
        """Number of devices that run the body side by side, each adding the whole batch's terms once more."""
        return 1

    def whole_batch(self, rows: jax.Array) -> jax.Array:
        """Rows of the whole batch, on every device: [b, ...] to [B, ...]."""
        return rows if self.replicated is None else lax.with_sharding_constraint(rows, self.replicated)

    def by_rows(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Calls the function on each device; the gradient of the weights is summed over the devices."""
        if self.replicated is None:
            return function
        mesh = self.replicated.mesh
        rows = PartitionSpec(mesh.axis_names)
        # A kernel does not say how its outputs vary over the devices, so JAX cannot check it.
        return jax.shard_map(
            function, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows, check_vma=False
        )


@dataclasses.dataclass(frozen=True)
class Mapped(Collectives):
    """Collectives of a step under `pmap`: arrays are this device's share.

    Attributes:
      axis_name: name of the mapped axis.
    """

    axis_name: str

    @property
    def copies(self) -> int:
        """Number of devices; see `Global.copies`."""
        return lax.axis_size(self.axis_name)

    def total(self, tree: Any) -> Any:
        """Sum over the devices' shares."""
        return lax.psum(tree, self.axis_name)

    def index(self) -> jax.Array:
        """Position of this device's share in the batch."""
        return lax.axis_index(self.axis_name)

    def whole_batch(self, rows: jax.Array) -> jax.Array:
        """Rows of the whole batch; see `Global.whole_batch`."""
        return lax.all_gather(rows, self.axis_name, tiled=True)


StepCollectives = Global | Mapped
