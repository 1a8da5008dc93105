"""Intervals for the page: as many bootstrap samples as its time allows, and without any those of formulas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dlf_jax.analysis import delong, intervals
from dlf_jax.analysis.delong import Estimate
from dlf_jax.errors import UserError
from dlf_jax.training import probability_metrics

# Bootstrap samples where rows are few; fewer where they are many, and none beyond `MOST_ROWS`, where they
# would take minutes. What a formula gives, AUC and Logloss, has intervals of any number of rows.
SAMPLES, LEAST_SAMPLES, MOST_ROWS = 400, 100, 500_000
_DRAWN = 12_000_000


def samples_for(rows: int) -> int:
    """Number of bootstrap samples for a number of rows; 0: too many rows."""
    if not 0 < rows <= MOST_ROWS:
        return 0
    return int(np.clip(_DRAWN // rows, LEAST_SAMPLES, SAMPLES))


def of_metrics(scores: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """As `intervals.of_metrics`; of too many rows for samples, of AUC and Logloss alone.

    Returns:
      None where there is no interval: of very many rows with groups, which only samples are right for.
    """
    samples = samples_for(len(scores['label']))
    if samples:
        return intervals.of_metrics(scores, samples)
    if not len(scores['label']) or 'group' in scores:
        return None
    found = _by_formula(scores)
    low, high = found['auc'].interval(intervals.LEVEL)
    ends = {'auc': (max(low, 0.0), min(high, 1.0)), 'logloss': found['logloss'].interval(intervals.LEVEL)}
    metrics = {name: list(of) if np.isfinite(of).all() else None for name, of in ends.items()}
    return {'level': intervals.LEVEL, 'samples': 0, 'unit': 'rows', 'metrics': metrics}


def paired(
    scores: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float | None]] | None:
    """As `intervals.paired`; of too many rows for samples, of AUC and Logloss alone.

    Returns:
      None where the rows are not the same, or are very many with groups.
    """
    samples = samples_for(len(scores['label']))
    try:
        if samples:
            return intervals.paired(scores, others, samples)
        intervals.check_same_rows(scores, others)
    except UserError:
        return None
    if not len(scores['label']) or 'group' in scores:
        return None
    found: dict[str, dict[str, float | None]] = {}
    for name, difference in _by_formula(scores, others).items():
        ends = difference.interval(intervals.LEVEL)
        low, high = ends if np.isfinite(ends).all() else (None, None)
        found[name] = {'difference': difference.value, 'low': low, 'high': high}
    return found


def _by_formula(
    scores: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray] | None = None
) -> dict[str, Estimate]:
    """AUC and Logloss of independent rows, or what they differ by from others of the same rows."""
    labels, weights = (np.asarray(scores[name], np.float64) for name in ('label', 'weight'))
    losses = probability_metrics.row_losses(labels, scores['logit'])
    if others is None:
        auc = delong.auc_estimate(labels, scores['logit'], weights)
    else:
        auc = delong.auc_difference(labels, scores['logit'], others['logit'], weights)
        losses = losses - probability_metrics.row_losses(labels, others['logit'])
    mean = float(np.average(losses, weights=weights)) if weights.sum() > 0 else float('nan')
    return {'auc': auc, 'logloss': Estimate(mean, delong.mean_error(losses, weights))}
