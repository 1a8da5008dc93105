"""What other scores of the same rows cost, in AUC and Logloss, with intervals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlf_jax.analysis import delong
from dlf_jax.analysis.delong import Estimate
from dlf_jax.training import probability_metrics


def as_json(estimate: Estimate) -> dict[str, float | None]:
    """`mean`, `low` and `high`, the interval of 95 %; None where undefined.

    One row, or one click, has a mean and no interval.
    """
    mean, ends = estimate.value, estimate.interval()
    low, high = ends if all(map(math.isfinite, ends)) else (None, None)
    return {'mean': mean if math.isfinite(mean) else None, 'low': low, 'high': high}


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
        self.losses = probability_metrics.row_losses(labels, logits)
        self.placements = delong.placements(labels, logits, weights)


def auc_change(labels: np.ndarray, difference: np.ndarray, weights: np.ndarray) -> Estimate:
    """A change of the AUC, from the rows' changes of placement, with DeLong's interval of paired scores.

    Args:
      labels: above 0.5 for clicks, [n].
      difference: of the rows' placements, float64 [n].
      weights: [n].
    """
    clicks = labels > 0.5
    if not clicks.any():
        return Estimate(math.nan, math.nan)
    mean = float(np.average(difference[clicks], weights=weights[clicks]))
    return Estimate(mean, delong.auc_error(labels, difference, weights))


def mean_change(difference: np.ndarray, weights: np.ndarray) -> Estimate:
    """The weighted mean of the rows' changes, such as of their losses, with its interval."""
    mean = float(np.average(difference, weights=weights))
    return Estimate(mean, delong.mean_error(difference, weights))


def both_changes(
    labels: np.ndarray, losses: np.ndarray, placements: np.ndarray, weights: np.ndarray
) -> dict[str, Any]:
    """What rows' changes amount to: `auc` and `logloss`, each with its interval, as JSON."""
    return {
        'auc': as_json(auc_change(labels, placements, weights)),
        'logloss': as_json(mean_change(losses, weights)),
    }
