"""Metrics of scored rows, exact and in float64; `METRICS` is the list of them."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dlf_jax import plugins
from dlf_jax.data.schema import NO_GROUP, Schema
from dlf_jax.errors import UsageError

_log = logging.getLogger(__name__)

# Probabilities are clipped to [CLIP, 1 - CLIP] before their logarithm is taken.
CLIP = 1e-7
# Value of `config.training.monitor` for the difference of the two metrics.
AUC_MINUS_LOGLOSS = 'auc-logloss'


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number that tells how well logits rank or predict labels.

    Attributes:
      function: called as `function(labels, logits, weights)`, all float [rows]; labels are from 0 to 1 (a
        soft label is the probability of a click), weights above 0. Returns a float; where the metric is
        undefined, nan.
      higher_is_better: direction, for the choice of the best step, for tables and for plots.
      title: name in tables and plots.
      grouped: whether the function is also given `groups=`, int64 [rows], `NO_GROUP` for rows that belong to
        no group; such a metric is left out where the data names no group column.
      standard: whether every evaluation computes it; others are computed where `config.training.metrics` or
        `config.training.monitor` names them.
    """

    function: Callable[..., float]
    higher_is_better: bool
    title: str
    grouped: bool = False
    standard: bool = False

    @property
    def label(self) -> str:
        """The title with an arrow towards better values."""
        return f'{self.title} {"↑" if self.higher_is_better else "↓"}'

    def __call__(self, scores: Mapping[str, np.ndarray]) -> float | None:
        """The metric of `label`, `logit`, `weight` and perhaps `group`, each [rows]; None where undefined."""
        groups = {'groups': scores['group']} if self.grouped else {}
        value = float(self.function(scores['label'], scores['logit'], scores['weight'], **groups))
        return value if np.isfinite(value) else None


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


