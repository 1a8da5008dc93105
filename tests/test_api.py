"""The library's functions: what they give, and that they set nothing of the process that calls them."""

import json
import logging
import subprocess
import sys

import polars as pl
import pytest

import dlf_jax
from dlf_jax import config as configs
from dlf_jax import config_checks
from dlf_jax.errors import UsageError, UserError
from tests.conftest import ROOT, SMALL_RUN, write_table


@pytest.fixture(scope='module')
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp('api') / 'train.csv', 2000)


def config_of(table, **overrides):
    own = {
        'dataset.name': 'table', 'dataset.train': str(table), 'dataset.label': 'click',
        'dataset.categorical': ('user', 'ad'), 'dataset.numeric': ('price',),
    }  # fmt: skip
    return dlf_jax.load_config(model='mlp', overrides={**SMALL_RUN, **own, **overrides})


@pytest.fixture(scope='module')
def workdir(table, data_dir):
    folder = table.parent / 'run'
    dlf_jax.train(config_of(table), folder, data_dir)
    return folder


def test_every_public_name_is_there():
    for name in dlf_jax.__all__:
        assert getattr(dlf_jax, name) is not None
    assert set(dlf_jax.__all__) <= set(dir(dlf_jax))
    with pytest.raises(AttributeError, match='has no attribute'):
        dlf_jax.nothing  # noqa: B018


def test_an_import_loads_no_framework():
    code = "import dlf_jax, sys; print(sorted({'jax', 'numpy', 'absl', 'polars'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == '[]\n'


def test_training_gives_the_result_that_the_workdir_keeps(workdir, table, data_dir, caplog):
    kept = json.loads((workdir / 'result.json').read_text())
    assert kept['valid']['auc'] > 0.6
    # A finished run gives its result and trains nothing.
    assert dlf_jax.train(config_of(table), workdir, data_dir) == kept


def test_prepare_tells_what_it_made(table, data_dir):
    told = dlf_jax.prepare(config_of(table), data_dir)
    assert told['rows'] == {'train': 1400, 'valid': 400, 'test': 200}
    assert told['fields'] == {'user': 22, 'ad': 12, 'price': 'quantile'}


def test_evaluate_and_predict(workdir, table, tmp_path):
    found = dlf_jax.evaluate(workdir, str(table))
    assert found['rows'] == 2000
    told = dlf_jax.predict(workdir, str(table), str(tmp_path / 'scores.csv'), {'keep': ('user',)})
    assert told['rows'] == 2000
    assert pl.read_csv(tmp_path / 'scores.csv').columns == ['user', 'probability']


def test_a_model_may_be_used_again(workdir, table, tmp_path):
    """Rows and shares of unknown values are those of a call."""
    strange = tmp_path / 'strange.csv'
    strange.write_text('click,user,ad,price\n' + '0,nobody,a1,0.1\n' * 10)
    model = dlf_jax.load(workdir)
    first = model.write_predictions(table, tmp_path / 'one.csv')
    unknown = model.write_predictions(strange, tmp_path / 'two.csv')
    assert (unknown['rows'], unknown['out_of_vocabulary']['user']) == (10, 1.0)
    again = model.write_predictions(str(table), str(tmp_path / 'three.csv'))
    assert again['rows'] == first['rows'] == 2000
    assert again['out_of_vocabulary'] == first['out_of_vocabulary']
    assert (tmp_path / 'one.csv').read_bytes() == (tmp_path / 'three.csv').read_bytes()
    evaluated = [model.evaluate(table) for _ in range(2)]
    assert evaluated[0] == evaluated[1]


def test_a_batch_that_devices_do_not_divide(workdir, table):
    """Eight devices and a batch of 101 rows: every row is scored once."""
    code = (
        'import json, sys, dlf_jax\n'
        f'print(json.dumps(dlf_jax.evaluate({str(workdir)!r}, {str(table)!r}, {{"batch_size": 101}})))'
    )
    environment = {
        'PATH': '/usr/bin:/bin', 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT),
        'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found, expected = json.loads(done.stdout), dlf_jax.evaluate(workdir, str(table))
    assert found['rows'] == 2000
    assert found['auc'] == pytest.approx(expected['auc'], abs=1e-6)


