"""Validation of the config: every key that cannot be is named, with what is expected."""

import pytest

from dlf_jax import config as configs
from dlf_jax import config_checks
from dlf_jax.errors import UsageError

BAD = [
    ('optimizer.eps', -1.0, '0 or more'),
    ('optimizer.b1', 2.0, '0 or more and less than 1'),
    ('optimizer.b2', 1.0, '0 or more and less than 1'),
    ('optimizer.learning_rate', float('inf'), 'a finite number'),
    ('optimizer.learning_rate', 0.0, 'more than 0'),
    ('optimizer.weight_decay', 0.1, "read by config.optimizer.name=adamw and lion, not by 'adam'"),
    ('optimizer.momentum', 0.9, "read by config.optimizer.name=sgd, not by 'adam'"),
    ('plateau.min_gain', -1.0, '0 or more'),
    ('plateau.min_gain', float('nan'), 'a finite number'),
    ('distributed.processes', 3, 'config.distributed.coordinator=HOST:PORT beside it'),
    ('distributed.process', 1, 'config.distributed.coordinator=HOST:PORT beside it'),
    ('dataset.fractions', (1.0, float('inf')), 'shares of train, valid and test'),
    ('matmul_precision', 'low', 'no such choice'),
]


@pytest.mark.parametrize(('key', 'value', 'expected'), BAD, ids=[f'{key}={value}' for key, value, _ in BAD])
def test_a_value_that_cannot_be_is_named(key, value, expected):
    config = configs.get_config('mlp')
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UsageError) as error:
        config_checks.validate(config)
    assert str(error.value).startswith(f'config.{key}=')
    assert expected in str(error.value)


def test_a_key_of_a_config_file_that_there_is_not():
    config = configs.get_config('mlp')
    config.training.epoch = 3
    with pytest.raises(UsageError, match=r"config.training.epoch: .*did you mean 'training.epochs'"):
        config_checks.validate(config)


def test_a_key_that_the_dataset_does_not_read():
    config = configs.get_config('mlp')
    config.dataset.name = 'criteo'
    config.dataset.hour = 'parts'
    with pytest.raises(UsageError, match=r"config.dataset.hour='parts': the dataset criteo does not read it"):
        config_checks.validate(config)


@pytest.mark.parametrize('name', ['adam', 'adamw', 'adagrad', 'sgd', 'lion'])
def test_an_optimizer_of_every_name_is_good(name):
    config = configs.get_config('mlp')
    config.optimizer.name = name
    config_checks.validate(config)


def test_an_unknown_optimizer_is_named():
    for key in ('name', 'embedding_rows'):
        config = configs.get_config('mlp')
        config.optimizer[key] = 'adm'
        with pytest.raises(UsageError, match=rf"config.optimizer.{key}='adm': .*did you mean 'adam'"):
            config_checks.validate(config)


def test_differences_are_those_from_the_models_defaults():
    config = configs.get_config('mlp')
    assert config_checks.differences(config) == {}
    config.model.dropout, config.dataset.rows = 0.5, 1000
    assert config_checks.differences(config) == {'model.dropout': 0.5, 'dataset.rows': 1000}


def test_names_of_one_s_own_files_mean_the_same_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / 'mine.py').write_text(
        'from dlf_jax.data.builders.frappe import Frappe as Data\n'
        'from dlf_jax.training.metrics import METRICS\n'
        'from dlf_jax.training.optimizers import OPTIMIZERS\n'
        'from dlf_jax.training.row_optimizers import ROW_OPTIMIZERS\n'
        "brier, dense, rows = METRICS['brier'], OPTIMIZERS['sgd'], ROW_OPTIMIZERS['lazy_adam']\n"
    )
    monkeypatch.chdir(tmp_path)
    names = {
        'dataset.name': 'mine.py:Data',
        'optimizer.name': 'mine.py:dense',
        'optimizer.embedding_rows': 'mine.py:rows',
        'training.monitor': 'mine.py:brier',
    }
    config = configs.get_config('lr')
    config.update_from_flattened_dict(names)
    config_checks.validate(config)
    found = dict(configs.flatten(config))
    assert {key: found[key] for key in names} == {key: f'{tmp_path}/{name}' for key, name in names.items()}
