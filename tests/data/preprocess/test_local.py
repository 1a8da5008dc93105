"""Prepared records are what serving makes of the same rows, for every kind of field."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from dlf_jax.config import get_config
from dlf_jax.data import builders
from dlf_jax.data.preprocess import encoder as encoders
from dlf_jax.data.preprocess import task as tasks
from dlf_jax.data.preprocess.splits import Split
from dlf_jax.data.preprocess.statistics import Sample
from dlf_jax.data.readers import columns, parquet_table, text_blocks
from dlf_jax.data.readers.chunk import Chunk, Columns
from dlf_jax.data.schema import Field, Schema
from dlf_jax.errors import UserError
from tests.data.test_builders import rows_of

SCHEMA = """
label = "click"
weight = "w"
group = "user"
[columns.user]
kind = "categorical"
min_count = 3
[columns.item]
kind = "categorical"
embedding_size = 2
[columns.history]
kind = "multi-valued"
separator = "|"
shares = "item"
pooling = "mean"
length = 4
embedding_size = 2
[columns.tags]
kind = "multi-valued"
separator = " "
pooling = "sum"
length = 2
[columns.price]
kind = "numeric"
[columns.age]
kind = "categorical"
treatment = "bucket"
buckets = 7
[columns.count]
kind = "categorical"
treatment = "log2"
[columns.url]
kind = "categorical"
hash_buckets = 50
"""


def own_frame(rows=3000):
    draw = np.random.default_rng(5)

    def missing(values, share=0.1):
        return [None if draw.random() < share else value for value in values]

    return pl.DataFrame(
        {
            'click': draw.integers(0, 2, rows),
            'w': np.round(draw.random(rows), 3),
            'user': missing([f'u{i}' for i in draw.integers(0, 400, rows)]),
            'item': missing([f'i{i}' for i in draw.zipf(1.5, rows) % 97]),
            'history': missing(
                ['|'.join(f'i{j}' for j in draw.integers(0, 97, 1 + i % 6)) for i in range(rows)]
            ),
            'tags': missing([' '.join(f't{j}' for j in draw.integers(0, 9, 1 + i % 3)) for i in range(rows)]),
            'price': missing(np.round(draw.lognormal(size=rows), 4).tolist()),
            'age': missing(draw.integers(0, 90, rows).tolist()),
            'count': missing(draw.integers(-2, 500, rows).tolist()),
            'url': missing([f'/p/{i}' for i in draw.integers(0, 999, rows)]),
            'at': (1_700_000_000 + draw.permutation(rows)),
        }
    )


@pytest.fixture(params=['csv', 'parquet'])
def own_file(request, tmp_path, monkeypatch):
    """A file of several chunks."""
    monkeypatch.setattr(text_blocks, 'CHUNK_BYTES', 20_000)
    monkeypatch.setattr(parquet_table, 'CHUNK_ROWS', 300)
    path = tmp_path / f'own.{request.param}'
    frame = own_frame()
    if request.param == 'csv':
        frame.write_csv(path)
    else:
        frame = frame.with_columns(pl.col('tags').str.split(' '))
        frame.write_parquet(path, row_group_size=1000)
    (tmp_path / 's.toml').write_text(SCHEMA)
    return path


def prepared(path, **keys):
    config = get_config('mlp').dataset
    config.name, config.train, config.schema = 'table', str(path), str(path.parent / 's.toml')
    config.block_rows = 128
    for key, value in keys.items():
        config[key] = value
    builder = builders.build(config, str(path.parent / 'data'))
    builder.prepare()
    return builder


@pytest.mark.parametrize('split', ['chronological', 'random', 'time'])
def test_records_are_what_serving_makes_of_the_rows(own_file, split, monkeypatch):
    # Several shards, so that one begins in the midst of a chunk.
    monkeypatch.setattr(tasks, 'SHARD_BYTES', 40_000)
    builder = prepared(own_file, split=split, time='at' if split == 'time' else '')
    assert len(builder.info.splits['train'].filepaths) > 1
    encoder, task = builder.encoder(), builder.task
    chunks = list(task.tables['all'].chunks(task.columns()))
    assert len(chunks) > 3
    rows = [{**columns.extras(c, task.schema), **encoder.transform(c)[0]} for c in chunks]
    expected = {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}
    total = len(expected['label'])
    times = own_frame()['at'].to_numpy().astype(float)
    cuts = np.sort(times)[[2100, 2700]]
    parts = Split(split, (7, 2, 1)).assign(0, total, total, times, cuts)
    for index, part in enumerate(builder.parts()):
        found = rows_of(builder, part)
        assert set(found) == {'label', 'weight', 'group', 'categorical', 'numeric', 'bags'}
        for name, values in found.items():
            assert values.dtype == expected[name].dtype
            assert np.array_equal(values, expected[name][parts == index], equal_nan=True), (part, name)


def test_ids_against_plain_python(own_file):
    """Vocabulary, missing, rare, shared and hashed values, ranges and bags, row by row."""
    builder = prepared(own_file)
    schema, found = builder.encoder().schema, rows_of(builder, 'train')
    train = own_frame()[:2100]
    counts = {'user': {}, 'item': {}}
    for row in train.iter_rows(named=True):
        values = [('user', row['user']), ('item', row['item'])]
        values += [('item', v) for v in (row['history'] or '').split('|')[:4]]
        for name, value in values:
            if value:
                counts[name][value] = counts[name].get(value, 0) + 1
    counts['user'] = {v: n for v, n in counts['user'].items() if n >= 3}
    ids = {
        name: {v: i + 2 for i, v in enumerate(sorted(c, key=lambda v: (-c[v], v)))}
        for name, c in counts.items()
    }

    def id_of(name, value):
        return schema.offsets[name] + (1 if not value else ids[name].get(value, 0))

    position = {f.name: i for i, f in enumerate(schema.categorical)}
    ages = np.sort([a for a in train['age'] if a is not None])
    bounds = sorted({ages[i * len(ages) // 7] for i in range(1, 7)})
    for i, row in enumerate(train.iter_rows(named=True)):
        categorical = found['categorical'][i]
        assert categorical[position['user']] == id_of('user', row['user'])
        assert categorical[position['item']] == id_of('item', row['item'])
        age = 1 if row['age'] is None else 2 + sum(row['age'] >= b for b in bounds)
        assert categorical[position['age']] == schema.offsets['age'] + age
        history = [id_of('item', v) for v in (row['history'] or '').split('|')[:4]]
        assert found['bags'][i, :4].tolist() == history + [-1] * (4 - len(history))
        url = categorical[position['url']] - schema.offsets['url']
        assert (url == 1) == (row['url'] is None)
        assert 1 <= url < 52


def test_ranges_hold_about_as_many_rows():
    values = np.random.default_rng(0).normal(size=10_000)
    sample = Sample.of(values, np.arange(10_000))
    bounds = sample.boundaries(8)
    counts = np.bincount(np.searchsorted(bounds, values, side='right'))
    assert counts.tolist() == [1250] * 8
    cut = [
        Sample.of(v, r)
        for v, r in zip(np.array_split(values, 7), np.array_split(np.arange(10_000), 7), strict=True)
    ]
    merged = cut[3].merge(cut[0]).merge(cut[6].merge(cut[1])).merge(cut[5]).merge(cut[2]).merge(cut[4])
    assert np.array_equal(merged.boundaries(8), bounds)


def test_overlap_is_counted(tmp_path):
    (tmp_path / 't.csv').write_text('y,a,b\n' + ''.join(f'{i % 2},v{i % 11},w{i % 3}\n' for i in range(66)))
    (tmp_path / 'v.csv').write_text('y,a,b\n1,v1,w1\n1,v1,w2\n0,v1,w1\n')
    config = get_config('mlp').dataset
    config.name, config.label, config.categorical = 'table', 'y', ('a', 'b')
    config.train, config.valid = str(tmp_path / 't.csv'), str(tmp_path / 'v.csv')
    builder = builders.build(config, str(tmp_path / 'data'))
    builder.prepare()
    train = {tuple(line.split(',')) for line in (tmp_path / 't.csv').read_text().split()[1:]}
    valid = [tuple(line.split(',')) for line in (tmp_path / 'v.csv').read_text().split()[1:]]
    assert builder.shared_rows() == {'valid': sum(row in train for row in valid)}


def test_an_encoder_of_version_1_is_read(tmp_path):
    """Version 1 wrote fields without the later options, and no ranges."""
    old = {'treatment': '', 'min_count': 1, 'max_size': 0}
    fields = [
        {'name': 'a', 'kind': 'categorical', 'size': 4, **old},
        {'name': 'x', 'kind': 'numeric', 'size': 0, **old, 'treatment': 'standard'},
    ]
    moments = {'x': {'count': 2, 'mean': 1.0, 'deviation': 2.0, 'low': -1.0, 'high': 3.0}}
    saved = {'version': 1, 'schema': {'label': 'y', 'fields': fields}, 'moments': moments}
    (tmp_path / 'encoder.json').write_text(json.dumps(saved))
    vocabulary = pl.DataFrame({'field': ['a', 'a'], 'value': ['p', 'q'], 'count': [5, 3]})
    vocabulary.write_parquet(tmp_path / 'vocabulary.parquet')
    encoder = encoders.Encoder.load(tmp_path)
    chunk = Chunk(pl.DataFrame({'a': ['q', None, 'z', 'p'], 'x': [1.0, 5.0, None, 3.0]}), 't', 1)
    rows, _ = encoder.transform(chunk)
    assert rows['categorical'][:, 0].tolist() == [3, 1, 0, 2]
    assert rows['numeric'][:, 0].tolist() == [0, 2, 0, 1]


def test_vocabularies_cannot_be_shared_anyhow():
    item = Field('item', 'categorical')
    bag = Field('bag', 'multi-valued', pooling='sum', length=2, shares='item')
    with pytest.raises(ValueError, match='must be the same'):
        Schema((item, dataclasses.replace(bag, embedding_size=2)), 'y')
    with pytest.raises(ValueError, match="shares the vocabulary of 'nobody'"):
        Schema((item, dataclasses.replace(bag, shares='nobody')), 'y')


@pytest.mark.parametrize('numeric', [{}, {'treatment': 'log2'}])
def test_the_time_of_the_split_can_be_a_number_among_the_features(tmp_path, numeric):
    own_frame().write_csv(tmp_path / 't.csv')
    config = get_config('mlp').dataset
    config.name, config.train, config.label = 'table', str(tmp_path / 't.csv'), 'click'
    config.numeric, config.split, config.time = ('at',), 'time', 'at'
    config.update(numeric)
    builder = builders.build(config, str(tmp_path / 'data'))
    builder.prepare()
    encoder, rows = builder.encoder(), rows_of(builder, 'train')
    # The same column, read as numbers, as for serving.
    (chunk,) = builder.task.tables['all'].chunks(Columns((), ('at', 'click')))
    earliest = chunk.frame.filter(chunk.frame['at'].rank() <= 2100)
    expected, _ = encoder.transform(dataclasses.replace(chunk, frame=earliest))
    for name, values in expected.items():
        assert np.array_equal(rows[name], values, equal_nan=True)


def test_a_time_among_the_features_must_be_a_number_there(tmp_path):
    (tmp_path / 't.csv').write_text('y,at\n' + ''.join(f'1,2026-01-{i:02}\n' for i in range(1, 20)))
    config = get_config('mlp').dataset
    config.name, config.train, config.label = 'table', str(tmp_path / 't.csv'), 'y'
    config.numeric, config.split, config.time = ('at',), 'time', 'at'
    builder = builders.build(config, str(tmp_path / 'data'))
    with pytest.raises(UserError, match=r"line 2: column 'at': expected a number, found '2026-01-01'"):
        builder.prepare()
