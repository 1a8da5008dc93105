"""From a file to a trained model and its predictions: a user's own, and the real samples."""

import json

import polars as pl
import pytest

from dlf_jax.data.preprocess.encoder import VERSION
from tests.conftest import fail, run, shared_file
from tests.data.preprocess.test_local import SCHEMA, own_frame

# A DLF so small that a run is mostly start-up.
DLF = (
    '--config.training.epochs=1', '--config.training.batch_size=256', '--config.model.embedding_size=4',
    '--config.model.layers=1', '--config.model.tokens=3', '--config.model.rank=2',
    '--config.model.implicit_hidden=()', '--config.model.head=()',
)  # fmt: skip


@pytest.mark.slow
def test_a_parquet_file_with_every_kind_of_column(tmp_path):
    frame = own_frame().with_columns(pl.col('tags').str.split(' '))
    frame.write_parquet(tmp_path / 'own.parquet')
    files = ('--config=configs/table.py', f'--config.dataset.train={tmp_path / "own.parquet"}')
    told = run(
        *files, '--mode=prepare', '--config.dataset.infer=True', f'--output={tmp_path / "proposed.toml"}'
    )
    assert told['label'] == 'click'
    assert told['multi-valued'] == 2
    (tmp_path / 'own.toml').write_text(SCHEMA)
    flags = (*files, f'--config.dataset.schema={tmp_path / "own.toml"}', f'--data_dir={tmp_path / "data"}')
    result = run(*flags, *DLF, f'--workdir={tmp_path / "run"}')
    # Some rows have no user.
    assert set(result['valid']) == {'auc', 'gauc', 'logloss', 'rows', 'rows_without_group'}

    frame[2100:2700].write_parquet(tmp_path / 'valid.parquet')
    arguments = (f'--workdir={tmp_path / "run"}', f'--input={tmp_path / "valid.parquet"}')
    found = run('--mode=evaluate', *arguments)
    shares = found.pop('out_of_vocabulary')
    assert found == pytest.approx(result['valid'], abs=1e-6)
    assert set(shares) == {'user', 'item', 'history', 'tags', 'count'}
    assert 0 < shares['user'] < 0.5
    run('--mode=predict', *arguments, f'--output={tmp_path / "o.parquet"}')
    assert pl.read_parquet(tmp_path / 'o.parquet').height == 600


@pytest.mark.parametrize(
    ('config', 'train', 'keys'),
    [
        ('criteo', 'criteo/train_head.txt', ('--config.dataset.min_count=2',)),
        pytest.param(
            'avazu', 'avazu/train_head.csv', ('--config.dataset.hour=parts',), marks=pytest.mark.slow
        ),
        pytest.param(
            'movielens', 'movielens/rows.csv', ('--config.dataset.split=random',), marks=pytest.mark.slow
        ),
        pytest.param(
            'frappe', 'frappe/train.csv', ('--config.dataset.split=random',), marks=pytest.mark.slow
        ),
    ],
)
def test_real_samples_train_and_predict(tmp_path, config, train, keys):
    path = shared_file(train)
    head = tmp_path / path.name
    with path.open() as source:
        head.write_text(''.join(line for line, _ in zip(source, range(6001), strict=False)))
    flags = (
        f'--config=configs/{config}.py', f'--config.dataset.train={head}', f'--data_dir={tmp_path / "data"}',
        '--config.dataset.allow_modified=True', *keys, *DLF,
    )  # fmt: skip
    result = run(*flags, f'--workdir={tmp_path / "run"}')
    assert result['steps'] >= 16
    arguments = (f'--workdir={tmp_path / "run"}', f'--input={head}', f'--output={tmp_path / "o.csv"}')
    told = run('--mode=predict', *arguments)
    scores = pl.read_csv(tmp_path / 'o.csv')['probability']
    assert told['rows'] == len(scores) == sum(1 for _ in head.open()) - (config != 'criteo')
    assert scores.is_between(0, 1).all()
    assert json.loads((tmp_path / 'run' / 'encoder' / 'encoder.json').read_text())['version'] == VERSION


def test_unmodified_is_asked_for(tmp_path):
    path = tmp_path / 'train.csv'
    path.write_text('user_id,item_id,tag_id,label\n' + ''.join(f'{i},{i},{i},{i % 2}\n' for i in range(50)))
    flags = ('--config=configs/movielens.py', f'--config.dataset.train={path}', '--mode=prepare')
    message = fail(*flags, f'--data_dir={tmp_path / "data"}')
    assert '--config.dataset.allow_modified=True' in message
    told = run(*flags, f'--data_dir={tmp_path / "data"}', '--config.dataset.allow_modified=True')
    assert sum(told['rows'].values()) == 50
