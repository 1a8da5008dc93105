"""Scores of all rows of a part in file order, and their metrics."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from dlf_jax.data.progress import Progress
from dlf_jax.training import multihost
from dlf_jax.training.metrics import Metric
from dlf_jax.training.sharding import Partitioner
from dlf_jax.training.train_state import TrainState

# Arrays of a batch that come with its scores.
COLUMNS = ('label', 'weight', 'group')


def score(
    predict: Callable,
    partitioner: Partitioner,
    state: TrainState,
    batches: Iterable[dict[str, np.ndarray]],
    total: int | None = None,
    between: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """Scores batches in their order. Each host scores its own part of every batch; all get all scores.

    Args:
      predict: compiled forward pass, of the weights of one run or of a stack of S runs.
      partitioner: puts batches onto devices.
      state: of the run, or the stack.
      batches: padded batches.
      total: number of rows, for the progress bar.
      between: called after every batch.

    Returns:
      Arrays of the rows whose weight is above 0: `logit`, [rows] or [S, rows], and `label`, `weight` and,
      where there is one, `group`, [rows].
    """
    weights = state.weights()
    found: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    waiting: list[tuple[dict[str, np.ndarray], jax.Array]] = []

    def take() -> None:
        batch, output = waiting.pop(0)
        columns = {n: batch[n] for n in COLUMNS if n in batch}
        for name, values in {'logit': partitioner.local_rows(output), **columns}.items():
            found[name].append(values)
        progress.advance(np.count_nonzero(batch['weight']) * jax.process_count())
        between()

    with Progress('evaluating', 'samples', total) as progress:
        for batch in batches:
            waiting.append((batch, predict(weights, partitioner.put(batch))))
            # The device computes one batch while the one before is fetched.
            if len(waiting) > 1:
                take()
        while waiting:
            take()
    whole = {name: _in_file_order(parts) for name, parts in found.items()}
    kept = whole['weight'] > 0
    return {name: values[..., kept] for name, values in whole.items()}


def _in_file_order(parts: list[np.ndarray]) -> np.ndarray:
    """Arrays [..., rows] of all hosts, from this host's arrays [..., b] of every batch; within a batch the
    hosts' parts follow each other."""
    gathered = multihost.gather(np.stack(parts, axis=-2))  # [hosts, ..., batches, b]
    return np.moveaxis(gathered, 0, -2).reshape(*parts[0].shape[:-1], -1)


def summary(scores: Mapping[str, np.ndarray], metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """Metrics of scored rows.

    Args:
      scores: as `score` returns them, of one model.
      metrics: by key; those of groups are left out where the scores have none.

    Returns:
      The metrics by key, None where undefined, and `rows`, the number of rows.
    """
    found = {
        key: metric(scores) for key, metric in metrics.items() if 'group' in scores or not metric.grouped
    }
    return {**found, 'rows': len(scores['label'])}
