import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from dlf_jax.training import metrics


@pytest.mark.parametrize('levels', [2, 5, 1000, 10**9])
@pytest.mark.parametrize('seed', range(3))
def test_auc_equals_scikit_learn_ties_and_all(levels, seed):
    draw = np.random.default_rng(seed)
    labels = (draw.random(5000) < 0.3).astype(np.float32)
    scores = (draw.integers(0, levels, 5000) + labels * levels * 0.1).astype(np.float32)
    assert metrics.auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


def test_weighted_auc_equals_scikit_learn_and_weight_0_does_not_count():
    draw = np.random.default_rng(0)
    labels, scores = draw.integers(0, 2, 999), draw.integers(0, 30, 999)
    weights = draw.integers(0, 3, 999)
    expected = roc_auc_score(labels, scores, sample_weight=weights)
    assert metrics.auc(labels, scores, weights) == pytest.approx(expected, abs=1e-9)
    kept = weights > 0
    assert metrics.auc(labels, scores, kept) == metrics.auc(labels[kept], scores[kept])


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_order(rows):
    positive = [s for label, s in rows if label]
    negative = [s for label, s in rows if not label]
    found = metrics.auc(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]))
    if not positive or not negative:
        assert np.isnan(found)
        return
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert found == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auc_of_nothing_is_nan():
    assert np.isnan(metrics.auc(np.array([]), np.array([])))


def test_logloss_equals_scikit_learn():
    draw = np.random.default_rng(1)
    labels, logits = draw.integers(0, 2, 2000), draw.normal(size=2000) * 3
    expected = log_loss(labels, metrics.sigmoid(logits))
    assert metrics.logloss(labels, logits) == pytest.approx(expected, abs=1e-9)


def test_logloss_is_clipped_at_1e_7():
    assert metrics.logloss(np.array([1.0]), np.array([-1000.0])) == pytest.approx(-np.log(1e-7))
    assert metrics.logloss(np.array([0.0]), np.array([1000.0])) == pytest.approx(-np.log(1e-7))


def test_sigmoid_does_not_overflow():
    with np.errstate(all='raise', under='ignore'):
        assert metrics.sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


def test_monitored():
    assert metrics.monitored('auc', 0.9, 0.2) == 0.9
    assert metrics.monitored('auc-logloss', 0.9, 0.2) == pytest.approx(0.7)
    assert metrics.monitored('logloss', 0.9, 0.2) == -0.2


@pytest.mark.parametrize('weighted', [False, True])
def test_grouped_auc_is_the_weighted_mean_of_the_groups(weighted):
    draw = np.random.default_rng(4)
    groups, labels = draw.integers(0, 40, 600), draw.integers(0, 2, 600)
    scores = draw.integers(0, 9, 600).astype(np.float32)
    weights = draw.integers(0, 4, 600).astype(float) if weighted else None
    labels[groups == 7] = 1
    found, sizes = [], []
    for group in np.unique(groups):
        rows = groups == group
        own = weights[rows] if weighted else np.ones(rows.sum())
        there = own > 0
        if len(set(labels[rows][there])) == 2:
            found.append(roc_auc_score(labels[rows], scores[rows], sample_weight=own))
            sizes.append(own.sum())
    expected = np.average(found, weights=sizes)
    assert metrics.grouped_auc(groups, labels, scores, weights) == pytest.approx(expected, abs=1e-9)
    assert metrics.grouped_auc(np.zeros(600), labels, scores, weights) == pytest.approx(
        metrics.auc(labels, scores, weights), abs=1e-12
    )
    assert np.isnan(metrics.grouped_auc(np.arange(3), np.array([0, 1, 1]), np.zeros(3)))
    assert np.isnan(metrics.grouped_auc(np.array([]), np.array([]), np.array([])))
