"""A trained model in Python: frames and files, saved folders, copies."""

import copy
import json
import pickle
import threading

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import dlf_jax
from dlf_jax.data.builders.avazu import RAW_FIELDS
from dlf_jax.errors import UsageError, UserError
from tests.conftest import SMALL_RUN, run, write_table


@pytest.fixture(scope='module')
def folder(tmp_path_factory, data_dir):
    folder = tmp_path_factory.mktemp('model')
    write_table(folder / 'train.csv', 2000)
    own = {
        'dataset.name': 'table', 'dataset.train': str(folder / 'train.csv'), 'dataset.label': 'click',
        'dataset.categorical': ('user', 'ad'), 'dataset.numeric': ('price',),
    }  # fmt: skip
    keys = {**SMALL_RUN, **own, 'optimizer.learning_rate': 0.05}
    dlf_jax.train(dlf_jax.load_config(model='dcnv2', overrides=keys), folder / 'run', data_dir)
    return folder


@pytest.fixture(scope='module')
def model(folder):
    return dlf_jax.load(folder / 'run')


@pytest.fixture(scope='module')
def frame(folder):
    return pl.read_csv(folder / 'train.csv')


def test_frames_and_files_score_the_same_bits(folder, model, frame, tmp_path):
    expected = model.predict(folder / 'train.csv')
    assert expected.shape == (2000,)
    assert expected.dtype == np.float32
    assert expected.std() > 0.05
    kinds = [frame, frame.lazy(), frame.to_pandas(), frame.to_arrow(), frame.to_dict(as_series=False)]
    for data in [*kinds, [folder / 'train.csv'], frame.drop('click')]:
        np.testing.assert_array_equal(model.predict(data), expected)
    # As the command writes them.
    model.write_predictions(frame, tmp_path / 'scores.parquet')
    written = pl.read_parquet(tmp_path / 'scores.parquet')['probability'].to_numpy()
    np.testing.assert_array_equal(written.astype(np.float32), expected)


def test_evaluation_of_a_frame(folder, model, frame):
    assert model.evaluate(frame) == model.evaluate(folder / 'train.csv')
    with pytest.raises(UserError, match=r"the frame: no column 'click' \(the label\)"):
        model.evaluate(frame.drop('click'))
    wrong = frame.with_columns(pl.col('price').cast(pl.String).replace('-0.038', 'cheap'))
    with pytest.raises(
        UserError, match=r"the frame, row \d+: column 'price': expected a number, found 'cheap'"
    ):
        model.predict(wrong.with_columns(pl.lit('cheap').alias('price')))


def test_what_a_model_tells(folder, model):
    assert model.schema.label == 'click'
    assert model.config.model.name == 'dcnv2'
    assert model.result == json.loads((folder / 'run' / 'result.json').read_text())
    evaluations = [line for line in model.history if line['kind'] == 'valid']
    assert [line['step'] for line in evaluations] == sorted(line['step'] for line in evaluations)
    assert max(line['auc'] for line in evaluations) == model.result['valid']['auc']
    assert 'dcnv2: 3 fields, valid auc 0.' in repr(model)
    # What is handed out is a copy.
    model.config.model.name, model.result['valid']['auc'] = 'other', 2.0
    assert (model.config.model.name, model.result['valid']['auc'] < 1) == ('dcnv2', True)


def test_a_saved_model_needs_nothing_else(folder, model, frame, tmp_path):
    model.save(tmp_path / 'deep' / 'saved')
    assert sorted(path.name for path in (tmp_path / 'deep').iterdir()) == ['saved']
    (folder / 'run').rename(folder / 'moved')
    try:
        saved = dlf_jax.load(tmp_path / 'deep' / 'saved')
        np.testing.assert_array_equal(saved.predict(frame), model.predict(frame))
        assert (saved.result, saved.history) == (model.result, model.history)
    finally:
        (folder / 'moved').rename(folder / 'run')
    with np.load(tmp_path / 'deep' / 'saved' / 'weights.npz', allow_pickle=False) as weights:
        assert not any(name.startswith('opt_state') for name in weights.files)
    # Saved again, from the copy; and as the command reads it.
    saved.save(tmp_path / 'deep' / 'saved')
    told = run(
        '--mode=evaluate', f'--workdir={tmp_path / "deep" / "saved"}', f'--input={folder / "train.csv"}'
    )
    assert told == model.evaluate(frame)


def test_a_folder_that_is_no_saved_model_is_kept(folder, model, tmp_path):
    (tmp_path / 'notes.txt').write_text('mine')
    # What looks like a saved model, and one with something beside it.
    (tmp_path / 'other').mkdir()
    np.savez(tmp_path / 'other' / 'weights.npz', a=1)
    model.save(tmp_path / 'mixed')
    (tmp_path / 'mixed' / 'scores.csv').write_text('mine')
    others = (tmp_path, folder / 'run', tmp_path / 'notes.txt', tmp_path / 'other', tmp_path / 'mixed')
    for taken in others:
        with pytest.raises(UserError, match='is there already, and is no saved model'):
            model.save(taken)
    assert (tmp_path / 'notes.txt').read_text() == 'mine'
    assert (tmp_path / 'mixed' / 'scores.csv').read_text() == 'mine'
    (tmp_path / 'empty').mkdir()
    model.save(tmp_path / 'empty')
    assert dlf_jax.load(tmp_path / 'empty').result == model.result


def test_training_into_a_saved_model_is_refused(folder, model, data_dir, tmp_path):
    model.save(tmp_path / 'saved')
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'saved').iterdir()}
    with pytest.raises(UserError, match='holds a saved model, not a run; take another --workdir'):
        dlf_jax.train(model.config, tmp_path / 'saved', data_dir)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'saved').iterdir()} == before


