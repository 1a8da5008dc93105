"""Models that attend to histories, from generated rows to whatever scores them."""

import math

import numpy as np
import polars as pl
import pytest

import dlf_jax
from dlf_jax.data.builders.synthetic_histories import EARLIER, GENRES, RECENT, HistoriesTable
from dlf_jax.errors import UsageError, UserError
from tests.conftest import ROOT

FILE = ROOT / 'configs' / 'synthetic_histories.py'
SMALL = {
    'dataset.rows': 3000, 'dataset.block_rows': 256, 'training.batch_size': 256, 'training.epochs': 1,
    'model.hidden': (8,), 'model.embedding_size': 4,
}  # fmt: skip


def trained(model, folder, data_dir, **overrides):
    config = dlf_jax.load_config(FILE, model=model, overrides=overrides)
    return dlf_jax.train(config, folder, data_dir)


def test_clicks_follow_the_law():
    """Written out for every row: what it counts, and that older events count for nothing."""
    table = HistoriesTable(4000, 3)
    frame = table.frame(0)
    assert frame.equals(table.frame(0))
    assert set(frame.columns) == {*table.columns, 'probability'}
    places, genres = table._weights
    for row in frame[:300].iter_rows(named=True):
        item, place = int(row['item'][1:]), int(row['place'][1:])
        latest = [int(name[1:]) for name in (row['history'] or [])[-RECENT:]]
        matches = sum(event % GENRES == item % GENRES for event in latest)
        logit = -2.2 + 2 * min(matches, 2) + places[place] + genres[item % GENRES]
        assert math.isclose(row['probability'], 1 / (1 + math.exp(-logit)), rel_tol=1e-12)
    lengths = frame['history'].list.len().fill_null(0)
    assert (lengths.min(), lengths.max()) == (0, EARLIER + RECENT)
    assert 0.01 < (lengths == 0).mean() < 0.1
    assert abs(frame['label'].mean() - frame['probability'].mean()) < 0.03


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_attention_attends(tmp_path):
    """DIN and BST come close to the best possible AUC, and the mean of the history stays clearly behind."""
    found = {model: trained(model, tmp_path / model, tmp_path / 'data') for model in ('din', 'bst', 'mlp')}
    lacking = {m: r['valid']['best_possible_auc'] - r['valid']['auc'] for m, r in found.items()}
    best = found['din']['valid']['best_possible_auc']
    assert best > 0.85
    way = {model: 1 - gap / (best - 0.5) for model, gap in lacking.items()}
    assert min(way['din'], way['bst']) >= 0.95, way
    assert way['mlp'] <= 0.85, way
    # Of what the mean lacks, attention lacks less than a quarter.
    assert max(lacking['din'], lacking['bst']) < 0.25 * lacking['mlp'], lacking


@pytest.fixture(scope='module')
def model(tmp_path_factory, data_dir):
    folder = tmp_path_factory.mktemp('histories') / 'run'
    trained('din', folder, data_dir, **SMALL)
    return dlf_jax.load(folder)


def test_frames_and_files_score_the_same_bits(model, tmp_path):
    rows = HistoriesTable(300, 0).frame(0).drop('probability')
    expected = model.predict(rows)
    assert expected.std() > 1e-3
    rows.write_parquet(tmp_path / 'rows.parquet')
    np.testing.assert_array_equal(model.predict(tmp_path / 'rows.parquet'), expected)
    np.testing.assert_array_equal(model.predict(rows.to_pandas()), expected)
    # The latest events alone, in any order, are all that DIN sees of a history.
    latest = rows.with_columns(pl.col('history').list.tail(RECENT).list.reverse())
    np.testing.assert_allclose(model.predict(latest), expected, rtol=1e-5)
    oldest = rows.with_columns(pl.col('history').list.head(RECENT))
    assert not np.allclose(model.predict(oldest), expected, rtol=1e-3)


def test_what_needs_histories_says_so_before_anything_is_prepared(tmp_path):
    config = dlf_jax.load_config(model='bst', overrides={'dataset.rows': 3000})
    with pytest.raises(
        UsageError, match=r'config.model.name: BST reads histories, and the data has none; decl'
    ):
        dlf_jax.train(config, tmp_path / 'run', tmp_path / 'data')
    assert not list((tmp_path / 'data').rglob('*.array_record*'))


@pytest.mark.slow
def test_other_models_see_the_mean_and_all_explain_it(model, data_dir, tmp_path):
    trained('dcnv2', tmp_path / 'dcnv2', data_dir, **{k: v for k, v in SMALL.items() if k != 'model.hidden'})
    for one in (model, dlf_jax.load(tmp_path / 'dcnv2')):
        found = one.explain(data_dir=data_dir)
        names = {entry['field'] for entry in found.found['fields']}
        assert names == {'item', 'place', 'history'}


@pytest.mark.slow
def test_raw_values_are_not_for_onnx(model, tmp_path):
    with pytest.raises(UserError, match=r"field 'history' is ordered.*--config.export.inputs=ids"):
        model.export(tmp_path / 'onnx')
