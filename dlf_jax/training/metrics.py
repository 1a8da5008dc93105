"""The list of metrics, `METRICS`, and which of them an evaluation computes and shows."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Container, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dlf_jax import plugins
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UsageError
from dlf_jax.training import probability_metrics, ranking_metrics

_log = logging.getLogger(__name__)

# Value of `config.training.monitor` for the difference of the two metrics.
AUC_MINUS_LOGLOSS = 'auc-logloss'


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number that tells how well logits rank or predict labels.

    Attributes:
      function: called as `function(labels, logits, weights)`, all float [rows]; labels are from 0 to 1 (a
        soft label is the probability of a click), weights above 0. Returns a float; where the metric is
        undefined, nan.
      higher_is_better: direction, for the choice of the best step, for tables and for plots; None: neither,
        because the best value is between, so the metric chooses no step.
      title: name in tables and plots.
      grouped: whether the function is also given `groups=`, int64 [rows], `NO_GROUP` for rows that belong to
        no group; such a metric is left out where the data names no group column.
      standard: whether every evaluation computes it; others are computed where `config.training.metrics` or
        `config.training.monitor` names them.
      shown: whether log lines, tables and plots show it unasked; others are in results, `metrics.jsonl` and
        TensorBoard, and are shown where the config names them.
    """

    function: Callable[..., float]
    higher_is_better: bool | None
    title: str
    grouped: bool = False
    standard: bool = False
    shown: bool = False

    @property
    def label(self) -> str:
        """The title with an arrow towards better values."""
        if self.higher_is_better is None:
            return self.title
        return f'{self.title} {"↑" if self.higher_is_better else "↓"}'

    def __call__(self, scores: Mapping[str, np.ndarray]) -> float | None:
        """The metric of `label`, `logit`, `weight` and perhaps `group`, each [rows]; None where undefined."""
        groups = {'groups': scores['group']} if self.grouped else {}
        value = float(self.function(scores['label'], scores['logit'], scores['weight'], **groups))
        return value if np.isfinite(value) else None


# Metrics by name, which is their key in results. To add one: an entry here, or an object of your own named
# by `config.training.metrics` as `module:Name` or `file.py:Name`.
METRICS: dict[str, Metric] = {
    'auc': Metric(ranking_metrics.auc, True, 'AUC', standard=True, shown=True),
    'gauc': Metric(ranking_metrics.grouped_auc, True, 'GAUC', grouped=True, standard=True, shown=True),
    'logloss': Metric(probability_metrics.logloss, False, 'Logloss', standard=True, shown=True),
    'normalized_entropy': Metric(
        probability_metrics.normalized_entropy, False, 'Normalized entropy', standard=True
    ),
    'rig': Metric(
        probability_metrics.relative_information_gain, True, 'Relative information gain', standard=True
    ),
    'calibration_ratio': Metric(
        probability_metrics.calibration_ratio, None, 'Calibration ratio', standard=True
    ),
    'ece': Metric(
        probability_metrics.expected_calibration_error, False, 'Expected calibration error', standard=True
    ),
    'brier': Metric(probability_metrics.brier, False, 'Brier score', standard=True),
    'pr_auc': Metric(ranking_metrics.average_precision, True, 'PR-AUC', standard=True),
}
# Keys beside metrics in results and in lines of metrics.jsonl.
_OTHER_KEYS = (
    'kind', 'step', 'seed', 'epoch', 'rows', 'rows_without_group', 'best_possible_auc', 'out_of_vocabulary',
    'before_calibration', 'calibration', 'intervals', 'segments',
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


def shown(config: ConfigDict) -> dict[str, Metric]:
    """Those of `selected` that log lines, tables and plots show: AUC, GAUC, Logloss and what a config names.

    Args:
      config: the whole config.

    Raises:
      UsageError: as `selected` does.
    """
    named = {name.rpartition(':')[2] for name in _named(config)}
    return {key: metric for key, metric in selected(config).items() if metric.shown or key in named}


def validate(config: ConfigDict) -> None:
    """Checks the keys that name metrics, and makes the paths of files in them absolute, in place.

    Args:
      config: the whole config.

    Raises:
      UsageError: as `selected` does; or the monitor is a metric of which neither more nor less is better.
    """
    config.training.metrics = tuple(map(plugins.absolute, config.training.metrics))
    config.training.monitor = plugins.absolute(config.training.monitor)
    selected(config)
    monitor = config.training.monitor
    if monitor != AUC_MINUS_LOGLOSS and _named(config)[monitor].higher_is_better is None:
        raise UsageError(
            f'config.training.monitor={monitor!r}: neither more nor less of it is better, so it chooses no '
            'step; logloss looks at probabilities, too'
        )


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


def describe(
    found: Mapping[str, Any], keys: Container[str], digits: int = 6, base_rate: float | None = None
) -> str:
    """Metrics of an evaluation as text: `auc 0.981234, logloss 0.151234`.

    Args:
      found: metrics by key, among other entries.
      keys: those to tell, such as `shown` gives them.
      digits: number of digits after the point.
      base_rate: logloss of the training part's mean label, told beside the model's; None: not known.
    """
    values = {key: value for key, value in found.items() if key in keys}
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
