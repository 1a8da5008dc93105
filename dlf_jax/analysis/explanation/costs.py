"""What other scores of the same rows cost, in AUC and Logloss, with intervals."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from dlf_jax.analysis import delong
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
        return Estimate(None, None, None)
    mean = float(np.average(difference[clicks], weights=weights[clicks]))
    return estimate(mean, delong.auc_error(labels, difference, weights))


def mean_change(difference: np.ndarray, weights: np.ndarray) -> Estimate:
    """The weighted mean of the rows' changes, such as of their losses, with its interval."""
    mean = float(np.average(difference, weights=weights))
    if len(difference) < 2:
        return Estimate(mean, None, None)
    return estimate(mean, delong.mean_error(difference, weights))


def both_changes(
    labels: np.ndarray, losses: np.ndarray, placements: np.ndarray, weights: np.ndarray
) -> dict[str, Any]:
    """What rows' changes amount to: `auc` and `logloss`, each with its interval, as JSON."""
    return {
        'auc': auc_change(labels, placements, weights).to_json(),
        'logloss': mean_change(losses, weights).to_json(),
    }
