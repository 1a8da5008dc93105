"""Block records: they are read as written, damage is noticed, a killed preparation leaves nothing."""

import dataclasses
import itertools

import numpy as np
import polars as pl
import pytest
from array_record.python import array_record_module

from dlf_jax.config import get_config
from dlf_jax.data import builders
from dlf_jax.data.loading import records
from dlf_jax.data.preprocess import encoder as encoders
from dlf_jax.data.readers.chunk import Columns
from dlf_jax.errors import UserError
from tests.conftest import write_table


@pytest.fixture
def builder(tmp_path):
    config = get_config('mlp').dataset
    config.name = 'table'
    config.train = str(write_table(tmp_path / 'train.csv', 1000))
    config.label, config.categorical, config.numeric = 'click', ('user', 'ad'), ('price',)
    config.block_rows = 64
    made = builders.build(config, str(tmp_path / 'data'))
    made.prepare()
    return made


def reopened(builder):
    """Another builder of the same data, which has opened no shards."""
    return builders.build(builder.dataset, str(builder.data_path.parents[2]))


def test_records_hold_the_encoded_rows(builder):
    assert builder.parts() == ('train', 'valid', 'test')
    assert builder.info.metadata['rows'] == {'train': 700, 'valid': 200, 'test': 100}
    encoder = builder.encoder()
    for part in builder.parts():
        blocks = builder.blocks(part)
        found = [blocks.read(i) for i in range(len(blocks))]
        rows = {'train': slice(0, 700), 'valid': slice(700, 900), 'test': slice(900, 1000)}[part]
        (whole,) = builder.task.tables['all'].chunks(Columns(('user', 'ad', 'click'), ('price',)))
        chunk = dataclasses.replace(whole, frame=whole.frame[rows])
        # Encoded on their own, the rows are those that were prepared in one pass with all others.
        expected, _ = encoder.transform(chunk)
        for name in ('categorical', 'numeric'):
            joined = np.concatenate([b[name] for b in found])
            assert np.array_equal(joined, expected[name])
        assert np.array_equal(
            np.concatenate([b['label'] for b in found]), chunk.frame['click'].cast(pl.Float32)
        )


def test_rows_are_those_that_tfds_reads(builder):
    blocks, source = builder.blocks('train'), builder.as_data_source('train')
    assert len(blocks) == len(source) == 11
    for block in range(len(blocks)):
        found, expected = blocks.read(block), source[block]
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].dtype == values.dtype
            assert np.array_equal(found[name], values)


def test_records_are_stored_as_they_are(builder):
    (shard,) = builder.info.splits['train'].filepaths
    reader = array_record_module.ArrayRecordReader(str(shard))
    assert 'uncompressed' in reader.writer_options_string()
    reader.close()


def test_flipped_byte_in_a_record_is_noticed(builder):
    (shard,) = builder.info.splits['test'].filepaths
    blocks = builder.blocks('test')
    data = bytearray(shard.read_bytes())
    position = bytes(data).index(blocks.read(0)['categorical'].tobytes()) + 17
    data[position] ^= 1
    shard.write_bytes(data)
    for blocks in (builder.blocks('test'), reopened(builder).blocks('test')):
        with pytest.raises(UserError, match='block 0 cannot be read'):
            blocks.read(0)


def test_shards_are_opened_once(builder):
    assert builder.blocks('train') is builder.blocks('train')
    assert builder.blocks('train') is not builder.blocks('valid')


def test_the_schema_is_read_without_the_vocabularies(builder):
    expected = builder.encoder().schema
    (builder.data_path / 'encoder' / 'vocabulary.parquet').unlink()
    assert builder.schema() == expected


@pytest.mark.parametrize('cut', [0, 1, 40])
def test_bytes_that_are_no_block_are_refused(cut):
    with pytest.raises((ValueError, IndexError)):
        list(records._byte_features(bytes([10, 50, 10, 48] + [8] * cut)))


def test_prepared_once_and_anew_when_the_file_changes(builder, tmp_path):
    assert reopened(builder).data_dir == builder.data_dir
    write_table(tmp_path / 'train.csv', 1000, seed=1)
    assert builders.build(builder.dataset, str(tmp_path / 'data')).data_dir != builder.data_dir


def test_the_vocabulary_is_of_the_training_part_only(tmp_path):
    config = get_config('mlp').dataset
    config.name, config.train = 'table', str(tmp_path / 't.csv')
    config.label, config.categorical = 'y', ('a',)
    rows = ''.join(f'{i % 2},{"seen" if i < 7 else "late"}\n' for i in range(10))
    (tmp_path / 't.csv').write_text('y,a\n' + rows)
    made = builders.build(config, str(tmp_path / 'data'))
    made.prepare()
    assert made.encoder().vocabularies['a']['value'].to_list() == ['seen']
    assert made.blocks('valid').read(0)['categorical'].tolist() == [[0], [0]]