def test_calls_set_nothing_of_the_process(workdir, table, data_dir, tmp_path):
    """Signals, logging, flags, the compilation cache and the allocator are the command's."""
    code = (
        'import json, logging, signal, sys\n'
        'import jax, absl.flags\n'
        'from dlf_jax import allocator\n'
        'allocator._set = lambda *_: sys.exit("mallopt was called")\n'
        'def look():\n'
        '    own = {"config", "workdir", "data_dir", "mode", "variant", "dataset"} & set(absl.flags.FLAGS)\n'
        '    return (signal.getsignal(signal.SIGTERM), own,\n'
        '            logging.getLogger("dlf_jax").handlers[:], logging.getLogger("dlf_jax").level,\n'
        '            jax.config.jax_compilation_cache_dir, sys.unraisablehook)\n'
        'before = look()\n'
        'import dlf_jax\n'
        f'config = dlf_jax.Workdir({str(workdir)!r}).config()\n'
        f'dlf_jax.train(config, {str(tmp_path / "run")!r}, {str(data_dir)!r})\n'
        f'dlf_jax.evaluate({str(tmp_path / "run")!r}, {str(table)!r})\n'
        'assert look() == before, (before, look())\n'
    )
    code = code.replace('dlf_jax.Workdir', '__import__("dlf_jax.workdir").workdir.Workdir')
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, timeout=180,
        env={'PATH': '/usr/bin:/bin', 'JAX_PLATFORMS': 'cpu', 'HOME': str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_differences_from_the_defaults_are_told(table, data_dir, tmp_path, caplog):
    caplog.set_level(logging.INFO, 'dlf_jax')
    dlf_jax.train(config_of(table, **{'training.epochs': 1}), tmp_path / 'run', data_dir)
    (line,) = [
        record.getMessage() for record in caplog.records if 'beside the defaults' in record.getMessage()
    ]
    assert 'training.epochs=1' in line
    assert 'embedding.std' not in line


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'overrides': {'training.epoch': 3}}, r"config.training.epoch: .*did you mean 'training.epochs'"),
        ({'overrides': {'training.epochs': 'many'}}, 'another type'),
        ({'overrides': {'training.epochs': 0}}, r'config.training.epochs=0: expected at least 1'),
        ({'file': 'nothing.py'}, r'nothing\.py'),
        ({'variant': 'wo_gates'}, "did you mean 'wo_gate'"),
    ],
)
def test_a_config_that_cannot_be(arguments, message):
    with pytest.raises(UsageError, match=message):
        dlf_jax.load_config(**arguments)


def test_a_config_of_a_file_with_a_variant():
    config = dlf_jax.load_config(
        ROOT / 'configs' / 'frappe.py', 'dlf', 'wo_gate', {'optimizer.learning_rate': 0.5}
    )
    assert (config.model.gate, config.model.layers, config.optimizer.learning_rate) == (False, 1, 0.5)


def test_load_without_a_model(tmp_path):
    with pytest.raises(UserError, match='no trained model here'):
        dlf_jax.load(tmp_path)


def test_options_of_prediction_that_cannot_be(workdir):
    with pytest.raises(UsageError, match=r"config.predict.batch: .*did you mean 'batch_size'"):
        dlf_jax.load(workdir, {'batch': 3})
    with pytest.raises(UsageError, match=r'config.predict.batch_size=-1: expected 0 or more'):
        dlf_jax.load(workdir, {'batch_size': -1})


def test_keys_of_earlier_versions_are_read_and_told(workdir, caplog):
    caplog.set_level(logging.WARNING, 'dlf_jax')
    config = configs.get_config('mlp')
    with config.optimizer.unlocked():
        config.optimizer.tables = 'lazy_adam'
    config_checks.validate(config)
    assert config.optimizer.embedding_rows == 'lazy_adam'
    assert 'tables' not in config.optimizer
    assert 'config.optimizer.tables is called config.optimizer.embedding_rows now' in caplog.text
