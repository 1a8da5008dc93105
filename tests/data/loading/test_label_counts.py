"""Labels in numbers, while preparing and out of records alone."""

from pathlib import Path

import numpy as np
import pytest

from dlf_jax.data import builders
from dlf_jax.data.loading.label_counts import LabelCounts, count_labels
from tests.conftest import config_of, table_flags, write_table


def test_weights_and_soft_labels():
    stream = [
        {'label': np.array([0.25, 1.0], np.float32), 'weight': np.array([2.0, 1.0], np.float32)},
        {'label': np.array([0.75, 1.0], np.float32), 'weight': np.array([1.0, 0.0], np.float32)},
    ]
    assert count_labels(stream) == LabelCounts(rows=3, clicks=2, rate=2.25 / 4)
    assert count_labels([{'label': np.array([1.0], np.float32), 'weight': np.zeros(1)}]).rate is None


@pytest.mark.parametrize('split', ['chronological', 'random'])
def test_counted_while_preparing_or_afterwards(tmp_path, split):
    table = write_table(tmp_path / 't.csv', 1000)
    head, *lines = table.read_text().splitlines()
    weights = np.random.default_rng(1).integers(0, 4, 1000) / 8
    table.write_text('\n'.join([f'{head},w', *(f'{a},{b}' for a, b in zip(lines, weights, strict=True))]))
    flags = (*table_flags(table), '--config.dataset.weight=w', f'--config.dataset.split={split}')
    builder = builders.build(config_of(*flags).dataset, str(tmp_path / 'data'))
    builder.prepare()
    prepared = builder.label_counts()
    remembered = Path(builder.data_dir) / 'labels.json'
    text = remembered.read_text()
    # Data of before, or that other machines have prepared.
    remembered.unlink()
    assert builder.label_counts() == prepared
    assert remembered.read_text() == text
    labels = np.array([int(line[0]) for line in lines])
    if split == 'chronological':
        assert prepared['train'].rate == pytest.approx(np.average(labels[:700], weights=weights[:700]))
    assert sum(counts.rows for counts in prepared.values()) == np.count_nonzero(weights)
    assert sum(counts.clicks for counts in prepared.values()) == labels[weights > 0].sum()
