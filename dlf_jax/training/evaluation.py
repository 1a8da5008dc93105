"""Scores of all rows of a part in file order, and their metrics."""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from dlf_jax.data.progress import Progress
from dlf_jax.data.schema import NO_GROUP
from dlf_jax.errors import UserError
from dlf_jax.training import multihost
from dlf_jax.training.metrics import METRICS, Metric
from dlf_jax.training.sharding import Partitioner
from dlf_jax.training.train_state import TrainState

_log = logging.getLogger(__name__)

# Maximum number of batches whose scores are on their way to the host.
_AHEAD = 8
# Arrays of a batch that come with its scores.
COLUMNS = ('label', 'weight', 'group')


def score(
    predict: Callable,
    partitioner: Partitioner,
    state: TrainState,
    batches: Iterable[dict[str, np.ndarray]],
    total: int | None = None,
    between: Callable[[], None] = lambda: None,
    of: str = '',
) -> dict[str, np.ndarray]:
    """Scores batches in their order. Each host scores its own part of every batch; all get all scores.

    Args:
      predict: compiled forward pass, of the weights of one run or of a stack of S runs.
      partitioner: puts batches onto devices.
      state: of the run, or the stack.
      batches: padded batches.
      total: number of rows, for the progress bar.
      between: called after every batch.
      of: what the rows belong to, such as a part or a file, for errors.

    Returns:
      Arrays of the rows whose weight is above 0: `logit`, [rows] or [S, rows], and `label`, `weight` and,
      where there is one, `group`, [rows].

    Raises:
      UserError: no row has a weight above 0, or a row's score is not finite; names the step and the row.
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
            logits = predict(weights, partitioner.put(batch))
            partitioner.begin_to_fetch(logits)
            waiting.append((batch, logits))
            if len(waiting) > _AHEAD:
                take()
        while waiting:
            take()
    whole = {name: _in_file_order(parts) for name, parts in found.items()}
    kept = whole['weight'] > 0
    if not kept.any():
        raise UserError(
            f'the weights of {of or "the rows"} are all 0, so there is nothing to evaluate; '
            'look at the column of the weights'
        )
    check_finite(np.where(kept, whole['logit'], 0.0), state, of=of)
    return {name: values[..., kept] for name, values in whole.items()}


def check_finite(logits: np.ndarray, state: TrainState, first: int = 0, of: str = '') -> None:
    """Refuses scores that are no numbers, which would be nothing but NaN in a result.

    Args:
      logits: scores, [rows], or [S, rows] of a stack of runs.
      state: that gave the scores; its step is in the error.
      first: number of rows before these, for the error.
      of: what the rows belong to, such as a part or a file, for the error.

    Raises:
      UserError: a score is not finite; names the step of the weights and the first such row.
    """
    finite = np.isfinite(logits)
    if finite.all():
        return
    row = int(np.argmin(finite.reshape(-1, logits.shape[-1]).all(axis=0)))
    step = int(np.max(jax.device_get(state.step)))
    raise UserError(
        f'step {step}: the model gives no finite score of row {first + row + 1:,}{f" of {of}" if of else ""} '
        f'({np.count_nonzero(~finite):,} in all); look for extreme numbers '
        'in that row, or train again with a lower --config.optimizer.learning_rate'
    )


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
      The metrics by key, None where undefined; `rows`, the number of rows; and, where there are such,
      `rows_without_group`, the number of rows that metrics of groups leave out.
    """
    # Most of the package's metrics sort rows by their score: once here is enough for all of them.
    order = np.argsort(scores['logit'], kind='stable')
    by_score = {name: values[order] for name, values in scores.items()}
    found: dict[str, Any] = {
        # One's own metrics see the rows as they are in the file.
        key: metric(by_score if METRICS.get(key) is metric else scores)
        for key, metric in metrics.items()
        if 'group' in scores or not metric.grouped
    }
    found['rows'] = len(scores['label'])
    without = np.count_nonzero(scores['group'] == NO_GROUP) if 'group' in scores else 0
    return {**found, 'rows_without_group': int(without)} if without else found


def tell_rows_without_group(found: Mapping[str, Any], what: str) -> None:
    """Logs how many rows metrics of groups have left out, where there are such.

    Args:
      found: as `summary` returns it.
      what: rows that were scored, for the log.
    """
    if without := found.get('rows_without_group'):
        _log.warning(
            '%s: %s of %s rows have no group; gauc leaves them out',
            what,
            f'{without:,}',
            f'{found["rows"]:,}',
        )