def logloss(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean binary cross-entropy of the logits' sigmoids, clipped to [1e-7, 1 - 1e-7].

    Args:
      labels: probabilities of clicks, from 0 to 1, [rows].
      logits: [rows].
      weights: weights of the rows, 0 or more, [rows]; None: all 1.

    Returns:
      A number above 0; nan where no row has a weight above 0.
    """
    probability = np.clip(sigmoid(logits), CLIP, 1 - CLIP)
    target = np.asarray(labels, np.float64)
    return _average(-(target * np.log(probability) + (1 - target) * np.log(1 - probability)), weights)


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


def calibration_ratio(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Predicted clicks over observed ones; 1 is right on average, more is too high.

    Args:
      labels: probabilities of clicks, from 0 to 1, [rows].
      logits: [rows].
      weights: weights of the rows, 0 or more, [rows]; None: all 1.

    Returns:
      A number of at least 0; nan where no row with a weight above 0 is a click.
    """
    observed = _average(np.asarray(labels, np.float64), weights)
    return _average(sigmoid(logits), weights) / observed if observed > 0 else float('nan')


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


# Metrics by name, which is their key in results. To add one: an entry here, or an object of your own named
# by `config.training.metrics` as `module:Name` or `file.py:Name`.
METRICS: dict[str, Metric] = {
    'auc': Metric(auc, True, 'AUC', standard=True),
    'gauc': Metric(grouped_auc, True, 'GAUC', grouped=True, standard=True),
    'logloss': Metric(logloss, False, 'Logloss', standard=True),
    'normalized_entropy': Metric(normalized_entropy, False, 'Normalized entropy'),
    'brier': Metric(brier, False, 'Brier score'),
}
# Keys beside metrics in results and in lines of metrics.jsonl.
_OTHER_KEYS = (
    'kind', 'step', 'seed', 'epoch', 'rows', 'rows_without_group', 'best_possible_auc', 'out_of_vocabulary',
)  # fmt: skip


def selected(config: ConfigDict) -> dict[str, Metric]:
    """Metrics that evaluations of a config compute, by their key in results.

    These are the standard ones, then those that `config.training.metrics` and `config.training.monitor` name.
    The key of a metric of one's own, `file.py:Name`, is `Name`.

    Args:
      config: the whole config.

    Raises:
      UsageError: there is no such metric, or two of them have the same key.
    """
    found = {name: metric for name, metric in METRICS.items() if metric.standard}
    for name, metric in _named(config).items():
        key = name.rpartition(':')[2]
        if key in _OTHER_KEYS or found.get(key, metric) is not metric:
            raise UsageError(f'config.training.metrics: {name!r}: results have another {key!r}; rename it')
        found[key] = metric
    return found


def validate(config: ConfigDict) -> None:
    """Checks the keys that name metrics, and makes the paths of files in them absolute, in place.

    Args:
      config: the whole config.

    Raises:
      UsageError: as `selected` does.
    """
    config.training.metrics = tuple(map(plugins.absolute, config.training.metrics))
    config.training.monitor = plugins.absolute(config.training.monitor)
    selected(config)


def check_groups(config: ConfigDict, group: str) -> None:
    """Raises UsageError where the config names a metric of groups and the data has none.

    Args:
      config: the whole config.
      group: group column of the schema; '' for none.
    """
    for name, metric in _named(config).items():
        if metric.grouped and not group:
            key = 'monitor' if name == config.training.monitor else 'metrics'
            raise UsageError(
                f'config.training.{key}: {name!r} is a metric of groups, and the data has no group column; '
                'config.dataset.group names one'
            )


def monitored(name: str, found: Mapping[str, Any]) -> float:
    """Value that training tries to raise.

    Args:
      name: value of `config.training.monitor`.
      found: metrics of an evaluation by key, None where undefined.

    Returns:
      The metric, negated where lower is better; nan where it is undefined.
    """
    if name == AUC_MINUS_LOGLOSS:
        return monitored('auc', found) + monitored('logloss', found)
    value = found[name.rpartition(':')[2]]
    if value is None:
        return float('nan')
    return value if _lookup(name, 'config.training.monitor').higher_is_better else -value


def undefined(monitor: str, scores: Mapping[str, np.ndarray]) -> bool:
    """Whether no model has the metrics of a monitor on rows with such labels, weights and groups.

    Of metrics that are not the package's, that is not known before there are logits.

    Args:
      monitor: value of `config.training.monitor`.
      scores: `label`, `weight` and perhaps `group`, each [rows].
    """
    names = ('auc', 'logloss') if monitor == AUC_MINUS_LOGLOSS else (monitor,)
    zeros = np.zeros(len(scores['label']))
    return any(name in METRICS and METRICS[name]({**scores, 'logit': zeros}) is None for name in names)


def tell_soft_labels(schema: Schema) -> None:
    """Logs from which label on a row counts as a click in AUC, where labels are soft."""
    if schema.soft_labels:
        _log.info('labels are numbers from 0 to 1: auc and gauc count those above 0.5 as clicks')


def describe(found: Mapping[str, Any], digits: int = 6, base_rate: float | None = None) -> str:
    """The metrics among the entries of an evaluation as text: `auc 0.981234, logloss 0.151234`.

    Args:
      found: metrics by key.
      digits: number of digits after the point.
      base_rate: logloss of the training part's mean label, told beside the model's; None: not known.
    """
    values = {key: value for key, value in found.items() if key not in _OTHER_KEYS}
    beside = {} if base_rate is None else {'logloss': f' (base rate {base_rate:.{digits}f})'}
    return ', '.join(
        f'{key} undefined' if value is None else f'{key} {value:.{digits}f}{beside.get(key, "")}'
        for key, value in values.items()
    )


def _named(config: ConfigDict) -> dict[str, Metric]:
    """Metrics that the config names, by that name."""
    found = {name: _lookup(name, 'config.training.metrics') for name in config.training.metrics}
    monitor = config.training.monitor
    if monitor != AUC_MINUS_LOGLOSS:
        found[monitor] = _lookup(monitor, 'config.training.monitor', AUC_MINUS_LOGLOSS)
    return found


def _lookup(name: str, key: str, *more: str) -> Metric:
    metric = plugins.lookup(name, {**METRICS, **dict.fromkeys(more)}, key)
    if not isinstance(metric, Metric):
        raise UsageError(
            f'{key}={name!r}: expected a dlf_jax.training.metrics.Metric, found {type(metric).__name__}'
        )
    return metric
