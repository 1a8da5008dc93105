"""Baselines beside a model, in its place, after a kill, and where their packages are missing."""

import json
import logging
import sys

import numpy as np
import pytest

import dlf_jax
from dlf_jax import baselines
from dlf_jax import config as configs
from dlf_jax.baselines import fitting
from dlf_jax.errors import UsageError
from dlf_jax.main import _tell
from tests.conftest import SMALL_RUN, write_table


@pytest.fixture(scope='module')
def table(tmp_path_factory):
    """A table of `write_table` with a column of weights, every fifth of them 0, and of groups."""
    path = write_table(tmp_path_factory.mktemp('baselines') / 'train.csv', 2000)
    head, *lines = path.read_text().splitlines()
    lines = [f'{line},{i % 5},g{i % 7}' for i, line in enumerate(lines)]
    path.write_text('\n'.join([f'{head},weight,group', *lines]) + '\n')
    return path


def config_of(table, model='mlp', **overrides):
    own = {
        'dataset.name': 'table', 'dataset.train': str(table), 'dataset.label': 'click',
        'dataset.categorical': ('user', 'ad'), 'dataset.numeric': ('price',),
        'dataset.weight': 'weight', 'dataset.group': 'group', 'dataset.block_rows': 256,
    }  # fmt: skip
    small = {} if model in baselines.BASELINES else SMALL_RUN
    return dlf_jax.load_config(model=model, overrides={**small, **own, **overrides})


@pytest.fixture(scope='module')
def workdir(table, data_dir):
    """A finished run without baselines."""
    folder = table.parent / 'run'
    dlf_jax.train(config_of(table), folder, data_dir)
    return folder


def counted(monkeypatch):
    """Names of the baselines that are fitted from now on."""
    found = []
    for name, fit in baselines.BASELINES.items():

        def count(*arguments, name=name, fit=fit):
            found.append(name)
            return fit(*arguments)

        monkeypatch.setitem(baselines.BASELINES, name, count)
    return found


def test_the_names_are_the_same_everywhere():
    assert configs.BASELINES == tuple(baselines.BASELINES) == tuple(baselines._PACKAGES)


def test_a_finished_run_gets_baselines_once(workdir, table, data_dir, monkeypatch, caplog):
    before, fitted = json.loads((workdir / 'result.json').read_text()), counted(monkeypatch)
    checkpoints = sorted(workdir.glob('checkpoints/*'))
    caplog.set_level(logging.INFO, 'dlf_jax')
    config = config_of(table, baselines=True)
    result = dlf_jax.train(config, workdir, data_dir)
    assert fitted == ['logistic', 'lightgbm']
    assert {key: result[key] for key in before} == before
    assert sorted(workdir.glob('checkpoints/*')) == checkpoints
    for found in result['baselines'].values():
        for part in ('valid', 'test'):
            assert found[part].keys() == before[part].keys()
            # Rows of weight 0 count nowhere.
            assert found[part]['rows'] == before[part]['rows']
            assert found[part]['auc'] > 0.65
        assert found['rows'] == 1400 * 4 // 5
        assert found['seconds'] >= 0
    assert json.loads((workdir / 'result.json').read_text()) == result
    assert dlf_jax.train(config, workdir, data_dir) == result
    assert len(fitted) == 2
    # A metric that the run did not have is computed by fitting again.
    stored = json.loads((workdir / 'baselines.json').read_text())
    for one in stored.values():
        del one['valid']['brier']
    (workdir / 'baselines.json').write_text(json.dumps(stored))
    found = fitting.fit_missing(
        config_of(table, **{'training.metrics': ('brier',)}),
        _builder(config, data_dir),
        workdir / 'baselines.json',
    )
    assert len(fitted) == 4
    assert found['logistic']['test']['brier'] > 0

    caplog.clear()
    _tell(config, result)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].split() == [
        'valid',
        'auc',
        'valid',
        'logloss',
        'test',
        'auc',
        'test',
        'logloss',
        'seconds',
    ]
    assert [line.split()[0] for line in lines[1:]] == ['mlp', 'logistic', 'lightgbm']
    assert lines[2].split()[3] == f'{result["baselines"]["logistic"]["test"]["auc"]:.4f}'
    assert len({len(line) for line in lines}) == 1


