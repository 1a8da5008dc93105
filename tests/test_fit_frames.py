"""Training in one call: on frames and files, with the bits of the command."""

import json
import logging
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

import dlf_jax
from dlf_jax import api
from dlf_jax.data import builders
from dlf_jax.errors import UsageError, UserError
from tests.conftest import compiled, run, shared_file, write_table

KEYS = {'model.hidden': (8,), 'model.embedding_size': 4, 'training.batch_size': 256, 'training.epochs': 2}
FLAGS = tuple(f'--config.{key}={value}'.replace(' ', '') for key, value in KEYS.items())


@pytest.fixture(scope='module')
def frame(tmp_path_factory):
    return pl.read_csv(write_table(tmp_path_factory.mktemp('fit') / 'train.csv', 2000))


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The folder of temporary files, which is empty again after each test."""
    compiled()  # which is a folder of all tests
    folder = tmp_path / 'temporary'
    folder.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def weights(folder):
    with np.load(Path(folder) / 'weights.npz', allow_pickle=False) as file:
        return dict(file)


def test_a_frame_trains_as_the_command_does_on_its_file(frame, tmp_path, data_dir):
    """Bit for bit, from proposed schema to weights."""
    frame.to_pandas().to_parquet(tmp_path / 'train.parquet')
    flags = ('--config=configs/table.py', f'--config.dataset.train={tmp_path / "train.parquet"}')
    schema = f'--config.dataset.schema={tmp_path / "schema.toml"}'
    run(
        *flags, '--mode=prepare', '--config.dataset.infer=True', f'--output={tmp_path / "schema.toml"}',
        '--config.dataset.label=click',
    )  # fmt: skip
    told = run(
        *flags, schema, '--config.model.name=mlp', *FLAGS, f'--workdir={tmp_path / "run"}',
        f'--data_dir={data_dir}',
    )  # fmt: skip
    model = dlf_jax.fit(frame, label='click', model='mlp', **KEYS)
    model.save(tmp_path / 'one')
    dlf_jax.load(tmp_path / 'run').save(tmp_path / 'other')
    found, expected = weights(tmp_path / 'one'), weights(tmp_path / 'other')
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert model.result['valid'] == told['valid']
    np.testing.assert_array_equal(model.predict(frame), dlf_jax.load(tmp_path / 'run').predict(frame))


def test_parts_of_any_kind(frame, tmp_path, caplog):
    frame[:200].write_csv(tmp_path / 'test.csv')
    model = dlf_jax.fit(
        frame[:1500], label='click', model='mlp', valid=frame[1500:].to_pandas(),
        test=tmp_path / 'test.csv', **KEYS,
    )  # fmt: skip
    assert model.result['valid']['rows'] == 500
    # Orbax and TFDS warn of what is as it should be.
    assert [record for record in caplog.records if record.name == 'absl'] == []
    assert model.result['test']['rows'] == 200
    assert model.evaluate(frame[:200])['auc'] == pytest.approx(model.result['test']['auc'], abs=1e-9)
    assert [line['step'] for line in model.history if line['kind'] == 'valid'] == [12]


def test_files_are_prepared_where_the_commands_are(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(builders, 'DATA_DIR', str(tmp_path / 'data'))
    for i in range(2):
        frame[i * 1000 : (i + 1) * 1000].write_csv(tmp_path / f'day,{i}.csv')
    files = [tmp_path / f'day,{i}.csv' for i in range(2)]
    named = {'dataset.categorical': ('user',), 'dataset.numeric': ('price',)}
    model = dlf_jax.fit(files, label='click', model='mlp', **KEYS, **named)
    assert model.result['valid']['rows'] == 400
    assert [field.name for field in model.schema.fields] == ['user', 'price']
    assert (tmp_path / 'data').is_dir()


def test_weights_and_groups(frame):
    table = frame.with_columns(pl.Series('importance', [0.5, 2.0] * 1000))
    model = dlf_jax.fit(table, label='click', model='mlp', weight='importance', group='user', **KEYS)
    assert model.schema.weight == 'importance'
    assert 'importance' not in [field.name for field in model.schema.fields]
    assert 'gauc' in model.evaluate(table)
    with pytest.raises(UserError, match=r"no column 'w' \(config.dataset.weight\)"):
        dlf_jax.fit(frame, label='click', weight='w', **KEYS)


def test_a_label_of_two_words(frame, caplog):
    words = frame.with_columns(
        pl.col('click').cast(pl.String).replace({'1': 'bought', '0': 'left'}).alias('outcome'),
        pl.col('click').alias('purchase'),
    ).drop('click')
    dlf_jax.fit(words, label='outcome', model='lr', **{'training.epochs': 1})
    assert "label 'outcome': 'left' is taken for a click; dataset.positive says it otherwise" in caplog.text
    assert 'left out: purchase' in caplog.text
    caplog.clear()
    model = dlf_jax.fit(words, label='outcome', model='mlp', **KEYS, **{'dataset.positive': 'bought'})
    share = (frame['click'] == 1).mean()
    assert model.predict(words).mean() == pytest.approx(share, abs=0.2)
    assert model.schema.positive == 'bought'
    assert 'is taken for a click' not in caplog.text


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (
            {'label': 'clicked'},
            UserError,
            r"no column 'clicked' \(config.dataset.label\); found: click",
        ),
        ({'label': 'price'}, UserError, "column 'price' cannot be the label: expected two values"),
        ({'label': 'click', 'model': 'lightgbm'}, UsageError, 'a baseline, which keeps scores and no model'),
        ({'label': 'click', 'model': 'dlff'}, UsageError, "did you mean 'dlf'"),
        ({'label': 'click', 'training.epoch': 1}, UsageError, "config.training.epoch: .*'training.epochs'"),
        ({'label': 'click', 'valid': 3}, UsageError, 'valid: expected a frame .*; found int'),
        ({'label': 'click', 'dataset.train': 'x'}, UsageError, 'dataset.train: give rows and files as data'),
        ({'label': 'click', 'valid': []}, UsageError, 'valid: no file named'),
        ({'label': 'click', 'valid': pl.DataFrame({'a': [1]})}, UserError, '^the valid frame: no column'),
        ({'label': 3}, UsageError, 'another type'),
    ],
)
def test_what_cannot_be_fitted(frame, arguments, error, message):
    with pytest.raises(error, match=message):
        dlf_jax.fit(frame, **arguments)


def test_a_column_of_a_foreign_type_is_left_out(frame, caplog):
    table = frame[:400].to_pandas()
    table['period'] = pd.period_range('2020', periods=len(table))
    model = dlf_jax.fit(table, label='click', model='lr', **{'training.epochs': 1})
    assert [field.name for field in model.schema.fields] == ['user', 'ad', 'price']
    assert 'left out: period' in caplog.text


def test_a_label_in_doubt_is_asked_for(frame):
    table = frame.with_columns(flag=pl.col('click'), other=1 - pl.col('click')).drop('click')
    with pytest.raises(UsageError, match=r'label: which column is it\? Give label=\.\.\., one of user, ad'):
        dlf_jax.fit(table, **KEYS)


def test_a_workdir_keeps_the_run(frame, tmp_path, monkeypatch):
    fitted = dlf_jax.fit(frame, label='click', model='mlp', workdir=tmp_path / 'run', **KEYS)
    kept = json.loads((tmp_path / 'run' / 'result.json').read_text())
    assert fitted.result == kept
    # The same rows again: nothing is trained.
    monkeypatch.setattr(api.trainer, 'train', None)
    again = dlf_jax.fit(frame, label='click', model='mlp', workdir=tmp_path / 'run', **KEYS)
    np.testing.assert_array_equal(again.predict(frame), fitted.predict(frame))
    with pytest.raises(UserError, match='holds a run on other data'):
        dlf_jax.fit(frame[:1000], label='click', model='mlp', workdir=tmp_path / 'run', **KEYS)


def test_an_interrupted_call_says_how_to_go_on(frame, tmp_path, monkeypatch, caplog, temporary):
    whole = dlf_jax.fit(frame, label='click', model='mlp', **KEYS)
    original = api.trainer.Trainer._evaluate

    def interrupted(self, *arguments):
        original(self, *arguments)
        raise KeyboardInterrupt

    caplog.set_level(logging.WARNING, 'dlf_jax')
    with monkeypatch.context() as patch:
        patch.setattr(api.trainer.Trainer, '_evaluate', interrupted)
        with pytest.raises(KeyboardInterrupt):
            dlf_jax.fit(frame, label='click', model='mlp', **KEYS)
    (kept,) = temporary.iterdir()
    assert f'the same call with workdir={str(kept / "run")!r} goes on' in caplog.text
    assert dlf_jax.load(kept / 'run').result is None
    model = dlf_jax.fit(frame, label='click', model='mlp', workdir=kept / 'run', **KEYS)
    np.testing.assert_array_equal(model.predict(frame), whole.predict(frame))
    assert model.result['steps'] == whole.result['steps']
    os.rename(kept, tmp_path / 'kept')


def test_a_published_dataset_by_its_config():
    model = dlf_jax.fit(
        pl.read_csv(shared_file('frappe/train.csv'))[:5000], model='fm', config='configs/frappe.py',
        valid=shared_file('frappe/valid.csv'), **{'training.epochs': 1, 'dataset.allow_modified': True},
    )  # fmt: skip
    assert model.config.dataset.name == 'frappe'
    assert len(model.schema.fields) == 10
