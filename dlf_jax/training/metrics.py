"""Exact AUC and Logloss in float64."""

from __future__ import annotations

import numpy as np

CLIP = 1e-7


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The area under the ROC curve, ties averaged; exact, not binned.

    The probability that a random positive row scores above a random negative one, a tie counting
    half (Hanley & McNeil 1982).

    Args:
      labels: 0 or 1, [rows].
      scores: any finite numbers whose order ranks the rows, [rows]; logits tie less than
        probabilities.
      weights: of the rows, 0 or more, [rows]; None: all 1.

    Returns:
      A number in [0, 1]; nan where all labels are the same.
    """
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    order = np.argsort(scores, kind='stable')
    ordered = np.asarray(scores)[order]
    positive = np.where(np.asarray(labels)[order] > 0.5, weights[order], 0.0)
    negative = weights[order] - positive
    # One entry per distinct score.
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)])
    if not len(starts):
        return float('nan')
    positive = np.add.reduceat(positive, starts)
    negative = np.add.reduceat(negative, starts)
    total = positive.sum() * negative.sum()
    below = np.cumsum(negative) - negative
    return float((positive * (below + 0.5 * negative)).sum() / total) if total else float('nan')


def grouped_auc(
    groups: np.ndarray, labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """The mean of the groups' AUCs, each weighted by its rows' weight (GAUC; Zhou et al. 2018, "Deep
    Interest Network", section 6.2). Groups with labels of one kind are left out.

    Args:
      groups: any sortable values, [rows].
      labels, scores, weights: as in `auc`.

    Returns:
      A number in [0, 1]; nan where every group has labels of one kind.
    """
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    order = np.lexsort([scores, groups])
    group, score, weight = np.asarray(groups)[order], np.asarray(scores)[order], weights[order]
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


def logloss(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean binary cross-entropy of the logits' sigmoids, clipped to [1e-7, 1 - 1e-7].

    Args:
      labels: 0 or 1, [rows].
      logits: [rows].
      weights: as in `auc`.
    """
    probability = np.clip(sigmoid(logits), CLIP, 1 - CLIP)
    positive = np.asarray(labels) > 0.5
    loss = -np.log(np.where(positive, probability, 1 - probability))
    return float(np.average(loss, weights=weights))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) in float64 without overflow, [rows]."""
    x = np.asarray(logits, np.float64)
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def monitored(name: str, found_auc: float, found_logloss: float) -> float:
    """The number to be raised: `auc`, `auc-logloss` or `logloss` (negated)."""
    return {
        'auc': found_auc,
        'auc-logloss': found_auc - found_logloss,
        'logloss': -found_logloss,
    }[name]
