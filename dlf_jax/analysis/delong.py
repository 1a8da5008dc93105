"""Standard error of an AUC, and of the difference of two on the same rows, without resampling."""

from __future__ import annotations

import dataclasses
import math
import statistics

import numpy as np

from dlf_jax.training.ranking_metrics import auc


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its standard error; nan where undefined.

    Attributes:
      value: the estimate.
      error: its standard error.
    """

    value: float
    error: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Both ends of the normal interval that holds the true value with this probability."""
        spread = statistics.NormalDist().inv_cdf((1 + level) / 2) * self.error
        return self.value - spread, self.value + spread

    @property
    def p_value(self) -> float | None:
        """Two-sided p-value of a true value of 0; None where the error is 0 or undefined."""
        if not self.error > 0:
            return None
        return math.erfc(abs(self.value) / self.error / math.sqrt(2))


def auc_estimate(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> Estimate:
    """AUC with the standard error of DeLong et al. 1988, in the time of a sort (Sun & Xu 2014).

    The AUC is a mean over the clicks of each one's placement, the share of other rows that it scores above,
    and so it is over the other rows; its variance is the sum of the variances of both means. Rows must be
    independent of each other: where several belong to a user, resample groups instead. Where rows weigh
    differently, means are weighted, and a mean's variance is `sum w^2 (v - mean)^2 / (sum w)^2`, divided by
    `1 - sum w^2 / (sum w)^2`, which is DeLong's where all weigh the same.

    Args:
      labels: above 0.5 for clicks, [rows].
      scores: finite numbers, [rows].
      weights: weights of the rows, 0 or more, [rows]; None: all 1.
    """
    return Estimate(
        auc(labels, scores, weights), auc_error(labels, placements(labels, scores, weights), weights)
    )


def auc_difference(
    labels: np.ndarray, scores: np.ndarray, others: np.ndarray, weights: np.ndarray | None = None
) -> Estimate:
    """AUC of `scores` less that of `others` on the same rows, with DeLong's standard error of it.

    The difference of two AUCs is a mean of differences of placements, so what both models find hard cancels.

    Args:
      labels: above 0.5 for clicks, [rows].
      scores: of one model, [rows].
      others: of another, [rows].
      weights: weights of the rows, 0 or more, [rows]; None: all 1.
    """
    value = auc(labels, scores, weights) - auc(labels, others, weights)
    changes = placements(labels, scores, weights) - placements(labels, others, weights)
    return Estimate(value, auc_error(labels, changes, weights))


def placements(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Each row's share in an AUC, which is the mean of the clicks' shares, and of the other rows'.

    Args:
      labels: above 0.5 for clicks, [rows].
      scores: finite numbers, [rows].
      weights: weights of the rows, 0 or more, [rows]; None: all 1.

    Returns:
      For a click, the share of other rows that score below it, a tie counting half; for another row, the
      share of clicks above it; float64 [rows], nan where all labels are the same.
    """
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    click = np.asarray(labels) > 0.5
    _, place = np.unique(scores, return_inverse=True)
    other = np.bincount(place, np.where(click, 0.0, weights))
    own = np.bincount(place, np.where(click, weights, 0.0))
    below = np.cumsum(other) - 0.5 * other
    above = own.sum() - np.cumsum(own) + 0.5 * own
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.where(click, (below / other.sum())[place], (above / own.sum())[place])


def auc_error(labels: np.ndarray, placements: np.ndarray, weights: np.ndarray | None) -> float:
    """Standard error of an AUC with these placements, or of a difference of two; nan where undefined.

    Args:
      labels: above 0.5 for clicks, [rows].
      placements: see `placements`; or differences of two scores' placements, [rows].
      weights: weights of the rows, 0 or more, [rows]; None: all 1.
    """
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    click = np.asarray(labels) > 0.5
    return math.hypot(*(mean_error(placements[rows], weights[rows]) for rows in (click, ~click)))


def mean_error(values: np.ndarray, weights: np.ndarray) -> float:
    """Standard error of a weighted mean of independent rows; nan of fewer than two.

    Args:
      values: [rows].
      weights: 0 or more, [rows].
    """
    total = weights.sum()
    if total <= 0:
        return math.nan
    shares = weights / total
    free = 1 - (shares**2).sum()
    if free <= 0:
        return math.nan
    return math.sqrt((shares**2 * (values - (shares * values).sum()) ** 2).sum() / free)