def _builder(config, data_dir):
    builder = dlf_jax.api.builders.build(config.dataset, str(data_dir))
    builder.prepare()
    return builder


def test_killed_between_two_baselines(workdir, table, data_dir, tmp_path, monkeypatch):
    builder, config, file = (
        _builder(config_of(table), data_dir),
        config_of(table),
        tmp_path / 'baselines.json',
    )
    fitted = counted(monkeypatch)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(baselines.BASELINES, 'lightgbm', killed)
        with pytest.raises(KeyboardInterrupt):
            fitting.fit_missing(config, builder, file)
    found = fitting.fit_missing(config, builder, file)
    assert fitted == ['logistic', 'lightgbm']
    assert json.loads(file.read_text()) == found


def test_a_baseline_in_place_of_a_model(table, data_dir, tmp_path, monkeypatch):
    fitted, config = counted(monkeypatch), config_of(table, 'logistic')
    result = dlf_jax.train(config, tmp_path, data_dir)
    assert result['model'] == 'logistic'
    assert result['test']['gauc'] > 0.6
    assert result['parameters'] == {'table': 2 + 20 + 10, 'dense': 2}
    assert dlf_jax.train(config, tmp_path, data_dir) == result
    assert fitted == ['logistic']
    with pytest.raises(
        UsageError, match="'logistic': a baseline can be trained and compared, and nothing else"
    ):
        dlf_jax.evaluate(tmp_path, str(table))
    with pytest.raises(dlf_jax.UserError, match='holds a run of another config'):
        dlf_jax.train(config_of(table), tmp_path, data_dir)


def test_weights_change_the_scores(table, data_dir):
    with_weights = config_of(table)
    without = config_of(table, **{'dataset.weight': ''})
    one, other = (fitting.fit('logistic', c, _builder(c, data_dir)) for c in (with_weights, without))
    assert other['rows'] == 1400
    assert other['valid']['rows'] > one['valid']['rows']
    assert not np.isclose(one['valid']['logloss'], other['valid']['logloss'])


@pytest.mark.parametrize(
    ('model', 'overrides', 'message'),
    [
        ('logistic', {'seeds': 3}, r"config.seeds=3: expected 1 with the baseline 'logistic'"),
        ('lightgbm', {'baselines': True}, r'config.baselines=True: expected False'),
    ],
)
def test_a_config_that_cannot_be(table, model, overrides, message):
    with pytest.raises(UsageError, match=message):
        config_of(table, model, **overrides)


@pytest.mark.parametrize(('model', 'overrides'), [('mlp', {'baselines': True}), ('lightgbm', {})])
def test_a_missing_package_is_told_before_anything_is_done(table, model, overrides, monkeypatch):
    monkeypatch.setitem(sys.modules, 'lightgbm', None)
    with pytest.raises(UsageError, match=r"'lightgbm' needs lightgbm: pip install 'dlf_jax\[baselines\]'"):
        config_of(table, model, **overrides)


def test_the_table_of_several_seeds():
    scores = {'auc': 0.7, 'logloss': None}
    result = {
        'model': 'dlf',
        'seconds': 100.0,
        'mean': {'valid': scores, 'test': None},
        'baselines': {'logistic': {'valid': {'auc': 0.61234, 'logloss': 0.5}, 'test': None, 'seconds': 1.2}},
    }
    assert fitting.table(result) == [
        '          valid auc  valid logloss  seconds',
        'dlf          0.7000              -    100.0',
        'logistic     0.6123         0.5000      1.2',
    ]
