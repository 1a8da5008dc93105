"""Checkpoints of before version 0.2: their weights predict, and unfinished training says what to do."""

import json
import shutil

import orbax.checkpoint as ocp
import polars as pl
import pytest

import dlf_jax
from dlf_jax.errors import UserError
from dlf_jax.training import legacy_layout
from dlf_jax.workdir import Workdir


@pytest.fixture
def legacy(trained, tmp_path):
    """A finished run whose checkpoints are in the form of before."""
    folder = shutil.copytree(trained, tmp_path / 'run')
    for place in (folder / 'checkpoints').glob('*/state'):
        with ocp.PyTreeCheckpointer() as checkpointer:
            state = checkpointer.restore(place)
            shutil.rmtree(place)
            checkpointer.save(place, legacy_layout.to_legacy(state))
    config = json.loads((folder / 'config.json').read_text())
    config['optimizer']['tables'] = config['optimizer'].pop('embedding_rows')
    (folder / 'config.json').write_text(json.dumps(config))
    return folder


def test_its_weights_predict_the_same(trained, legacy, tmp_path):
    table = str(trained.parent / 'train.csv')
    found = []
    for name, folder in {'old': legacy, 'new': trained}.items():
        dlf_jax.predict(folder, table, str(tmp_path / f'{name}.parquet'))
        found.append(pl.read_parquet(tmp_path / f'{name}.parquet'))
    assert found[0].equals(found[1])
    assert dlf_jax.evaluate(legacy, table) == dlf_jax.evaluate(trained, table)


def test_a_finished_run_gives_its_result(trained, legacy, data_dir):
    config = Workdir(trained).config()
    assert dlf_jax.train(config, legacy, data_dir) == json.loads((trained / 'result.json').read_text())


def test_an_unfinished_run_says_what_to_do_and_loses_nothing(trained, legacy, data_dir):
    config = Workdir(trained).config()
    config.training.epochs = 3
    before = sorted(path.name for path in (legacy / 'checkpoints').iterdir())
    with pytest.raises(UserError, match=r'was written before version 0.2.*versions.json'):
        dlf_jax.train(config, legacy, data_dir)
    assert sorted(path.name for path in (legacy / 'checkpoints').iterdir()) == before
