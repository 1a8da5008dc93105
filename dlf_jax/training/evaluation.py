"""Scores of a whole part, in file order, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from dlf_jax.data.progress import Progress
from dlf_jax.training import metrics
from dlf_jax.training.partition import Partitioner
from dlf_jax.training.state import TrainState


def score(
    predict: Callable,
    partitioner: Partitioner,
    state: TrainState,
    batches: Iterable[dict[str, np.ndarray]],
    total: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and logits of the rows of weight above 0: float32 [rows], and [rows] or [S, rows].

    Args:
      predict: the compiled forward pass, of one state or of a stack of S.
      partitioner: puts batches onto devices.
      state: of the model, or the stack.
      batches: padded.
      total: rows, for the progress bar.
    """
    labels: list[np.ndarray] = []
    logits: list[np.ndarray] = []
    waiting: list[tuple[dict[str, np.ndarray], jax.Array]] = []

    def take() -> None:
        batch, output = waiting.pop(0)
        kept = batch['weight'] > 0
        labels.append(batch['label'][kept])
        logits.append(np.asarray(output)[..., kept])
        progress.advance(int(kept.sum()))

    with Progress('evaluating', 'samples', total) as progress:
        for batch in batches:
            waiting.append((batch, predict(state, partitioner.put(batch))))
            # The device computes one batch while the one before is fetched.
            if len(waiting) > 1:
                take()
        while waiting:
            take()
    return np.concatenate(labels), np.concatenate(logits, axis=-1)


def summary(labels: np.ndarray, logits: np.ndarray) -> dict[str, Any]:
    """`auc` (null where all labels are the same), `logloss` and `rows` of a part."""
    found = metrics.auc(labels, logits)
    return {
        'auc': None if np.isnan(found) else found,
        'logloss': metrics.logloss(labels, logits),
        'rows': len(labels),
    }
