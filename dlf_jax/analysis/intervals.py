"""Confidence intervals of metrics, and of their differences between two models on the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dlf_jax.analysis import bootstrap, delong
from dlf_jax.analysis.bootstrap import OF_SUMS
from dlf_jax.errors import UserError
from dlf_jax.training import ranking_metrics

LEVEL = 0.95
# Metrics whose differences `paired` tells beside that of AUC.
_COMPARED = ('logloss', 'normalized_entropy')


def of_metrics(
    scores: Mapping[str, np.ndarray], samples: int, seed: int = 0, level: float = LEVEL
) -> dict[str, Any]:
    """Confidence intervals of the metrics of scored rows.

    Ends are quantiles of bootstrap samples (Efron 1979) of rows or, where rows have groups, of whole groups,
    because the rows of a user are not independent. Without groups the interval of AUC is DeLong's. The
    calibration error has none: resampling adds noise to what is noise in part already; a reliability
    diagram's bins have intervals.

    Args:
      scores: `logit`, `label`, `weight` and perhaps `group`, [rows].
      samples: number of bootstrap samples.
      seed: the same one gives the same intervals.
      level: share of such intervals that hold the true value.

    Returns:
      `level`, `samples`, `unit` (rows or groups) and `metrics`: both ends by name, None where undefined.
    """
    grouped, unit = 'group' in scores, bootstrap.units(scores)
    count = int(unit.max(initial=-1)) + 1
    totals = bootstrap.unit_sums(scores, unit)
    found: dict[str, list[np.ndarray]] = {name: [] for name in OF_SUMS}
    ranked: dict[str, list[float]] = {'pr_auc': [], **({'auc': []} if grouped else {})}
    labels, logits, weights, place = _by_score(scores, unit)
    functions = {'auc': ranking_metrics.auc, 'pr_auc': ranking_metrics.average_precision}
    for drawn in bootstrap.draws(count, samples, seed):
        for name, values in bootstrap.of_sums(drawn.astype(np.float64) @ totals).items():
            found[name].append(values)
        for times in drawn:
            own = weights * times[place]
            for name, values_of in ranked.items():
                values_of.append(functions[name](labels, logits, own))
    ends = {name: _quantiles(np.concatenate(values), level) for name, values in found.items()}
    ends |= {name: _quantiles(np.asarray(values), level) for name, values in ranked.items()}
    if not grouped:
        low, high = delong.auc_estimate(labels, logits, weights).interval(level)
        ends['auc'] = [max(low, 0.0), min(high, 1.0)] if math.isfinite(low) else None
    names = ('auc', *OF_SUMS, 'pr_auc')
    return {
        'level': level,
        'samples': samples,
        'unit': 'groups' if grouped else 'rows',
        'metrics': {name: ends[name] for name in names},
    }


def _by_score(scores: Mapping[str, np.ndarray], unit: np.ndarray) -> tuple[np.ndarray, ...]:
    """Labels, logits, weights and units in the order of the logits, [rows] each."""
    order = np.argsort(scores['logit'], kind='stable')
    label, logit = (np.asarray(scores[name])[order] for name in ('label', 'logit'))
    return label, logit, np.asarray(scores['weight'], np.float64)[order], unit[order]


def _quantiles(values: np.ndarray, level: float) -> list[float] | None:
    """Both ends of a percentile interval; None where a sample has no value."""
    if not len(values) or not np.isfinite(values).all():
        return None
    return [float(end) for end in np.quantile(values, [(1 - level) / 2, (1 + level) / 2])]


def paired(
    scores: Mapping[str, np.ndarray],
    others: Mapping[str, np.ndarray],
    samples: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, dict[str, float | None]]:
    """Differences of two models' metrics on the same rows, the first less the second.

    What makes a row hard for both cancels, so the interval is much narrower than those of each model. It is
    about these rows as a sample, for these two sets of weights; how much a difference varies from seed to
    seed is another question, which only several seeds answer. AUC: DeLong; Logloss and normalized entropy:
    bootstrap of rows. Where rows have groups, whole groups are drawn, for AUC too.

    Args:
      scores: `logit`, `label`, `weight` and perhaps `group`, [rows].
      others: of the other model.
      samples: number of bootstrap samples.
      seed: the same one gives the same intervals.
      level: share of such intervals that hold the true difference.

    Returns:
      For `auc`, `logloss` and `normalized_entropy`: `difference`, `low` and `high`; for `auc` without groups
      also `p`, of no difference. None where undefined.

    Raises:
      UserError: the labels, weights or groups are not the same.
    """
    check_same_rows(scores, others)
    grouped, unit = 'group' in scores, bootstrap.units(scores)
    count = int(unit.max(initial=-1)) + 1
    both = [bootstrap.unit_sums(one, unit) for one in (scores, others)]
    samples_of: dict[str, list[np.ndarray]] = {name: [] for name in _COMPARED}
    # By score, so that no sample is sorted anew; with groups only, since else AUC is not drawn.
    ranked = [_by_score(one, unit) for one in (scores, others)] if grouped else []
    aucs: list[float] = []
    for drawn in bootstrap.draws(count, samples, seed):
        times = drawn.astype(np.float64)
        mine, theirs = (bootstrap.of_sums(times @ totals) for totals in both)
        for name, values in samples_of.items():
            values.append(mine[name] - theirs[name])
        for one in drawn if grouped else ():
            mine_auc, other_auc = (
                ranking_metrics.auc(labels, logits, weights * one[place])
                for labels, logits, weights, place in ranked
            )
            aucs.append(mine_auc - other_auc)
    whole = [bootstrap.of_sums(totals.sum(axis=0, keepdims=True)) for totals in both]
    found = {'auc': _auc_difference(scores, others, aucs if grouped else None, level)}
    for name, values in samples_of.items():
        low, high = _quantiles(np.concatenate(values), level) or (None, None)
        difference = float(whole[0][name][0] - whole[1][name][0])
        found[name] = {
            'difference': difference if math.isfinite(difference) else None, 'low': low, 'high': high
        }  # fmt: skip
    return found


def _auc_difference(
    scores: Mapping[str, np.ndarray],
    others: Mapping[str, np.ndarray],
    samples: list[float] | None,
    level: float,
) -> dict[str, float | None]:
    labels, weights = scores['label'], scores['weight']
    if samples is not None:
        mine, theirs = (ranking_metrics.auc(labels, one['logit'], weights) for one in (scores, others))
        low, high = _quantiles(np.asarray(samples), level) or (None, None)
        return {
            'difference': mine - theirs if math.isfinite(mine - theirs) else None,
            'low': low,
            'high': high,
        }
    estimate = delong.auc_difference(labels, scores['logit'], others['logit'], weights)
    difference = estimate.value if math.isfinite(estimate.value) else None
    low, high = estimate.interval(level) if math.isfinite(estimate.error) else (None, None)
    return {'difference': difference, 'low': low, 'high': high, 'p': estimate.p_value}


def check_same_rows(scores: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> None:
    """Raises UserError where labels, weights or groups differ: then the rows are not the same."""
    for name in ('label', 'weight', 'group'):
        if (name in scores) != (name in others):
            raise UserError(
                f'the runs were not scored on the same rows: only one of them has a {name} column'
            )
        if name not in scores:
            continue
        one, other = np.asarray(scores[name]), np.asarray(others[name])
        if len(one) != len(other):
            raise UserError(
                f'the runs were not scored on the same rows: {len(one):,} of one, {len(other):,} of the other'
            )
        differing = np.flatnonzero(one != other)
        if len(differing):
            raise UserError(
                f'the runs were not scored on the same rows: the {name} of row {differing[0] + 1:,} is '
                f'{one[differing[0]]:g} in one and {other[differing[0]]:g} in the other '
                f'({len(differing):,} of {len(one):,} rows differ)'
            )
