"""Bootstrap of metrics from scored rows: each sample weighs every row, or every group of rows, anew.

A sample draws how often each row counts from Poisson's distribution of mean 1, which is the bootstrap without
the need to draw a fixed number of rows (Hanley & MacGibbon 2006; Chamandy et al. 2012, "Estimating
Uncertainty for Massive Data Streams"). Most metrics are functions of sums over rows, of which all samples are
one product of matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from dlf_jax.data.schema import NO_GROUP
from dlf_jax.training.probability_metrics import row_losses, sigmoid

# Numbers drawn at once: half of them are held as float64.
_DRAWN = 1 << 23
# Columns of `sums`.
_WEIGHT, _CLICKS, _PROMISED, _LOSS, _SQUARES = range(5)
# Metrics that are functions of sums.
OF_SUMS = ('logloss', 'normalized_entropy', 'rig', 'calibration_ratio', 'brier')


def units(scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """Number of the unit that each row is drawn with: its group's, or its own; int [rows].

    Args:
      scores: `label` and perhaps `group`, [rows]; a row without a group is a unit of its own.
    """
    rows = np.arange(len(scores['label']))
    if 'group' not in scores:
        return rows
    groups = np.asarray(scores['group'])
    own = np.where(groups == NO_GROUP, -2 - rows, groups)
    return np.unique(own, return_inverse=True)[1]


def draws(count: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each unit counts in each sample, a few samples at a time.

    Args:
      count: number of units.
      samples: number of samples, over all.
      seed: the same one gives the same samples.

    Yields:
      uint8 [some samples, units].
    """
    draw, left = np.random.default_rng(seed), samples
    # The distribution function, inverted in steps of 1 / 65536, is ten times as fast as `draw.poisson`.
    bounds = np.round(np.cumsum([math.exp(-1) / math.factorial(k) for k in range(9)]) * 65536)
    table = np.searchsorted(bounds, np.arange(65536), side='right').astype(np.uint8)
    while left:
        some = min(left, max(1, _DRAWN // max(count, 1)))
        yield table[draw.integers(0, 65536, (some, count), dtype=np.uint16)]
        left -= some


def sums(scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """What metrics of probabilities add up over rows: weight, clicks, promised clicks, loss, squares.

    Args:
      scores: `logit`, `label` and `weight`, [rows].

    Returns:
      float64 [rows, 5].
    """
    labels, weights = (np.asarray(scores[name], np.float64) for name in ('label', 'weight'))
    probability = sigmoid(scores['logit'])
    loss = row_losses(labels, scores['logit'])
    columns = (np.ones_like(weights), labels, probability, loss, (probability - labels) ** 2)
    return np.stack(columns, axis=1) * weights[:, None]


def of_sums(totals: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of `OF_SUMS` from totals of `sums`.

    Args:
      totals: float64 [samples, 5].

    Returns:
      float64 [samples] each; nan where undefined.
    """
    with np.errstate(invalid='ignore', divide='ignore'):
        rate = totals[:, _CLICKS] / totals[:, _WEIGHT]
        loss = totals[:, _LOSS] / totals[:, _WEIGHT]
        entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
        relative = np.where((rate > 0) & (rate < 1), loss / entropy, np.nan)
        return {
            'logloss': loss,
            'normalized_entropy': relative,
            'rig': 1 - relative,
            'calibration_ratio': totals[:, _PROMISED] / totals[:, _CLICKS],
            'brier': totals[:, _SQUARES] / totals[:, _WEIGHT],
        }


def unit_sums(scores: Mapping[str, np.ndarray], unit: np.ndarray) -> np.ndarray:
    """`sums` over the rows of each unit, float64 [units, 5].

    Args:
      scores: `logit`, `label`, `weight` and perhaps `group`, [rows].
      unit: of each row, see `units`.
    """
    columns = sums(scores)
    if 'group' not in scores:
        return columns
    return np.stack([np.bincount(unit, column) for column in columns.T], axis=1)
