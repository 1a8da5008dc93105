"""A metric of one's own: the positives among the rows that score highest."""

import numpy as np

from dlf_jax.training.metrics import Metric


def recall_at_top(share, labels, logits, weights):
    """Share of all positives that lie among the rows that score highest; all by weight.

    Where the last of these rows has the same logit as others, each of them counts in part.

    Args:
      share: share of the rows that is looked at, in (0, 1].
      labels: 0 or 1, [rows].
      logits: [rows].
      weights: weights of the rows, above 0, [rows].

    Returns:
      A number in [0, 1]; nan where there are no positives.
    """
    if not np.any(labels):
        return float('nan')
    order = np.argsort(-logits)
    # Last row of each distinct logit.
    last = np.flatnonzero(np.diff(logits[order], append=-np.inf))
    looked_at = np.cumsum(weights[order])[last]
    found = np.cumsum((weights * labels)[order])[last]
    return np.interp(share * looked_at[-1], [0, *looked_at], [0, *found]) / found[-1]


def _recall_at_10_percent(labels, logits, weights):
    return recall_at_top(0.1, labels, logits, weights)


recall_at_10_percent = Metric(_recall_at_10_percent, higher_is_better=True, title='Recall at 10 %')
