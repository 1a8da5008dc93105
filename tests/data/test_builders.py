"""Datasets of the package in their formats, on real rows where these are available."""

import gzip
import tempfile

import numpy as np
import polars as pl
import pytest

from dlf_jax.config import get_config
from dlf_jax.data import builders
from dlf_jax.data.schema import CATEGORICAL
from dlf_jax.errors import UserError
from tests.conftest import shared_file


def prepared(tmp_path, name, train, **keys):
    config = get_config('mlp').dataset
    config.name, config.train, config.allow_modified = name, str(train), True
    for key, value in keys.items():
        config[key] = value
    builder = builders.build(config, str(tmp_path / 'data'))
    builder.prepare()
    return builder


def rows_of(builder, part):
    blocks = builder.blocks(part)
    found = [blocks.read(i) for i in range(len(blocks))]
    return {name: np.concatenate([b[name] for b in found]) for name in found[0]}


def test_frappe(tmp_path):
    train, valid = shared_file('frappe/train.csv'), shared_file('frappe/valid.csv')
    builder = prepared(tmp_path, 'frappe', train, valid=str(valid))
    assert builder.info.metadata['rows'] == {'train': 202_027, 'valid': 57_722}
    rows = rows_of(builder, 'train')
    assert rows['categorical'].shape == (202_027, 10)
    assert rows['label'].sum() == pl.read_csv(train)['label'].sum()
    # Every id belongs to its field, and each field's most frequent value has the first free id.
    schema = builder.encoder().schema
    for i, field in enumerate(schema.categorical):
        ids = rows['categorical'][:, i] - schema.offsets[field.name]
        assert ids.min() >= 2
        assert ids.max() == field.size - 1
        counts = np.bincount(ids, minlength=field.size)[2:]
        assert (np.diff(counts) <= 0).all()


def test_criteo_raw(tmp_path):
    path = shared_file('criteo/train_head.txt')
    builder = prepared(tmp_path, 'criteo', path, min_count=10)
    assert builder.info.metadata['rows'] == {'train': 7000, 'valid': 2000, 'test': 1000}
    schema = builder.encoder().schema
    assert [f.name for f in schema.fields[:2]] == ['I1', 'I2']
    # The numbers of the raw form become categories, as the competition's winners had it.
    assert all(f.kind == CATEGORICAL for f in schema.fields)
    assert len(schema.fields) == 39
    zipped = tmp_path / 'train.txt.gz'
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    again = prepared(tmp_path, 'criteo', zipped, min_count=10)
    for name, values in rows_of(builder, 'valid').items():
        assert np.array_equal(values, rows_of(again, 'valid')[name])


def test_criteo_raw_as_numbers(tmp_path):
    builder = prepared(tmp_path, 'criteo', shared_file('criteo/train_head.txt'), treatment='standard')
    numbers = rows_of(builder, 'train')['numeric']
    assert numbers.shape == (7000, 13)
    assert np.abs(numbers.mean(0)).max() < 1e-3
    # I12 is empty in most rows: missing values become the mean, so the deviation is below 1.
    assert (numbers.std(0) <= 1.001).all()


def test_criteo_x1_keeps_its_numbers(tmp_path):
    columns = ['label', *(f'I{i}' for i in range(1, 14)), *(f'C{i}' for i in range(1, 27))]
    rows = [[i % 2, *(0.1 * i + k for k in range(13)), *(f'{k:x}' for k in range(26))] for i in range(20)]
    pl.DataFrame(rows, schema=columns, orient='row', strict=False).write_csv(tmp_path / 'train.csv')
    builder = prepared(tmp_path, 'criteo', tmp_path / 'train.csv')
    assert rows_of(builder, 'train')['numeric'][3] == pytest.approx([0.3 + k for k in range(13)])


def test_unlabelled_criteo_is_for_prediction(tmp_path):
    lines = shared_file('criteo/train_head.txt').read_text().splitlines()[:5]
    path = tmp_path / 'test.txt'
    path.write_text('\n'.join(line.split('\t', 1)[1] for line in lines) + '\n')
    config = get_config('mlp').dataset
    table = builders.dataset_class('criteo').open_files(config, (str(path),))
    assert table.columns[0] == 'I1'
    config.name, config.train = 'criteo', str(path)
    with pytest.raises(UserError, match="no column 'label'"):
        builders.build(config, str(tmp_path))


def test_avazu_raw(tmp_path):
    builder = prepared(tmp_path, 'avazu', shared_file('avazu/train_head.csv'))
    schema = builder.encoder().schema
    assert schema.label == 'click'
    assert 'id' not in [f.name for f in schema.fields]
    assert len(schema.fields) == 22
    assert builder.info.metadata['rows']['train'] == 4200


def test_movielens(tmp_path):
    path = shared_file('movielens/rows.csv')
    builder = prepared(tmp_path, 'movielens', path, split='random')
    assert sum(builder.info.metadata['rows'].values()) == 150_000
    assert rows_of(builder, 'train')['categorical'].shape[1] == 3


def test_table_needs_features(tmp_path):
    (tmp_path / 't.csv').write_text('y,a\n1,x\n')
    with pytest.raises(UserError, match=r'name the features among the columns of .*: y, a'):
        prepared(tmp_path, 'table', tmp_path / 't.csv', label='y')
    with pytest.raises(UserError, match="column 'a' is named 2 times"):
        prepared(tmp_path, 'table', tmp_path / 't.csv', label='y', categorical=('a', 'a'))


def test_preparing_leaves_nothing_in_the_temporary_folder(tmp_path, monkeypatch):
    (tmp_path / 'rows.csv').write_text('click,user\n' + '1,a\n0,b\n' * 20)
    temporary = tmp_path / 'temporary'
    temporary.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(temporary))
    prepared(tmp_path, 'table', tmp_path / 'rows.csv', label='click', categorical=('user',))
    assert not list(temporary.iterdir())
