"""How well probabilities fit what happened: Logloss and its relatives, Brier score, calibration; in float64.

Labels are from 0 to 1: a soft label is the probability of a click. Probabilities are the sigmoids of logits.
"""

from __future__ import annotations

import math

import numpy as np

# Probabilities are clipped to [CLIP, 1 - CLIP] before their logarithm is taken.
CLIP = 1e-7
# Bins of the expected calibration error.
BINS = 15


def logloss(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean binary cross-entropy of the logits' sigmoids, clipped to [1e-7, 1 - 1e-7].

    Args:
      labels: probabilities of clicks, from 0 to 1, [rows].
      logits: [rows].
      weights: weights of the rows, 0 or more, [rows]; None: all 1.

    Returns:
      A number above 0; nan where no row has a weight above 0.
    """
    return _average(row_losses(labels, logits), weights)


def row_losses(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Binary cross-entropy of each row, of which `logloss` is the mean, with its clipping.

    Args:
      labels: probabilities of clicks, from 0 to 1, [rows].
      logits: [rows].

    Returns:
      float64 [rows].
    """
    probability = np.clip(sigmoid(logits), CLIP, 1 - CLIP)
    target = np.asarray(labels, np.float64)
    return -(target * np.log(probability) + (1 - target) * np.log(1 - probability))


def constant_logloss(rate: float, probability: float) -> float:
    """Logloss of one probability for all rows, clipped as in `logloss`.

    Args:
      rate: weighted mean of the rows' labels.
      probability: that every row is predicted to have.
    """
    p = min(max(probability, CLIP), 1 - CLIP)
    return -(rate * math.log(p) + (1 - rate) * math.log(1 - p))


def normalized_entropy(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Logloss divided by that of the constant prediction of the rows' mean label.

    He et al. 2014, "Practical Lessons from Predicting Clicks on Ads at Facebook", eq. 3. Comparable between
    data sets of different click rates; 1 is no better than the constant.

    Args:
      labels: probabilities of clicks, from 0 to 1, [rows].
      logits: [rows].
      weights: weights of the rows, 0 or more, [rows]; None: all 1.

    Returns:
      A number of at least 0; nan where the mean label is 0 or 1, or no row has a weight above 0.
    """
    rate = _average(np.asarray(labels, np.float64), weights)
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)) if 0 < rate < 1 else 0.0
    return logloss(labels, logits, weights) / entropy if entropy else float('nan')


def brier(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean squared difference of the logits' sigmoids and the labels (Brier 1950).

    Args:
      labels: probabilities of clicks, from 0 to 1, [rows].
      logits: [rows].
      weights: weights of the rows, 0 or more, [rows]; None: all 1.

    Returns:
      A number of at least 0; nan where no row has a weight above 0.
    """
    return _average((sigmoid(logits) - np.asarray(labels, np.float64)) ** 2, weights)


def relative_information_gain(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Share of the labels' entropy that the probabilities explain: 1 - normalized entropy (RIG).

    He et al. 2014, section 2. 0 is no better than the mean label for every row, 1 is perfect.

    Args:
      labels: probabilities of clicks, from 0 to 1, [rows].
      logits: [rows].
      weights: weights of the rows, 0 or more, [rows]; None: all 1.

    Returns:
      A number of at most 1; nan where the normalized entropy is undefined.
    """
    return 1.0 - normalized_entropy(labels, logits, weights)


def calibration_ratio(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Clicks that the probabilities expect, divided by those that happened.

    He et al. 2014, section 2 ("Calibration"). Above 1 the model promises too many clicks, below too few.

    Args:
      labels: probabilities of clicks, from 0 to 1, [rows].
      logits: [rows].
      weights: weights of the rows, 0 or more, [rows]; None: all 1.

    Returns:
      A number of at least 0; nan where there is no click.
    """
    clicks = _average(np.asarray(labels, np.float64), weights)
    return _average(sigmoid(logits), weights) / clicks if clicks > 0 else float('nan')


def expected_calibration_error(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None, bins: int = BINS
) -> float:
    """Mean distance, over bins of equal mass, of the mean probability from the share of clicks (ECE).

    `sum_b W_b / W |p_b - y_b|`, where `W_b` is the weight of a bin's rows, `p_b` their mean probability and
    `y_b` their mean label: Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian
    Binning"; bins of equal mass instead of equal width, because most probabilities of a click are small, as
    Nguyen & O'Connor 2015, "Posterior calibration and exploratory analysis for natural language processing
    models". A perfect model has an ECE above 0 by chance alone, of about `sqrt(bins * y (1 - y) / rows)`.

    Args:
      labels: probabilities of clicks, from 0 to 1, [rows].
      logits: [rows].
      weights: weights of the rows, 0 or more, [rows]; None: all 1.
      bins: see `equal_mass_bins`.

    Returns:
      A number in [0, 1]; nan where no row has a weight above 0.
    """
    order, starts = equal_mass_bins(logits, weights, bins)
    if not len(starts):
        return float('nan')
    own = np.ones(len(order)) if weights is None else np.asarray(weights, np.float64)[order]
    gaps = own * (sigmoid(np.asarray(logits)[order]) - np.asarray(labels, np.float64)[order])
    return float(np.abs(np.add.reduceat(gaps, starts)).sum() / own.sum())


def equal_mass_bins(
    logits: np.ndarray, weights: np.ndarray | None, bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts rows into bins of about the same weight, from the lowest score to the highest.

    Rows of the same score are in the same bin: that of the middle of their weight, if all weight is laid out
    from 0 to 1 and cut into equal lengths. So there are fewer bins where scores tie, or rows are few.

    Args:
      logits: [rows].
      weights: weights of the rows, 0 or more, [rows]; None: all 1.
      bins: number of bins, at least 1.

    Returns:
      Numbers of the rows with a weight above 0, in the order of their scores, [kept]; and the places in it
      at which a bin begins, [bins that have rows].
    """
    kept = None if weights is None or np.all(weights) else np.flatnonzero(np.asarray(weights))
    scores = np.asarray(logits) if kept is None else np.asarray(logits)[kept]
    order = np.argsort(scores, kind='stable')
    scores = scores[order]
    order = order if kept is None else kept[order]
    if not len(order):
        return order, np.zeros(0, np.int64)
    first = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
    if weights is None:
        ends = np.append(first[1:], len(order)).astype(np.float64)
    else:
        ends = np.cumsum(np.asarray(weights, np.float64)[order])[np.append(first[1:], len(order)) - 1]
    middle = (np.concatenate([[0.0], ends[:-1]]) + ends) / 2
    bin_of = np.minimum((bins * (middle / ends[-1])).astype(np.int64), bins - 1)
    return order, first[np.concatenate([[True], bin_of[1:] != bin_of[:-1]])]


def _average(values: np.ndarray, weights: np.ndarray | None) -> float:
    """The weighted mean, [rows] each; nan where no row has a weight above 0."""
    if not (len(values) if weights is None else np.any(weights)):
        return float('nan')
    return float(np.average(values, weights=weights))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) in float64 without overflow, [rows]."""
    x = np.asarray(logits, np.float64)
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)
