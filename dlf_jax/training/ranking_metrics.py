"""How well scores rank clicks above the rest: AUC, AUC within groups, average precision; exact, in float64.

A label above 0.5 is a click. Equal scores are one threshold, so the order of rows does not matter.
"""

from __future__ import annotations

import numpy as np

from dlf_jax.data.schema import NO_GROUP


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve: exact, not binned.

    The probability that a random positive row scores above a random negative one, a tie counting half
    (Hanley & McNeil 1982).

    Args:
      labels: above 0.5 for clicks, [rows].
      scores: finite numbers whose order ranks the rows, [rows]; logits tie less often than probabilities.
      weights: weights of the rows, 0 or more, [rows]; None: all 1.

    Returns:
      A number in [0, 1]; nan where all labels are the same.
    """
    positive, negative = _by_score(labels, scores, weights)
    total = positive.sum() * negative.sum()
    below = np.cumsum(negative) - negative
    return float((positive * (below + 0.5 * negative)).sum() / total) if total else float('nan')


def grouped_auc(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None, *, groups: np.ndarray
) -> float:
    """Mean AUC of groups such as users, each weighted by the weight of its rows (GAUC).

    Zhou et al. 2018, "Deep Interest Network", section 6.2. Groups whose labels are all the same have no AUC
    and are left out, as are rows without a group.

    Args:
      labels: above 0.5 for clicks, [rows].
      scores: finite numbers whose order ranks the rows of a group, [rows].
      weights: weights of the rows, 0 or more, [rows]; None: all 1.
      groups: numbers, [rows]; equal ones are one group, but `NO_GROUP` stands for none.

    Returns:
      A number in [0, 1]; nan where no group has labels of both kinds.
    """
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    groups = np.asarray(groups)
    order = np.lexsort([scores, groups])
    order = order[groups[order] != NO_GROUP]
    group, score, weight = groups[order], np.asarray(scores)[order], weights[order]
    positive = np.where(np.asarray(labels)[order] > 0.5, weight, 0.0)
    negative = weight - positive
    if not len(order):
        return float('nan')
    # One entry per distinct score of a group, and where its group begins among them.
    fresh = np.concatenate([[True], group[1:] != group[:-1]])
    starts = np.flatnonzero(fresh | np.concatenate([[True], score[1:] != score[:-1]]))
    positive, negative = np.add.reduceat(positive, starts), np.add.reduceat(negative, starts)
    firsts = np.flatnonzero(fresh[starts])
    sizes = np.diff([*firsts, len(starts)])
    below = np.cumsum(negative) - negative
    below -= np.repeat(below[firsts], sizes)
    pairs = np.add.reduceat(positive * (below + 0.5 * negative), firsts)
    positives, negatives = np.add.reduceat(positive, firsts), np.add.reduceat(negative, firsts)
    both = positives * negatives > 0
    if not both.any():
        return float('nan')
    found = pairs[both] / (positives * negatives)[both]
    return float(np.average(found, weights=(positives + negatives)[both]))


def average_precision(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the precision-recall curve as a sum of steps: what the literature calls average precision.

    `sum_n (R_n - R_(n-1)) P_n` over the distinct scores from the highest down, where precision `P_n` is the
    share of clicks among rows that score at least the n-th, and recall `R_n` the share of clicks that are
    among them. Nothing is interpolated, because a straight line between two points of the curve is too
    optimistic (Davis & Goadrich 2006). A ranking at random gives the click rate.

    Args:
      labels: above 0.5 for clicks, [rows].
      scores: finite numbers whose order ranks the rows, [rows].
      weights: weights of the rows, 0 or more, [rows]; None: all 1.

    Returns:
      A number in (0, 1]; nan where there is no click.
    """
    positive, negative = _by_score(labels, scores, weights)
    total = positive.sum()
    if not total:
        return float('nan')
    clicks = np.cumsum(positive[::-1])
    rows = clicks + np.cumsum(negative[::-1])
    # Scores whose rows weigh nothing add nothing.
    precision = np.divide(clicks, rows, out=np.zeros_like(clicks), where=rows > 0)
    return float((positive[::-1] * precision).sum() / total)


def _by_score(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the clicks and of the other rows at each distinct score, float64 [scores], scores rising."""
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    labels, scores = np.asarray(labels), np.asarray(scores)
    # As an evaluation hands them over, rows are in order already.
    if not np.all(scores[1:] >= scores[:-1]):
        order = np.argsort(scores, kind='stable')
        labels, scores, weights = labels[order], scores[order], weights[order]
    positive = np.where(labels > 0.5, weights, 0.0)
    negative = weights - positive
    starts = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]])[: len(scores)])
    if not len(starts):
        return positive, negative
    return np.add.reduceat(positive, starts), np.add.reduceat(negative, starts)
