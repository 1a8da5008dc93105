"""Logistic regression: its columns, and what weights, missing numbers and soft labels do."""

import numpy as np
import pytest

from dlf_jax.baselines import logistic
from dlf_jax.data.schema import PADDING, Schema
from dlf_jax.training import probability_metrics, ranking_metrics
from tests.baselines.tables import SCHEMA, rows, take


def scores(fitted, valid):
    return ranking_metrics.auc(valid['label'], fitted.logits(valid), valid['weight'])


def test_columns():
    train = rows(200)
    train['numeric'][:50] = np.nan
    design = logistic.Design.of(train, SCHEMA)
    matrix = design.matrix(train).toarray()
    # Others and 10 users, others and 20 ads, others and 4 tags; the price, and whether it is there.
    assert matrix.shape == (200, 11 + 21 + 5 + 2)
    assert (design.id_columns, design.columns) == (37, 39)
    np.testing.assert_array_equal(matrix[:, :11].argmax(1), train['categorical'][:, 0] - 1)
    np.testing.assert_array_equal(matrix[:, :32].sum(1), 2)
    has_tags = (train['bags'] != PADDING).any(1)
    np.testing.assert_allclose(matrix[:, 32:37].sum(1), has_tags, rtol=1e-6)
    twice = {**take(train, [0]), 'bags': np.array([[14, 15, 14]], np.int32)}
    np.testing.assert_allclose(design.matrix(twice).toarray()[0, 32:37], [0, 2 / 3, 1 / 3, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(matrix[:50, 37:], [[0, 1]] * 50)
    assert matrix[50:, 37].mean() == pytest.approx(0, abs=1e-5)
    assert matrix[50:, 37].std() == pytest.approx(1, abs=1e-5)


def test_it_learns_and_a_weight_is_so_many_rows():
    train, valid = rows(1500), rows(500, seed=1)
    fitted = logistic.fit(train, valid, SCHEMA, seed=0)
    assert scores(fitted, valid) > 0.8
    train['weight'] = np.random.default_rng(2).integers(1, 4, 1500).astype(np.float32)
    heavy = logistic.fit(train, valid, SCHEMA, seed=0).logits(valid)
    repeated = take(train, np.repeat(np.arange(1500), train['weight'].astype(int)))
    repeated['weight'] = np.ones_like(repeated['weight'])
    np.testing.assert_allclose(heavy, logistic.fit(repeated, valid, SCHEMA, seed=0).logits(valid), atol=0.02)
    assert np.abs(heavy - fitted.logits(valid)).max() > 0.05


def test_soft_labels_are_probabilities():
    train, valid = rows(1500, soft=True), rows(500, seed=1, soft=True)
    found = probability_metrics.sigmoid(logistic.fit(train, valid, SCHEMA, seed=0).logits(valid))
    assert np.corrcoef(found, valid['label'])[0, 1] > 0.95


def test_missing_numbers_and_unknown_ids_are_scored():
    train, valid = rows(500), rows(20, seed=1)
    fitted = logistic.fit(train, valid, SCHEMA, seed=0)
    strange = {**valid, 'numeric': np.full((20, 1), np.nan, np.float32)}
    strange['categorical'] = np.full((20, 2), 1_000_000, np.int32)
    assert np.isfinite(fitted.logits(strange)).all()


def test_labels_of_one_kind():
    train, valid = rows(50), rows(20, seed=1)
    train['label'][:] = 1
    assert (logistic.fit(train, valid, SCHEMA, seed=0).logits(valid) > 10).all()


def test_numbers_alone():
    schema = Schema(SCHEMA.numeric, 'click')
    train, valid = (
        {k: v for k, v in rows(400, s).items() if k not in ('categorical', 'bags')} for s in (0, 1)
    )
    fitted = logistic.fit(train, valid, schema, seed=0)
    assert fitted.parameters == {'table': 0, 'dense': 2}
    assert scores(fitted, valid) > 0.6
