"""Comparisons and searches from an installed wheel, in a clean environment, outside of the checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv

import pytest

from dlf_jax import config_files, models
from dlf_jax.errors import UsageError
from tests.conftest import ROOT

# All that a wheel is made of.
SOURCES = ('dlf_jax', 'configs', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE')


class Installed:
    """A virtual environment with the wheel; the packages that it needs are those of this environment."""

    def __init__(self, folder):
        source = folder / 'source'
        source.mkdir()
        for name in SOURCES:
            # A copy: building leaves files behind.
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy(ROOT / name, source)
        self._run(sys.executable, '-m', 'pip', 'wheel', '--no-deps', '-w', folder / 'dist', source)
        (self.wheel,) = (folder / 'dist').glob('*.whl')
        venv.create(folder / 'venv', with_pip=False)
        self.python = folder / 'venv/bin/python'
        paths = sysconfig.get_paths(vars={'base': str(folder / 'venv'), 'platbase': str(folder / 'venv')})
        self.site = paths['purelib']
        install = ('install', '--no-deps', '--no-index', '--target', self.site)
        self._run(sys.executable, '-m', 'pip', *install, self.wheel)
        with open(f'{self.site}/dependencies.pth', 'w') as file:
            file.write(f'{sysconfig.get_paths()["purelib"]}\n')

    @staticmethod
    def _run(*line, **options):
        done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def __call__(self, folder, *arguments, fails=False):
        """Runs `python ARGUMENTS` there; returns its standard output, or its error where it must fail."""
        env = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
        done = subprocess.run(
            [self.python, *arguments], cwd=folder, env={**env, 'JAX_PLATFORMS': 'cpu'},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp('installed'))


def test_a_wheel_lists_all_models_on_a_dataset(installed, tmp_path):
    line = ('-m', 'dlf_jax.compare', '--list', '--dataset=synthetic', '--models=all', '--seeds=2')
    result = json.loads(installed(tmp_path, *line))
    assert result['runs'] == 2 * len(models.MODELS)
    assert all(
        f'--config={installed.site}/dlf_jax/configs/synthetic.py:' in r['command'] for r in result['list']
    )
    # Listing leaves nothing behind.
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_wheel_compares_and_tunes(installed, tmp_path, data_dir):
    small = (
        f'--data_dir={data_dir}', '--config.dataset.rows=3000', '--config.dataset.block_rows=256',
        '--config.training.batch_size=256', '--config.training.epochs=1',
    )  # fmt: skip
    line = ('-m', 'dlf_jax.compare', '--dataset=synthetic', '--models=lr', '--seeds=1', *small)
    result = json.loads(installed(tmp_path, *line))
    assert (result['finished'], result['failed']) == (1, [])
    assert (tmp_path / 'results/comparison/table.md').is_file()
    assert '--logloss_weight' in installed(tmp_path, '-m', 'dlf_jax.tune', '--help')
    # The space of the wheel is found, and read.
    line = ('-m', 'dlf_jax.tune', '--dataset=synthetic', '--model=dlf', '--config.model.rank=3')
    error = installed(tmp_path, *line, fails=True)
    assert f'{installed.site}/dlf_jax/configs/spaces/dlf.toml searches it' in error


def test_a_config_file_is_the_local_one_or_the_package_s(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_files.find_config_file('configs/criteo.py') == ROOT / 'configs/criteo.py'
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs/criteo.py').touch()
    assert config_files.find_config_file('configs/criteo.py').resolve() == tmp_path / 'configs/criteo.py'
    assert config_files.find_config_file(f'{tmp_path}/configs/criteo.py').parent == tmp_path / 'configs'
    for name, hint in (
        ('configs/critoe.py', "did you mean 'configs/criteo.py'"),
        (f'{tmp_path}/frappe.py', 'no such file'),
        ('configs/../configs/frappe.py', 'no such file'),
        ('', 'no such file'),
    ):
        with pytest.raises(UsageError, match=f'--config={name}: .*{hint}'):
            config_files.find_config_file(name)