@pytest.mark.parametrize('damage', ['cut', 'other', 'shape', 'object'])
def test_damaged_weights_are_told(model, damage, tmp_path):
    model.save(tmp_path / 'saved')
    path = tmp_path / 'saved' / 'weights.npz'
    with np.load(path) as file:
        arrays = dict(file)
    name = next(name for name in arrays if name.startswith('params.dense.model'))
    if damage == 'cut':
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == 'other':
        np.savez(path, **{'params.dense.other': arrays.pop(name)}, **arrays)
    elif damage == 'shape':
        np.savez(path, **{**arrays, name: arrays[name][:1]})
    else:
        np.savez(path, **{**arrays, name: np.array([{}], object)})
    with pytest.raises(UserError, match=r'weights\.npz: '):
        dlf_jax.load(tmp_path / 'saved')


def test_a_copy_is_made_of_the_saved_bytes(folder, frame):
    model = dlf_jax.load(folder / 'run', {'batch_size': 300})
    packed = pickle.dumps(model)
    for other in (pickle.loads(packed), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.predict(frame), model.predict(frame))
        assert other.config.predict.batch_size == 300
        assert other.result == model.result


def test_an_export_of_a_model_in_memory(folder, frame, tmp_path):
    """As the command writes it of the workdir, byte for byte."""
    told = dlf_jax.load(folder / 'run').export(tmp_path / 'one')
    assert told['largest_difference'] < 1e-6
    other = dlf_jax.export(folder / 'run', tmp_path / 'other', {'export.format': 'onnx'})
    assert {**told, 'output': ''} == {**other, 'output': ''}
    for name in ('model.onnx', 'manifest.json', 'self_test.json'):
        assert (tmp_path / 'one' / name).read_bytes() == (tmp_path / 'other' / name).read_bytes()
    with pytest.raises(UsageError, match=r"config.export.format='onx'.*did you mean 'onnx'"):
        dlf_jax.load(folder / 'run').export(tmp_path / 'third', 'onx')
    with pytest.raises(UsageError, match=r"config.export.formats: .*did you mean 'export.format'"):
        dlf_jax.export(folder / 'run', tmp_path / 'third', {'export.formats': 'onnx'})


def test_a_model_of_a_chosen_seed_is_saved_and_copied(folder, frame, data_dir, tmp_path):
    keys = {'dataset.categorical': ('user',), 'training.epochs': 1, 'seeds': 2}
    dlf_jax.fit(frame, label='click', model='fm', workdir=tmp_path / 'seeds', **keys)
    first, second = (dlf_jax.load(tmp_path / 'seeds', {'seed': seed}) for seed in (0, 1))
    assert (first.predict(frame) != second.predict(frame)).any()
    second.save(tmp_path / 'saved')
    for other in (dlf_jax.load(tmp_path / 'saved'), copy.deepcopy(second)):
        np.testing.assert_array_equal(other.predict(frame), second.predict(frame))


def test_labels_of_other_words_are_told(frame, caplog):
    words = frame.with_columns(pl.col('click').cast(pl.String).replace({'1': 'buy', '0': 'skip'}))
    keys = {'training.epochs': 1, 'dataset.positive': 'buy'}
    model = dlf_jax.fit(words, label='click', model='fm', **keys)
    model.evaluate(words)
    assert 'are they written as in training?' not in caplog.text
    model.evaluate(frame)
    assert "the frame: no label is 'buy', which is a click; are they written as in training?" in caplog.text


@pytest.mark.parametrize(('data', 'found'), [(5, 'int'), (None, 'NoneType'), ([{'user': 'u1'}], 'list')])
def test_what_cannot_be_scored(model, data, found):
    with pytest.raises(UsageError, match=f'the rows: expected a frame .*; found {found}'):
        model.predict(data)


def test_threads_may_share_a_model(model, frame):
    expected, found = model.predict(frame), {}

    def score(i):
        found[i] = model.predict(frame[i * 100 :])

    threads = [threading.Thread(target=score, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for i in range(8):
        np.testing.assert_array_equal(found[i], expected[i * 100 :])


def test_a_column_that_the_dataset_makes_of_others(tmp_path, data_dir):
    """Avazu's hour, in a frame as in a file."""
    draw = np.random.default_rng(0)
    columns = {'click': draw.integers(0, 2, 600), **{name: draw.integers(0, 5, 600) for name in RAW_FIELDS}}
    columns['hour'] = 14102100 + draw.integers(0, 24, 600)
    table = pl.DataFrame(columns)
    table.write_csv(tmp_path / 'train.csv')
    keys = {
        **SMALL_RUN, 'dataset.name': 'avazu', 'dataset.train': str(tmp_path / 'train.csv'),
        'dataset.hour': 'parts', 'dataset.allow_modified': True,
    }  # fmt: skip
    dlf_jax.train(dlf_jax.load_config(model='mlp', overrides=keys), tmp_path / 'run', data_dir)
    model = dlf_jax.load(tmp_path / 'run')
    np.testing.assert_array_equal(model.predict(table), model.predict(tmp_path / 'train.csv'))


def test_pandas_rows_of_another_index(model, frame):
    table = frame.to_pandas()
    found = model.predict(table[table.price > 0])
    np.testing.assert_array_equal(found, model.predict(frame)[frame['price'] > 0])
    assert isinstance(table, pd.DataFrame)
    assert model.predict(pa.table({'user': ['u1'], 'ad': ['a1'], 'price': [0.5]})).shape == (1,)
