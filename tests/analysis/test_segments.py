"""Segments: the metrics of each value's rows, the worst first."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from dlf_jax.analysis.segments import segments
from dlf_jax.training.probability_metrics import sigmoid

NAMES = ('mobile', 'desktop', 'tablet', 'tv', 'watch')


@pytest.fixture(scope='module')
def rows():
    draw = np.random.default_rng(0)
    codes = draw.choice(5, 2000, p=(0.5, 0.3, 0.1, 0.07, 0.03))
    logit = draw.normal(-1, 1, 2000)
    # On desktop the model knows nothing.
    truth = np.where(codes == 1, -1.0, logit)
    label = (draw.random(2000) < sigmoid(truth)).astype(np.float32)
    scores = {'logit': logit, 'label': label, 'weight': draw.integers(1, 3, 2000).astype(np.float32)}
    return codes, scores


def test_each_value_s_metrics_are_those_of_its_rows(rows):
    codes, scores = rows
    found = segments('device', codes, NAMES, scores)
    assert {one.value for one in found} == set(NAMES)
    assert (found[0].value, found[0].column) == ('desktop', 'device')
    for one in found:
        own = codes == NAMES.index(one.value)
        label, logit, weight = (scores[name][own] for name in ('label', 'logit', 'weight'))
        assert one.rows == own.sum()
        assert one.rate == pytest.approx(np.average(label, weights=weight))
        assert one.auc == pytest.approx(roc_auc_score(label, logit, sample_weight=weight))
        loss = log_loss(label, sigmoid(logit), sample_weight=weight)
        assert one.logloss == pytest.approx(loss)
        rate = np.full(len(label), one.rate)
        assert one.normalized_entropy == pytest.approx(loss / log_loss(label, rate, sample_weight=weight))
        expected = np.average(sigmoid(logit), weights=weight) / one.rate
        assert one.calibration_ratio == pytest.approx(expected)
    entropies = [one.normalized_entropy for one in found]
    assert entropies == sorted(entropies, reverse=True)


def test_values_beyond_the_top_are_one_segment(rows):
    codes, scores = rows
    found = {one.value: one for one in segments('device', codes, NAMES, scores, top=2)}
    assert set(found) == {'mobile', 'desktop', 'the rest (3 values)'}
    assert sum(one.rows for one in found.values()) == 2000
    assert [one.value for one in found.values() if one.rest] == ['the rest (3 values)']
    assert sum(one.clicks for one in found.values()) == (scores['label'] > 0.5).sum()
    # A single value is no rest.
    assert {one.value for one in segments('device', codes, NAMES, scores, top=4)} == set(NAMES)


def test_a_row_counts_once_for_each_of_its_values():
    scores = {'logit': np.array([0.0, 1.0, 2.0]), 'label': np.array([0, 1, 0]), 'weight': np.ones(3)}
    # Row 0 has a (twice) and b, row 1 has c and d, row 2 has none.
    codes, row_of = np.array([0, 0, 1, 2, 3]), np.array([0, 0, 0, 1, 1])
    found = {one.value: one.rows for one in segments('tags', codes, 'abcd', scores, rows=row_of)}
    assert found == {'a': 1, 'b': 1, 'c': 1, 'd': 1}
    found = {one.value: one.rows for one in segments('tags', codes, 'abcd', scores, 2, row_of)}
    assert found == {'a': 1, 'b': 1, 'the rest (2 values)': 1}


def test_what_is_undefined_comes_last():
    scores = {'logit': np.zeros(5), 'label': np.array([0, 1, 1, 1, 1]), 'weight': np.ones(5)}
    found = segments('x', np.array([0, 0, 1, 2, 2]), ('both', 'one', 'two'), scores)
    assert [one.value for one in found] == ['both', 'two', 'one']
    assert (found[1].auc, found[1].normalized_entropy) == (None, None)
    assert found[1].logloss == pytest.approx(np.log(2))
    assert segments('x', np.zeros(0, int), (), {name: np.zeros(0) for name in scores}) == []
