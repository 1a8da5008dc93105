"""What the tests share: small tables, small runs, the command as a real process."""

from __future__ import annotations

import ast
import atexit
import functools
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict

import dlf_jax
from dlf_jax import config as configs
from tests.wheel import Installed

pytest_plugins = ['tests.browser']

ROOT = Path(__file__).parents[1]
# Real rows, for development and CI only; licences forbid putting them into the project.
SHARED = ROOT.parent / 'shared' / 'data'

# A model and a data set so small that a run is mostly start-up.
SMALL_RUN = {
    'dataset.block_rows': 256, 'model.hidden': (8,), 'model.embedding_size': 4, 'training.batch_size': 256,
    'training.epochs': 2,
}  # fmt: skip
SMALL_FLAGS = (
    '--config.model.name=mlp',
    *(f'--config.{key}={value}'.replace(' ', '') for key, value in SMALL_RUN.items()),
)
TINY = ('--dataset=synthetic', '--config.dataset.rows=3000', *SMALL_FLAGS)


@functools.cache
def compiled() -> dict[str, str]:
    """Environment in which processes share what they compile, however little time that took."""
    folder = tempfile.mkdtemp(prefix='dlf_jax-compiled-')
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {'JAX_COMPILATION_CACHE_DIR': folder, 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}


def shared_file(name: str) -> Path:
    """A file of real rows, or a skipped test where the folder is missing."""
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f'needs the real rows {name}, which are not part of the project')
    return path


def command(*arguments: str | Path, **options) -> subprocess.Popen:
    """Starts `python -m dlf_jax.main` as a process of its own."""
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', **compiled(), **options.pop('env', {})}
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
    line = [sys.executable, '-m', 'dlf_jax.main', *map(str, arguments)]
    return subprocess.Popen(line, cwd=ROOT, env=environment, text=True, **{**pipes, **options})


def finish(process: subprocess.Popen) -> subprocess.CompletedProcess:
    """Waits for a process of `command`."""
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(*arguments: str | Path, **options) -> dict:
    """Runs the command to its end and returns its result line."""
    done = finish(command(*arguments, **options))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1, f'standard output is for the result alone: {done.stdout!r}'
    return json.loads(lines[0])


def fail(*arguments: str | Path, code: int = 1, **options) -> str:
    """Runs a command that must fail, and returns its one line of explanation."""
    done = finish(command(*arguments, **options))
    assert done.returncode == code, f'exit code {done.returncode}: {done.stderr}'
    assert 'Traceback' not in done.stderr, done.stderr
    assert not done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1, done.stderr
    return errors[0]


def config_of(*flags: str) -> ConfigDict:
    """The config that flags of the command make, for tests that need no process of their own."""
    values: dict[str, str] = {}
    for flag in flags:
        name, _, text = flag.partition('=')
        values[{'--dataset': 'dataset.name'}.get(name, name.removeprefix('--config.'))] = text
    model = values.pop('model.name', '')
    defaults = dict(configs.flatten(dlf_jax.load_config(model=model)))
    typed = {k: v if isinstance(defaults[k], str) else ast.literal_eval(v) for k, v in values.items()}
    return dlf_jax.load_config(model=model, overrides=typed)


def write_table(path: Path, rows: int, seed: int = 0) -> Path:
    """A learnable CSV table: columns click, user, ad, price."""
    draw = np.random.default_rng(seed)
    user, ad = draw.integers(0, 20, rows), draw.integers(0, 10, rows)
    price = draw.normal(size=rows).round(3)
    click = draw.random(rows) < 1 / (1 + np.exp(-(user % 5 - ad % 3 + price)))
    lines = [f'{int(c)},u{u},a{a},{p}' for c, u, a, p in zip(click, user, ad, price, strict=True)]
    path.write_text('click,user,ad,price\n' + '\n'.join(lines) + '\n')
    return path


def table_flags(train: Path | str) -> tuple[str, ...]:
    """Flags for a table of `write_table`."""
    return (
        *SMALL_FLAGS, '--dataset=table', f'--config.dataset.train={train}', '--config.dataset.label=click',
        "--config.dataset.categorical=('user','ad')", "--config.dataset.numeric=('price',)",
    )  # fmt: skip


@pytest.fixture(scope='module', autouse=True)
def forget_compiled_functions():
    """Compiled functions of hundreds of tests would fill gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture(scope='module')
def compiled_once():
    """Runs of the module that asks for this share what they compile with the processes of `command`."""
    keys = ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')
    before = {key: getattr(jax.config, key) for key in keys}
    for key, value in zip(keys, (compiled()['JAX_COMPILATION_CACHE_DIR'], 0), strict=True):
        jax.config.update(key, value)
    compilation_cache.reset_cache()
    yield
    for key, value in before.items():
        jax.config.update(key, value)
    compilation_cache.reset_cache()


@pytest.fixture(autouse=True)
def restore_logging():
    """Puts back the package's log, which a command that a test calls in this process sets up for itself."""
    log = logging.getLogger('dlf_jax')
    before = log.handlers[:], log.level, log.propagate
    yield
    log.handlers, log.propagate = before[0], before[2]
    log.setLevel(before[1])


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory) -> Path:
    """Prepared data, shared by the runs of a session."""
    return tmp_path_factory.mktemp('data')


@pytest.fixture(scope='session')
def installed(tmp_path_factory) -> Installed:
    """The package as an installed wheel."""
    folder = tmp_path_factory.mktemp('installed')
    return Installed(ROOT, folder, {'JAX_PLATFORMS': 'cpu', **compiled()})


@pytest.fixture(scope='session')
def trained(tmp_path_factory, data_dir) -> Path:
    """A finished tiny run on a table of `write_table`; its workdir. Not to be written to."""
    folder = tmp_path_factory.mktemp('trained')
    table = write_table(folder / 'train.csv', 2000)
    run(*table_flags(table), f'--workdir={folder / "run"}', f'--data_dir={data_dir}')
    return folder / 'run'
