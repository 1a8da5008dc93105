"""Values of config keys that follow from the size of the data."""

import json

import pytest

from dlf_jax import api, config_by_size, config_checks
from dlf_jax import config as configs
from dlf_jax.config_by_size import Size
from dlf_jax.data.loading.order import Order
from dlf_jax.errors import UsageError, UserError
from dlf_jax.models import MODELS
from tests.test_value_identity import table


def config_of(model='dlf', **overrides):
    return api.load_config('configs/table.py', model, overrides=overrides)


def values(rows, fields=8, **overrides):
    size = Size(rows, fields)
    return dict(configs.flatten(config_by_size.filled(config_of(**overrides), size)))


@pytest.mark.parametrize(
    ('rows', 'batch', 'every', 'dropout', 'penalty'),
    [
        (100, 40, 50, 0.5, 1e-2),
        (1_000, 24, 50, 0.5, 1e-2),
        (50_000, 512, 98, 0.33, 1e-2),
        (5_000_000, 4096, 1000, 0.13, 2e-4),
    ],
)
def test_the_rule(rows, batch, every, dropout, penalty):
    found = values(rows)
    assert found['training.batch_size'] == batch
    assert found['training.evaluate_every'] == found['plateau.steps'] == every
    assert found['model.dropout'] == dropout
    assert found['embedding.penalty'] == penalty


@pytest.mark.parametrize('rows', [1, 2, 31, 33, 100, 1_000, 1_544, 4_001, 50_000, 10**6, 5 * 10**6, 10**9])
def test_batches_are_full_and_an_epoch_has_steps(rows):
    size = config_by_size.batch_size(rows)
    last = rows % size or size
    assert 2 * last >= size or size >= 256 or rows < 32
    steps = Order(rows, 8192, size, 0).steps
    assert steps >= 85 or size <= 64
    every = config_by_size.steps_between_evaluations(rows, size)
    assert 50 <= every <= 1000


@pytest.mark.parametrize('model', MODELS)
@pytest.mark.parametrize('rows', [100, 5_000_000])
def test_every_model_gets_values_that_it_accepts(model, rows):
    config = config_of(model)
    assert config_by_size.open_keys(config)
    filled = config_by_size.filled(config, Size(rows, 8))
    assert not config_by_size.open_keys(filled)
    config_checks.validate(filled)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('training.batch_size', 1000),
        ('training.evaluate_every', 7),
        ('plateau.steps', 0),
        ('embedding.penalty', 0.0),
        ('model.dropout', 0.0),
    ],
)
def test_a_given_value_wins(key, value):
    for rows in (100, 1_000, 50_000, 5_000_000):
        assert values(rows, **{key: value})[key] == value


@pytest.mark.parametrize(
    ('fields', 'rows', 'width', 'batch_norm'),
    [(7, 1_500, 16, True), (128, 50_000, 16, True), (820, 14_000, 4, False), (200, 5_000_000, 8, True)],
)
def test_many_fields(fields, rows, width, batch_norm):
    found = values(rows, fields)
    assert (found['model.embedding_size'], found['model.batch_norm']) == (width, batch_norm)


def test_full_cross_layers_are_for_fewer_fields():
    def mixture(fields):
        config = config_by_size.filled(config_of('dcnv2'), Size(14_000, fields))
        return config.model.mixture

    assert [mixture(fields) for fields in (14, 512, 513, 820)] == [False, False, True, True]


def test_evaluations_follow_a_given_batch_size():
    assert values(3_000, **{'training.batch_size': 10})['training.evaluate_every'] == 300


@pytest.mark.parametrize('name', ['frappe', 'criteo', 'avazu', 'movielens', 'synthetic'])
def test_the_public_datasets_state_theirs(name):
    assert not config_by_size.open_keys(api.load_config(f'configs/{name}.py'))


def test_other_keys_need_a_value():
    config = config_of()
    config.optimizer.learning_rate = None
    with pytest.raises(UsageError, match=r'config.optimizer.learning_rate=None: expected a value, such as'):
        config_checks.validate(config)


def test_a_run_keeps_its_values_and_goes_on_with_them(tmp_path, monkeypatch, caplog):
    table(rows=600).write_csv(tmp_path / 'train.csv')
    keys = {
        'dataset.train': str(tmp_path / 'train.csv'), 'dataset.label': 'click',
        'dataset.categorical': ('user', 'ad'), 'training.epochs': 2,
    }  # fmt: skip

    def train(**more):
        return api.train(config_of('fm', **{**keys, **more}), tmp_path / 'run', tmp_path / 'data')

    def saved():
        return json.loads((tmp_path / 'run' / 'config.json').read_text())

    caplog.set_level('INFO', 'dlf_jax')
    train()
    rows = round(0.7 * 600)
    assert f'for {rows} training rows of 2 fields: training.batch_size=24' in caplog.text
    assert saved()['training']['batch_size'] == 24
    # A later version with another rule does not change what goes on.
    monkeypatch.setattr(config_by_size, 'batch_size', lambda rows: 8)
    steps = train(**{'training.epochs': 3})['steps']
    assert saved()['training']['batch_size'] == 24
    assert steps == 3 * -(-rows // 24)
    assert 'as the run began' in caplog.text
    # The value that it has may be given, too.
    assert train(**{'training.epochs': 3, 'training.batch_size': 24})['steps'] == steps
    with pytest.raises(UserError, match=r'training.batch_size: 24 there, 16 now'):
        train(**{'training.epochs': 3, 'training.batch_size': 16})