def test_killed_preparation_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    config = get_config('mlp').dataset
    config.rows, config.block_rows = 500, 64
    made = builders.build(config, str(tmp_path))
    monkeypatch.setattr(encoders.Encoder, 'encode', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made.prepare()
    monkeypatch.undo()
    assert [path.name for path in tmp_path.glob('synthetic/*/*')] == ['.lock']
    # A process that is killed leaves its unfinished folders to the next one.
    (made.data_path.parent / 'incomplete.staging').mkdir()
    again = builders.build(config, str(tmp_path))
    again.prepare()
    assert again.info.metadata['rows']['train'] == 350
    assert not list(tmp_path.glob('synthetic/*/incomplete*'))


def test_random_split_is_disjoint_and_whole(tmp_path):
    config = get_config('mlp').dataset
    config.name, config.train = 'table', str(tmp_path / 't.csv')
    config.label, config.categorical, config.split = 'y', ('a',), 'random'
    rows = ''.join(f'{i % 2},v{i}\n' for i in range(3000))
    (tmp_path / 't.csv').write_text('y,a\n' + rows)
    made = builders.build(config, str(tmp_path / 'data'))
    made.prepare()
    rows = made.info.metadata['rows']
    assert sum(rows.values()) == 3000
    assert rows['train'] == pytest.approx(2100, abs=100)
    assert rows['test'] == pytest.approx(300, abs=60)
    # All values differ, so the vocabulary is that of the training rows, and other parts have none of it.
    assert made.encoder().schema.vocabulary == rows['train'] + 2
    for part in ('valid', 'test'):
        assert not made.blocks(part).read(0)['categorical'].any()


def test_synthetic_truth_is_of_the_same_rows(tmp_path):
    config = get_config('mlp').dataset
    config.rows = 100_000
    made = builders.build(config, str(tmp_path))
    made.prepare()
    assert made.true_probabilities('train') is None
    for part in ('valid', 'test'):
        blocks = made.blocks(part)
        label = np.concatenate([blocks.read(i)['label'] for i in range(len(blocks))])
        truth = made.true_probabilities(part)
        assert len(truth) == len(label)
        # Clicks are drawn from these probabilities: in each bin, the rate is the mean probability.
        order = np.argsort(truth).reshape(10, -1)
        rate, mean = label[order].mean(1), truth[order].mean(1)
        error = np.sqrt(mean * (1 - mean) / order.shape[1])
        assert (np.abs(rate - mean) < 4 * error).all()


@pytest.mark.parametrize('damage', ['cut', 'emptied', 'gone'])
def test_damaged_shard_is_named(builder, damage):
    (shard,) = builder.info.splits['valid'].filepaths
    if damage == 'gone':
        shard.unlink()
    else:
        data = shard.read_bytes()
        shard.write_bytes(data[: len(data) // 2 if damage == 'cut' else 0])
    with pytest.raises(UserError, match='record shard is') as error:
        builder.blocks('valid')
    assert str(shard) in str(error.value)


@pytest.mark.parametrize('begun', [False, True])
def test_shard_that_vanishes_under_a_run(builder, begun):
    """A shard whose reading has begun stays readable; another one is named in the error."""
    blocks = builder.blocks('train')
    expected = [blocks.read(i) for i in range(len(blocks))]
    blocks = reopened(builder).blocks('train')
    if begun:
        blocks.read(0)
    (shard,) = builder.info.splits['train'].filepaths
    shard.unlink()
    if begun:
        found = [blocks.read(i) for i in range(len(blocks))]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one['categorical'], other['categorical'])
    else:
        with pytest.raises(UserError, match='record shard is missing') as error:
            blocks.read(1)
        assert str(shard) in str(error.value)


def test_bytes_do_not_depend_on_the_order_that_a_process_draws():
    """Protobuf draws the order of a map's entries in each process."""

    def entry(name, size):
        values = b'\n' + records._varint(size) + bytes(size)
        feature = b'\n' + records._varint(len(values)) + values
        entry = b'\n' + bytes([len(name)]) + name + b'\x12' + records._varint(len(feature)) + feature
        return b'\n' + records._varint(len(entry)) + entry

    def record(entries):
        features = b''.join(entries)
        return b'\n' + records._varint(len(features)) + features

    entries = [entry(b'label', 40), entry(b'weight', 3), entry(b'categorical', 70_000)]
    ordered = {records._in_order(record(order)) for order in itertools.permutations(entries)}
    assert len(ordered) == 1
    found = {name: len(value) for name, value in records._byte_features(ordered.pop())}
    assert found == {'label': 40, 'weight': 3, 'categorical': 70_000}
