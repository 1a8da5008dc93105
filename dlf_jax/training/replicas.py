"""Runs that differ in their seed alone, trained together by one program.

Their states are stacked on a leading axis, [S, ...], and so are their batches, [S, B, ...]: each run
has its own order of rows. A stack of one run is that run's state itself, without the axis, so a
single run is compiled as its own step and not as a batched one.

A run that has stopped leaves the stack, and the others go on in a smaller one.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dlf_jax.data.pipeline import Batch, TrainingBatches
from dlf_jax.training.schedules import Plateau


@dataclasses.dataclass(frozen=True)
class Progress:
    """What is known of a run beside its state.

    Attributes:
      steps: taken; fewer than the other runs' once it has stopped.
      evaluated: the step of the latest evaluation.
      plateau: of the evaluations so far.
      best: validation metrics at the best step: auc, logloss, rows.
      seconds: spent so far, all told.
      training_seconds: of these, in steps after the first (which compiles).
      training_samples: rows trained on in those.
    """

    steps: int = 0
    evaluated: int = 0
    plateau: Plateau = dataclasses.field(default_factory=Plateau)
    best: dict[str, Any] | None = None
    seconds: float = 0.0
    training_seconds: float = 0.0
    training_samples: int = 0

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Progress:
        plateau = Plateau(**{**saved['plateau'], 'top': tuple(map(tuple, saved['plateau'].get('top', ())))})
        # Checkpoints were once saved after their evaluation.
        return cls(**{'evaluated': saved['steps'], **saved, 'plateau': plateau})


# By seed, in the order of the stack.
Runs = dict[int, Progress]


def seeds(config: ConfigDict) -> range:
    """The seeds of a config's runs."""
    return range(config.seed, config.seed + config.seeds)


def steps_taken(runs: Runs) -> int:
    """Steps of the runs that got furthest."""
    return max(run.steps for run in runs.values())


def in_stack(runs: Runs) -> Runs:
    """The runs whose states the stack at the latest step holds."""
    latest = steps_taken(runs)
    return {seed: run for seed, run in runs.items() if run.steps == latest}


def best_seed(runs: Runs) -> int:
    """The seed whose best monitored value is the highest; the lowest such seed."""
    values = {seed: run.plateau.best for seed, run in runs.items()}
    return max(values, key=lambda seed: -np.inf if values[seed] is None else values[seed])


def together(function: Callable, count: int, in_axes: Any = 0) -> Callable:
    """A function of one run's arrays, made one of a stack's.

    Args:
      function: pure.
      count: runs in the stack.
      in_axes: as in `jax.vmap`; None for an argument that the runs share.
    """
    return function if count == 1 else jax.vmap(function, in_axes)


def stack(trees: Sequence[Any], join: Callable = jnp.stack) -> Any:
    """Trees of the same shapes on a new leading axis, [S, ...]; one alone stays as it is.

    Args:
      trees: of one run each.
      join: `np.stack` keeps arrays on the host.
    """
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *leaves: join(leaves), *trees)


def unstack(tree: Any, count: int) -> list[Any]:
    """The inverse of `stack`: the trees of `count` runs."""
    return [one_of(tree, i, count) for i in range(count)]


def one_of(tree: Any, place: int, count: int) -> Any:
    """The tree of one of `count` runs."""
    return tree if count == 1 else jax.tree.map(operator.itemgetter(place), tree)


def stacked_seeds(runs: Sequence[int]) -> np.ndarray:
    """Seeds as `together(create, len(runs))` takes them: int32 [S], or a scalar for one."""
    return stack([np.int32(seed) for seed in runs], np.stack)


class StackedBatches:
    """The batches of several runs, by step: `[S, B, ...]` arrays, for `pipeline.iterate`."""

    def __init__(self, parts: Sequence[TrainingBatches]):
        self._parts = parts

    def __len__(self) -> int:
        return len(self._parts[0])

    def __getitem__(self, step: int) -> Batch:
        return stack([part[step] for part in self._parts], np.stack)
