"""What the body of a step asks of the other devices, under `jit` and under `pmap`.

One body serves both. Under `jit` its arrays are the global ones and the compiler adds the
communication; under `pmap` they are a device's share and the body must add it itself. Never
differentiate through these functions: gradients are taken of a device's own terms and summed after.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from jax import lax
from jax.sharding import Sharding

from dlf_jax.models import mode


@dataclasses.dataclass(frozen=True)
class Global(mode.Collectives):
    """Under `jit`: arrays are whole already.

    Attributes:
      replicated: the sharding of what every device is to hold; None on one device.
    """

    replicated: Sharding | None = None

    @property
    def copies(self) -> int:
        """How many devices run the body side by side, each adding terms of the whole batch once more."""
        return 1

    def everywhere(self, rows: jax.Array) -> jax.Array:
        """The rows of the whole batch, on every device: [b, ...] to [B, ...]."""
        return rows if self.replicated is None else lax.with_sharding_constraint(rows, self.replicated)


@dataclasses.dataclass(frozen=True)
class Mapped(mode.Collectives):
    """Under `pmap`: arrays are this device's share.

    Attributes:
      axis_name: of the mapped axis.
    """

    axis_name: str

    @property
    def copies(self) -> int:
        return lax.axis_size(self.axis_name)

    def total(self, tree: Any) -> Any:
        return lax.psum(tree, self.axis_name)

    def index(self) -> jax.Array:
        return lax.axis_index(self.axis_name)

    def everywhere(self, rows: jax.Array) -> jax.Array:
        return lax.all_gather(rows, self.axis_name, tiled=True)


Collectives = Global | Mapped
