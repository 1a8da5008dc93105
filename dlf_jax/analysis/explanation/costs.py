"""What other scores of the same rows cost, in AUC and Logloss, with intervals."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from dlf_jax.training import probability_metrics

# Of a normal distribution: 95 % lie within so many standard deviations.
_TWO_SIDED = 1.959964


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over rows with its interval of 95 %; None where it is undefined.

    Attributes:
      mean: of the sampled rows.
      low: lower end of the interval.
      high: upper end.
    """

    mean: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, float | None]:
        """The three numbers by name."""
        return dataclasses.asdict(self)


def estimate(mean: float, error: float) -> Estimate:
    """The mean with the interval that its standard error gives."""
    if not (math.isfinite(mean) and math.isfinite(error)):
        return Estimate(None, None, None)
    return Estimate(mean, mean - _TWO_SIDED * error, mean + _TWO_SIDED * error)


class Scored:
    """Each row's share in AUC and Logloss under some scores: what differences are taken of, row by row.

    Attributes:
      losses: cross-entropy of each row, float64 [n].
      placements: of a click, the weighted share of the rows without one that score below it; of another row,
        the share of clicks that score above it; a tie counts half. float64 [n]; NaN where all labels are
        the same. AUC is the mean of the clicks' placements, and of the others' (DeLong et al. 1988).
    """

    def __init__(self, labels: np.ndarray, logits: np.ndarray, weights: np.ndarray):
        """Computes both.

        Args:
          labels: from 0 to 1; above 0.5 is a click for the AUC. [n]
          logits: float32 [n].
          weights: above 0, [n].
        """
        probability = np.clip(
            probability_metrics.sigmoid(logits), probability_metrics.CLIP, 1 - probability_metrics.CLIP
        )
        self.losses = -(labels * np.log(probability) + (1 - labels) * np.log1p(-probability))
        self.placements = _placements(labels > 0.5, logits, weights)


def _placements(clicks: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    order = np.argsort(scores)
    ordered = scores[order]
    positive = np.where(clicks[order], weights[order], 0.0)
    negative = weights[order] - positive
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    tie = np.repeat(np.arange(len(starts)), np.diff([*starts, len(ordered)]))
    # Per distinct score, then per row.
    tied_positive, tied_negative = (np.add.reduceat(w, starts) for w in (positive, negative))
    below = np.cumsum(tied_negative) - tied_negative / 2
    above = positive.sum() - np.cumsum(tied_positive) + tied_positive / 2
    totals = positive.sum(), negative.sum()
    if not min(totals):
        return np.full(len(scores), np.nan)
    found = np.empty(len(scores))
    found[order] = np.where(positive > 0, below[tie] / totals[1], above[tie] / totals[0])
    return found


def auc_change(clicks: np.ndarray, difference: np.ndarray, weights: np.ndarray) -> Estimate:
    """A change of the AUC, from the rows' changes of placement.

    The interval is that of paired scores of DeLong et al. 1988, for weighted rows.

    Args:
      clicks: bool [n].
      difference: of the rows' placements, float64 [n].
      weights: [n].
    """
    variance, means = 0.0, []
    for kind in (clicks, ~clicks):
        values, shares = difference[kind], weights[kind]
        if len(values) < 2 or not np.isfinite(values).all():
            return Estimate(None, None, None)
        mean = float(np.average(values, weights=shares))
        variance += _variance(values, shares, mean)
        means.append(mean)
    return estimate(means[0], math.sqrt(variance))


def mean_change(difference: np.ndarray, weights: np.ndarray) -> Estimate:
    """The weighted mean of the rows' changes, such as of their losses, with its interval."""
    mean = float(np.average(difference, weights=weights))
    if len(difference) < 2:
        return Estimate(mean, None, None)
    return estimate(mean, math.sqrt(_variance(difference, weights, mean)))


def _variance(values: np.ndarray, weights: np.ndarray, mean: float) -> float:
    """Variance of a weighted mean of independent rows."""
    spread = float((weights**2 * (values - mean) ** 2).sum() / weights.sum() ** 2)
    return spread * len(values) / (len(values) - 1)


def both_changes(
    labels: np.ndarray, losses: np.ndarray, placements: np.ndarray, weights: np.ndarray
) -> dict[str, Any]:
    """What rows' changes amount to: `auc` and `logloss`, each with its interval, as JSON."""
    return {
        'auc': auc_change(labels > 0.5, placements, weights).to_json(),
        'logloss': mean_change(losses, weights).to_json(),
    }
