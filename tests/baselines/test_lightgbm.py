"""LightGBM: its columns, and what weights, missing numbers, soft labels and many ids do."""

import dataclasses

import numpy as np

from dlf_jax.baselines import lightgbm
from dlf_jax.training import probability_metrics, ranking_metrics
from tests.baselines.tables import SCHEMA, rows


def scores(fitted, valid):
    return ranking_metrics.auc(valid['label'], fitted.logits(valid), valid['weight'])


def test_columns():
    train = rows(200)
    train['numeric'][0] = np.nan
    design = lightgbm.Design.of(train, SCHEMA)
    matrix = design.matrix(train)
    assert matrix.shape == (200, design.columns) == (200, 2 + 1 + 4)
    np.testing.assert_array_equal(matrix[:, 0], train['categorical'][:, 0] - 1)
    np.testing.assert_array_equal(matrix[:, 2], train['numeric'][:, 0])
    for tag in range(4):
        np.testing.assert_array_equal(matrix[:, 3 + tag], (train['bags'] == 14 + tag).any(1))


def test_it_learns_the_same_twice_and_weights_matter(capfd):
    train, valid = rows(1500), rows(500, seed=1)
    fitted = lightgbm.fit(train, valid, SCHEMA, seed=0)
    assert scores(fitted, valid) > 0.75
    assert fitted.parameters['dense'] >= 2 * fitted.steps > 0
    again = lightgbm.fit(train, valid, SCHEMA, seed=0)
    np.testing.assert_array_equal(again.logits(valid), fitted.logits(valid))
    # Rows that say the opposite, and weigh next to nothing.
    half = np.arange(1500) % 2 == 0
    train['label'][half] = 1 - train['label'][half]
    train['weight'][half] = 1e-3
    assert scores(lightgbm.fit(train, valid, SCHEMA, seed=0), valid) > 0.7
    assert 'LightGBM' not in ''.join(capfd.readouterr())


def test_a_missing_number_is_a_value():
    train, valid = rows(1500), rows(500, seed=1)
    for part in (train, valid):
        part['label'] = (np.arange(len(part['label'])) % 3 == 0).astype(np.float32)
        part['numeric'][part['label'] == 1] = np.nan
    assert scores(lightgbm.fit(train, valid, SCHEMA, seed=0), valid) > 0.99


def test_soft_labels_are_probabilities():
    schema = dataclasses.replace(SCHEMA, soft_labels=True)
    train, valid = rows(1500, soft=True), rows(500, seed=1, soft=True)
    found = probability_metrics.sigmoid(lightgbm.fit(train, valid, schema, seed=0).logits(valid))
    assert np.corrcoef(found, valid['label'])[0, 1] > 0.9


def test_many_ids_share_one_but_for_the_most_frequent(monkeypatch):
    monkeypatch.setattr(lightgbm, 'MAX_CATEGORIES', 5)
    train, valid = rows(1500), rows(500, seed=1)
    train['categorical'][:, 1] = np.random.default_rng(0).integers(0, 2**31 - 1, 1500)
    fitted = lightgbm.fit(train, valid, SCHEMA, seed=0)
    assert fitted.design.matrix(train)[:, 1].max() == 5
    assert scores(fitted, valid) > 0.7


def test_the_number_of_threads_changes_nothing(monkeypatch):
    train, valid = rows(1500), rows(500, seed=1)
    monkeypatch.setattr(lightgbm, 'ROUNDS', 20)
    one = lightgbm.fit(train, valid, SCHEMA, seed=0).logits(valid)
    monkeypatch.setattr(lightgbm, '_ROWS_PER_THREAD', 750)
    monkeypatch.setattr(lightgbm.os, 'cpu_count', lambda: 2)
    two = lightgbm.fit(train, valid, SCHEMA, seed=0).logits(valid)
    np.testing.assert_array_equal(two, one)


def test_labels_of_one_kind():
    train, valid = rows(100), rows(20, seed=1)
    train['label'][:] = 1
    logits = lightgbm.fit(train, valid, SCHEMA, seed=0).logits(valid)
    assert np.isfinite(logits).all()
    assert (logits > 10).all()
