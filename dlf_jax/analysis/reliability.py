"""Reliability diagrams: what the model promises beside what happened, in bins of rows of similar scores."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping

import numpy as np

from dlf_jax.training.probability_metrics import BINS, equal_mass_bins, sigmoid


@dataclasses.dataclass(frozen=True)
class Bin:
    """Rows of similar scores.

    Attributes:
      rows: their number.
      weight: sum of their weights.
      probability: their mean probability, weighted.
      rate: their mean label, weighted: the share of clicks.
      low: lower end of the interval of the rate.
      high: upper end of it.
    """

    rows: int
    weight: float
    probability: float
    rate: float
    low: float
    high: float


def reliability(scores: Mapping[str, np.ndarray], bins: int = BINS, level: float = 0.95) -> list[Bin]:
    """Bins of equal mass, which a reliability diagram draws: probability along x, rate along y.

    Of a calibrated model the diagonal is inside of about `level` of the intervals. The bins are those of
    `expected_calibration_error`. The interval is Wilson's (1927), with Kish's effective number of rows,
    `(sum w)^2 / sum w^2`, where rows weigh differently; of soft labels, which vary less, it is too wide.

    Args:
      scores: `logit`, `label` and `weight`, [rows]; rows of weight 0 do not count.
      bins: number of bins; fewer come back where scores tie or rows are few.
      level: share of such intervals that hold the true rate.

    Returns:
      The bins in the order of their scores; none where no row has a weight above 0.
    """
    order, starts = equal_mass_bins(scores['logit'], scores['weight'], bins)
    if not len(starts):
        return []
    weights = np.asarray(scores['weight'], np.float64)[order]
    sums = [
        np.add.reduceat(values, starts)
        for values in (
            weights,
            weights**2,
            weights * sigmoid(np.asarray(scores['logit'])[order]),
            weights * np.asarray(scores['label'], np.float64)[order],
        )
    ]
    found = []
    for rows, weight, squares, promised, clicks in zip(np.diff([*starts, len(order)]), *sums, strict=True):
        rate = min(clicks / weight, 1.0)
        low, high = wilson(rate, weight**2 / squares, level)
        found.append(Bin(int(rows), float(weight), float(promised / weight), float(rate), low, high))
    return found


def wilson(rate: float, trials: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share (Wilson 1927, "Probable inference, the law of succession, and statistical
    inference").

    Args:
      rate: the observed share, from 0 to 1.
      trials: number of trials, above 0; need not be whole.
      level: share of such intervals that hold the true share.

    Returns:
      Both ends, from 0 to 1.
    """
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    middle, scale = rate + z * z / (2 * trials), 1 + z * z / trials
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
