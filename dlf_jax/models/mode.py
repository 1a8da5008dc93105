"""How a model is called: in training or evaluation, on which rows, on how many devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Collectives:
    """Communication between the devices that run one model call; here a single program on the whole batch.

    This is right on one device and under `jit`, where arrays are global and the compiler adds the
    communication. Where each device runs the model on its own share of the batch (`pmap`), a subclass
    replaces the first two methods. Instances must be hashable: they are static arguments of custom gradients.
    """

    def total(self, tree: Any) -> Any:
        """Sums every array of a tree over the devices' shares of the batch."""
        return tree

    def index(self) -> jax.Array | int:
        """Position of this device's share in the batch, an int32 scalar counted from 0."""
        return 0

    def by_rows(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """The function `(rows, weights) -> rows`, called by each device with its own rows of the arrays.

        For a kernel of one's own, which the compiler cannot divide among devices.
        """
        return function


ONE_PROGRAM = Collectives()


@dataclasses.dataclass(frozen=True)
class Mode:
    """How a model is being called; blocks that depend on it take it as their last argument.

    Attributes:
      train: True in training: dropout is active, and BatchNorm uses and records the batch's statistics.
      mask: bool [B], False on rows that only pad the batch; None where there are none.
      collectives: communication with the other devices, for sums over the global batch.
      labels: float32 [B], of the rows in training, for losses of a model's own (`losses`); None where the
        caller has none, such as in predictions.
      weight: float32 [B], weights of the rows beside `labels`; None: every row that `mask` selects weighs 1.
    """

    train: bool = False
    mask: jax.Array | None = None
    collectives: Collectives = ONE_PROGRAM
    labels: jax.Array | None = None
    weight: jax.Array | None = None
