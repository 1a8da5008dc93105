"""What other scores cost: placements and intervals against sums over all pairs and resampled rows."""

import numpy as np
import pytest

from dlf_jax.analysis.explanation import dlf_pictures, drawing
from dlf_jax.analysis.explanation.costs import Scored, as_json, auc_change, both_changes, mean_change
from dlf_jax.training import probability_metrics, ranking_metrics


def drawn(rows, seed, ties=False):
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < 0.4).astype(float)
    logits = (random.normal(size=rows) + labels).astype(np.float32)
    weights = random.integers(1, 4, rows).astype(float)
    return labels, logits.round(1) if ties else logits, weights


@pytest.mark.parametrize('ties', [False, True])
def test_placements_are_shares_of_pairs(ties):
    labels, logits, weights = drawn(60, 0, ties)
    found = Scored(labels, logits, weights).placements
    for i, score in enumerate(logits):
        others = labels != labels[i]
        ahead = (logits < score) if labels[i] else (logits > score)
        expected = np.average((ahead + 0.5 * (logits == score))[others], weights=weights[others])
        np.testing.assert_allclose(found[i], expected, rtol=1e-12)
    for kind in (labels > 0.5, labels <= 0.5):
        area = np.average(found[kind], weights=weights[kind])
        np.testing.assert_allclose(area, ranking_metrics.auc(labels, logits, weights), rtol=1e-12)


def test_changes_are_differences_of_the_metrics():
    labels, logits, weights = drawn(200, 1)
    other = logits + np.random.default_rng(2).normal(size=200).astype(np.float32)
    base, changed = Scored(labels, logits, weights), Scored(labels, other, weights)
    found = both_changes(labels, changed.losses - base.losses, base.placements - changed.placements, weights)
    loss = probability_metrics.logloss(labels, other, weights) - probability_metrics.logloss(
        labels, logits, weights
    )
    area = ranking_metrics.auc(labels, logits, weights) - ranking_metrics.auc(labels, other, weights)
    np.testing.assert_allclose(found['logloss']['mean'], loss, rtol=1e-9)
    np.testing.assert_allclose(found['auc']['mean'], area, rtol=1e-9)


def test_intervals_are_those_of_other_samples():
    """The deviation over fresh samples of the same law is that which the intervals of one sample say."""
    areas, losses, widths = [], [], []
    for seed in range(300):
        labels, logits, weights = drawn(400, seed)
        other = logits + np.random.default_rng([seed, 1]).normal(size=400).astype(np.float32)
        base, changed = Scored(labels, logits, weights), Scored(labels, other, weights)
        area = auc_change(labels, base.placements - changed.placements, weights)
        loss = mean_change(changed.losses - base.losses, weights)
        areas.append(area.value)
        losses.append(loss.value)
        widths.append([np.diff(area.interval())[0], np.diff(loss.interval())[0]])
    expected = np.mean(widths, 0) / (2 * 1.96)
    np.testing.assert_allclose([np.std(areas), np.std(losses)], expected, rtol=0.12)


def test_what_is_undefined_is_none():
    one_class = Scored(np.ones(5), np.arange(5, dtype=np.float32), np.ones(5))
    found = both_changes(np.ones(5), one_class.losses, one_class.placements, np.ones(5))
    assert found['auc'] == {'mean': None, 'low': None, 'high': None}
    assert found['logloss']['mean'] > 0
    single = as_json(mean_change(np.array([0.25]), np.ones(1)))
    assert (single['mean'], single['low']) == (0.25, None)


def test_one_click_has_a_mean_and_no_interval():
    labels, changes = np.array([1.0, 0, 0, 0]), np.array([0.5, 0.1, 0.2, 0.2])
    found = as_json(auc_change(labels, changes, np.ones(4)))
    assert found == {'mean': 0.5, 'low': None, 'high': None}
    assert as_json(auc_change(0 * labels, changes, np.ones(4)))['mean'] is None


def test_costs_without_an_interval_are_drawn():
    pytest.importorskip('matplotlib')
    cost = {'mean': 0.3, 'low': None, 'high': None}
    pathway = {'pathway': 'residual', 'share_of_variance': 0.0, 'logloss': cost, 'auc': cost}
    with drawing.style():
        _, told, figure = dlf_pictures.pathways({'layers': [{'layer': 1, 'pathways': [pathway]}]})
        assert '</svg>' in drawing.svg(figure, told)
