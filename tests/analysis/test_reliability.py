"""Reliability diagrams: bins, and intervals that hold the truth as often as they say."""

import numpy as np
import pytest
from scipy.stats import binomtest

from dlf_jax.analysis.reliability import reliability, wilson
from dlf_jax.training.probability_metrics import expected_calibration_error, sigmoid


def drawn(seed, rows):
    draw = np.random.default_rng(seed)
    logit = draw.normal(-1.5, 1.2, rows)
    label = (draw.random(rows) < sigmoid(logit)).astype(np.float32)
    return {'logit': logit, 'label': label, 'weight': np.ones(rows)}


@pytest.mark.parametrize(('clicks', 'rows'), [(0, 5), (5, 5), (3, 40), (200, 10_000)])
@pytest.mark.parametrize('level', [0.9, 0.95])
def test_wilson_equals_scipy(clicks, rows, level):
    expected = binomtest(clicks, rows).proportion_ci(level, 'wilson')
    assert wilson(clicks / rows, rows, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_bins_add_up_to_the_calibration_error():
    scores = drawn(0, 4000)
    scores['weight'] = np.random.default_rng(1).integers(0, 4, 4000).astype(np.float32)
    bins = reliability(scores, 10)
    assert sum(one.rows for one in bins) == np.count_nonzero(scores['weight'])
    total = sum(one.weight for one in bins)
    assert total == scores['weight'].sum()
    assert max(one.weight for one in bins) < 1.02 * total / 10
    error = sum(one.weight * abs(one.probability - one.rate) for one in bins) / total
    expected = expected_calibration_error(scores['label'], scores['logit'], scores['weight'], 10)
    assert error == pytest.approx(expected, abs=1e-12)
    assert [one.probability for one in bins] == sorted(one.probability for one in bins)


def test_intervals_of_a_calibrated_model_hold_its_promises():
    inside = [
        one.low <= one.probability <= one.high for seed in range(60) for one in reliability(drawn(seed, 3000))
    ]
    # 900 intervals: three standard errors.
    assert np.mean(inside) == pytest.approx(0.95, abs=0.025)


def test_few_rows_ties_and_weights_of_0():
    assert reliability({name: np.zeros(0) for name in ('logit', 'label', 'weight')}) == []
    assert reliability({'logit': np.zeros(3), 'label': np.zeros(3), 'weight': np.zeros(3)}) == []
    (one,) = reliability({'logit': np.zeros(3), 'label': np.array([1.0, 0, 0]), 'weight': np.ones(3)})
    assert (one.rows, one.weight, one.probability) == (3, 3.0, 0.5)
    assert one.rate == pytest.approx(1 / 3)
    assert 0 < one.low < 1 / 3 < one.high < 1
