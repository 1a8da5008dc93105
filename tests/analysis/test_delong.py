"""DeLong's errors against the definition, the bootstrap, and intervals that hold the truth."""

import numpy as np
import pytest
from scipy.stats import norm

from dlf_jax.analysis.delong import Estimate, auc_difference, auc_estimate
from dlf_jax.training.ranking_metrics import auc


def drawn(seed, rows=400, levels=50, apart=0.8):
    """Labels, and the scores of two models, which are related, with ties."""
    draw = np.random.default_rng(seed)
    labels = (draw.random(rows) < 0.3).astype(float)
    shared = draw.normal(size=rows)
    scores = [
        np.round((shared + 0.7 * draw.normal(size=rows) + apart * labels) * levels / 6) for _ in range(2)
    ]
    return labels, *scores


def by_definition(labels, scores, others=None):
    """DeLong et al. 1988, eqs. 3 to 6, a loop over pairs."""

    def components(own):
        pairs = own[labels > 0.5][:, None] - own[labels < 0.5][None, :]
        kernel = np.where(pairs > 0, 1.0, np.where(pairs == 0, 0.5, 0.0))
        return kernel.mean(1), kernel.mean(0)

    parts = components(scores)
    if others is not None:
        parts = [one - other for one, other in zip(parts, components(others), strict=True)]
    return np.sqrt(sum(np.var(part, ddof=1) / len(part) for part in parts))


@pytest.mark.parametrize('levels', [4, 50, 10**6])
def test_errors_are_those_of_the_definition(levels):
    labels, scores, others = drawn(0, levels=levels)
    found = auc_estimate(labels, scores)
    assert found.value == auc(labels, scores)
    assert found.error == pytest.approx(by_definition(labels, scores), abs=1e-12)
    found = auc_difference(labels, scores, others)
    assert found.value == auc(labels, scores) - auc(labels, others)
    assert found.error == pytest.approx(by_definition(labels, scores, others), abs=1e-12)
    assert found.p_value == pytest.approx(2 * norm.sf(abs(found.value) / found.error))


def test_errors_of_weighted_rows_are_those_of_the_bootstrap():
    labels, scores, others = drawn(1, 2000)
    draw = np.random.default_rng(2)
    weights = draw.integers(1, 4, 2000).astype(float)
    one, both = auc_estimate(labels, scores, weights), auc_difference(labels, scores, others, weights)
    ones, differences = [], []
    for _ in range(500):
        own = weights * draw.poisson(1, 2000)
        ones.append(auc(labels, scores, own))
        differences.append(ones[-1] - auc(labels, others, own))
    # The standard deviation of 500 has an error of 3 %.
    assert one.error == pytest.approx(np.std(ones), rel=0.12)
    assert both.error == pytest.approx(np.std(differences), rel=0.12)
    assert both.error < one.error


def test_equal_weights_and_weights_of_0_change_nothing():
    labels, scores, others = drawn(3)
    plain = auc_difference(labels, scores, others)
    assert auc_difference(labels, scores, others, np.full(400, 2.5)).error == pytest.approx(plain.error)
    more = [np.r_[values, values[:50] + 1] for values in (labels * 0 + labels, scores, others)]
    more[0] = np.r_[labels, 1 - labels[:50]]
    assert auc_difference(*more, np.r_[np.ones(400), np.zeros(50)]).error == pytest.approx(plain.error)


def test_intervals_hold_the_truth_as_often_as_they_say():
    # Normal scores one and 0.8 apart: the AUC is known.
    truth = norm.cdf(0.8 / np.sqrt(2))
    inside = 0
    for seed in range(300):
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, 2, 200)
        low, high = auc_estimate(labels, draw.normal(size=200) + 0.8 * labels).interval()
        inside += low <= truth <= high
    assert inside / 300 == pytest.approx(0.95, abs=0.04)


def test_what_is_undefined():
    for labels in (np.zeros(3), np.ones(3), np.array([0.0, 0.0, 1.0])):
        assert np.isnan(auc_estimate(labels, np.arange(3)).error)
    assert Estimate(0.0, 0.0).p_value is None
    assert Estimate(0.1, float('nan')).p_value is None
    assert auc_difference(*drawn(5)[:2], drawn(5)[1]).error == 0
