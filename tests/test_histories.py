"""Models that attend to histories, from generated rows to whatever scores them."""

import json
import math

import numpy as np
import polars as pl
import pytest

import dlf_jax
from dlf_jax.data.builders.synthetic_histories import EARLIER, GENRES, RECENT, HistoriesTable
from dlf_jax.errors import UsageError, UserError
from dlf_jax.training.ranking_metrics import auc
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
