"""Runs that differ in their seed alone, trained together by one program.

Their states are stacked on a leading axis, [S, ...], and so are their batches, [S, B, ...]: each run has its
own order of rows. The stack of a single run has no such axis, so that its step is compiled as it is and not
as a batched one. A run that has stopped leaves the stack, and the others go on in a smaller one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dlf_jax.data.loading.batches import Batch, TrainingBatches


def seeds_of(config: ConfigDict) -> range:
    """The seeds of a config's runs."""
    return range(config.seed, config.seed + config.seeds)


def vmap_runs(function: Callable, count: int, in_axes: Any = 0) -> Callable:
    """Maps a function of one run over a stack of runs.

    Args:
      function: pure function of one run's arrays.
      count: number of runs in the stack.
      in_axes: see `jax.vmap`; None for an argument that the runs share.
    """
    return function if count == 1 else jax.vmap(function, in_axes)


def stack_runs(trees: Sequence[Any], join: Callable = jnp.stack) -> Any:
    """Stacks the trees of several runs on a new leading axis, [S, ...]; the tree of a single run stays as it
    is.

    Args:
      trees: trees of the same shapes, one per run.
      join: function that stacks arrays; `np.stack` keeps them on the host.
    """
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *leaves: join(leaves), *trees)


def unstack_runs(tree: Any, count: int) -> list[Any]:
    """Trees of the single runs of a stack; the inverse of `stack_runs`."""
    return [one_run(tree, i, count) for i in range(count)]


def one_run(tree: Any, place: int, count: int) -> Any:
    """The tree of one of `count` runs."""
    return tree if count == 1 else jax.tree.map(operator.itemgetter(place), tree)


def stacked_seeds(runs: Sequence[int]) -> np.ndarray:
    """Seeds as `vmap_runs(create, len(runs))` takes them: int32 [S], or a scalar for one."""
    return stack_runs([np.int32(seed) for seed in runs], np.stack)


class StackedBatches:
    """The batches of several runs, by step: `[S, B, ...]` arrays, for `batches.iterate`."""

    def __init__(self, parts: Sequence[TrainingBatches]):
        self._parts = parts

    def __len__(self) -> int:
        return len(self._parts[0])

    def __getitem__(self, step: int) -> Batch:
        return stack_runs([part[step] for part in self._parts], np.stack)
