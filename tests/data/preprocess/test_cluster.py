"""A Dask cluster writes the same bytes as one machine; needs the extra `dask`."""

import contextlib
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from benchmarks import criteo_rows
from dlf_jax.data.preprocess import task
from dlf_jax.data.preprocess.cluster import prepare, workers
from dlf_jax.data.readers import parquet_table, text_blocks
from dlf_jax.errors import UsageError, UserError
from tests.conftest import ROOT, shared_file
from tests.data.preprocess.files import prepared
from tests.data.preprocess.test_local import SCHEMA, own_frame

distributed = pytest.importorskip('distributed', reason='needs the extra dask')


@pytest.fixture(scope='module')
def address():
    """Workers that are threads of this process, so that they see what a test changes."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(task, 'SHARD_BYTES', 40_000)
    monkeypatch.setattr(text_blocks, 'CHUNK_BYTES', 20_000)
    monkeypatch.setattr(parquet_table, 'CHUNK_ROWS', 300)
    monkeypatch.setattr(prepare, 'GROUP_ROWS', 700)
    monkeypatch.setattr(prepare, '_JOINED_VALUES', 100)
    monkeypatch.setattr(prepare, '_JOINED_SAMPLES', 2)


def on_cluster(folder, address, **keys):
    flags = (f'--address={address}',)
    return prepared(folder, beam_runner='dask', beam_options=flags, **keys)


@pytest.mark.parametrize(
    ('kind', 'split'),
    [
        ('csv.gz', 'time'),
        ('parquet', 'random'),
        pytest.param('csv', 'chronological', marks=pytest.mark.slow),
        pytest.param('parquet', 'time', marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_field(tmp_path, small_pieces, address, kind, split):
    frame, paths = own_frame(), []
    for i in range(2):
        path = tmp_path / f'own{i}.{kind}'
        part = frame[i * 1500 : (i + 1) * 1500]
        if kind == 'parquet':
            part.write_parquet(path, row_group_size=700)
        else:
            text = part.write_csv().encode()
            path.write_bytes(gzip.compress(text) if kind == 'csv.gz' else text)
        paths.append(str(path))
    (tmp_path / 's.toml').write_text(SCHEMA)
    keys = {
        'name': 'table', 'train': ','.join(paths), 'schema': str(tmp_path / 's.toml'), 'split': split,
        'time': 'at' if split == 'time' else '',
    }  # fmt: skip
    alone = prepared(tmp_path / 'alone', **keys)
    assert len(alone) > 8
    assert on_cluster(tmp_path / 'cluster', address, **keys) == alone


@pytest.mark.parametrize(
    ('name', 'train', 'keys'),
    [
        ('criteo', 'criteo/train_head.txt', {'treatment': 'piecewise', 'min_count': 2}),
        pytest.param('frappe', 'frappe/train.csv', {'valid': 'frappe/valid.csv'}, marks=pytest.mark.slow),
        pytest.param('avazu', 'avazu/train_head.csv', {'hour': 'parts'}, marks=pytest.mark.slow),
        pytest.param('movielens', 'movielens/rows.csv', {'split': 'random'}, marks=pytest.mark.slow),
    ],
)
def test_real_rows(tmp_path, small_pieces, monkeypatch, address, name, train, keys):
    monkeypatch.setattr(text_blocks, 'CHUNK_BYTES', 200_000)
    monkeypatch.setattr(task, 'SHARD_BYTES', 400_000)
    monkeypatch.setattr(prepare, '_JOINED_VALUES', 10_000)
    monkeypatch.setattr(prepare, 'GROUP_ROWS', 30_000 if name == 'frappe' else 4000)
    keys = {k: str(shared_file(v)) if k == 'valid' else v for k, v in keys.items()}
    keys = {'name': name, 'train': str(shared_file(train)), **keys}
    assert on_cluster(tmp_path / 'cluster', address, **keys) == prepared(tmp_path / 'alone', **keys)


def table(folder, values):
    """A table of the column x, whose rows lie in many pieces."""
    path = folder / 't.csv'
    path.write_text('y,x\n' + ''.join(f'{label},{x}\n' for label, x in values))
    return {'name': 'table', 'train': str(path), 'label': 'y', 'numeric': ('x',)}


def test_the_error_is_that_of_one_machine(tmp_path, small_pieces, monkeypatch, address):
    """The first bad row in file order, in whichever order workers come upon them."""
    monkeypatch.setattr(text_blocks, 'CHUNK_BYTES', 100)
    monkeypatch.setattr(prepare, 'GROUP_ROWS', 20)
    good = [(i % 2, i) for i in range(1000)]
    bad_number = [(label, 'many' if i > 300 else i) for label, i in good]
    signs = [(label if i < 500 else (label or -1), i) for label, i in good]
    beyond = [(label, 1e39 if i == 700 else 0) for label, i in good]
    for values, keys in ((bad_number, {}), (signs, {}), (beyond, {'treatment': 'none'})):
        keys = {**table(tmp_path, values), **keys}
        told = []
        for where in ('alone', 'cluster'):
            more = {'beam_runner': 'dask', 'beam_options': (f'--address={address}',)}
            with pytest.raises(UserError, match=r't\.csv, line \d+: ') as error:
                prepared(tmp_path / where, **keys, **(more if where == 'cluster' else {}))
            told.append(str(error.value))
            assert not list((tmp_path / where).glob('table/*/1.0.0'))
            assert not list((tmp_path / where).rglob('incomplete*'))
        assert told[0] == told[1]


def test_what_is_wrong_with_the_cluster_is_said(tmp_path, monkeypatch, address):
    keys = {**table(tmp_path, [(i % 2, i) for i in range(30)]), 'beam_runner': 'dask'}
    for flags, found in (
        ((f'--adress={address}',), "unknown flag '--adress=.*did you mean 'address'"),
        (('--workers=0',), '--workers=0: expected a number of processes'),
        (('--memory=4',), '--memory=4: expected bytes with a unit'),
        (('--workers',), 'expected --workers=VALUE'),
        (('--address=tcp://127.0.0.1:1', '--workers=2'), '--workers and --memory are for a cluster on this'),
    ):
        with pytest.raises(UsageError, match=found):
            prepared(tmp_path / 'd', beam_options=flags, **keys)
    with pytest.raises(UserError, match=r'no Dask scheduler answers at tcp://127.0.0.1:1 within 0.3 seconds'):
        prepared(tmp_path / 'd', beam_options=('--address=tcp://127.0.0.1:1', '--timeout=0.3'), **keys)
    monkeypatch.setattr(workers, '_unreadable', unreadable)
    with pytest.raises(UserError, match=r'worker .*there: t.csv: cannot be opened.*same paths'):
        prepared(tmp_path / 'd', beam_options=(f'--address={address}',), **keys)
    assert not list((tmp_path / 'd').rglob('incomplete*'))


def unreadable(work, marker):
    return 'there', 't.csv: cannot be opened: No such file or directory'


def test_dask_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'distributed', None)
    with pytest.raises(UserError, match=r"beam_runner='dask': needs Dask: pip install 'dlf_jax\[dask\]'"):
        prepared(tmp_path, name='synthetic', rows=100, beam_runner='dask')


OWN = """
import dataclasses
from dlf_jax.data.builders.own_table import OwnTable
from dlf_jax.data.readers.base import WrappedTable

class Doubled(WrappedTable):
    def _made(self, chunk, columns):
        return dataclasses.replace(chunk, frame=chunk.frame.with_columns(x=2 * chunk.frame['x']))

class Own(OwnTable):
    @classmethod
    def open_files(cls, config, paths):
        return Doubled(super().open_files(config, paths))
"""


def test_tables_of_own_files_travel(tmp_path, small_pieces, address):
    (tmp_path / 'own.py').write_text(OWN)
    keys = {**table(tmp_path, [(i % 2, i) for i in range(300)]), 'name': f'{tmp_path}/own.py:Own'}
    assert on_cluster(tmp_path / 'cluster', address, **keys) == prepared(tmp_path / 'alone', **keys)


@pytest.fixture(scope='module')
def rows_file(tmp_path_factory):
    return criteo_rows.write(tmp_path_factory.mktemp('rows') / 'train.txt', 120_000)


@pytest.fixture(scope='module')
def alone(rows_file, tmp_path_factory):
    """Sums of what one process makes of the rows."""
    data_dir = tmp_path_factory.mktemp('alone')
    assert command(rows_file, data_dir, runner='').wait(240) == 0
    return sums(data_dir)


def command(rows_file, data_dir, *flags, runner='dask'):
    return subprocess.Popen(
        [
            sys.executable, '-m', 'dlf_jax.main', '--config=configs/criteo.py', '--mode=prepare',
            f'--config.dataset.train={rows_file}', '--config.dataset.allow_modified=True',
            '--config.dataset.block_rows=512', '--config.dataset.min_count=2', f'--data_dir={data_dir}',
            f'--config.dataset.beam_runner={runner}', f'--config.dataset.beam_options={flags!r}',
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    )  # fmt: skip


def descendants(pid):
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def alive(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        # One that nobody has waited for has ended all the same.
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def workers_of(pid):
    """Processes that do the work: children of the commands that were started for them."""
    return [
        worker.pid
        for started in psutil.Process(pid).children()
        for worker in started.children(recursive=True)
        if 'spawn_main' in ' '.join(worker.cmdline())
    ]


def sums(data_dir):
    (root,) = data_dir.glob('criteo/*/1.0.0')
    files = [path for path in root.rglob('*') if path.is_file() and path.name != 'out_of_vocabulary.json']
    return {str(p.relative_to(root)): hashlib.md5(p.read_bytes()).hexdigest() for p in files}


def wait_for(process, data_dir, what):
    until = time.monotonic() + 120
    while not list(data_dir.glob(f'criteo/*/incomplete.staging/{what}')):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize('when', ['staged-*', 'measured-*', 'shard-*'])
def test_a_worker_is_killed(tmp_path, rows_file, alone, when):
    process = command(rows_file, tmp_path / 'cluster', '--workers=2')
    wait_for(process, tmp_path / 'cluster', when)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert sums(tmp_path / 'cluster') == alone
    assert 'Traceback' not in told
    assert 'distributed' not in told


@pytest.mark.slow
def test_the_command_is_killed(tmp_path, rows_file, alone):
    """Nothing looks finished, the workers end, and the same command prepares the same bytes."""
    data_dir = tmp_path / 'cluster'
    process = command(rows_file, data_dir, '--workers=2')
    wait_for(process, data_dir, 'shard-*')
    left = descendants(process.pid)
    process.kill()
    process.communicate(timeout=60)
    assert not list(data_dir.glob('criteo/*/1.0.0'))
    until = time.monotonic() + 60
    while any(alive(pid) for pid in left):
        assert time.monotonic() < until
        time.sleep(0.1)
    again = command(rows_file, data_dir, '--workers=1')
    _, told = again.communicate(timeout=240)
    assert again.returncode == 0, told
    assert sums(data_dir) == alone


@pytest.mark.slow
def test_a_worker_with_too_little_memory(tmp_path, rows_file):
    process = command(rows_file, tmp_path, '--workers=1', '--memory=150MB')
    _, told = process.communicate(timeout=240)
    assert process.returncode == 1
    assert told.splitlines()[-1].startswith('error: '), told
    assert 'more memory than they have' in told or 'too little memory' in told, told


@pytest.mark.slow
@pytest.mark.parametrize(
    ('package', 'told'),
    [
        ("raise ImportError('none here')", 'worker .*none here'),
        ("__version__ = '0.0.1'", 'worker .*'),
    ],
)
def test_workers_of_another_version(tmp_path, package, told):
    """A worker that finds another package of this name, as on a machine where nothing was installed."""
    (tmp_path / 'dlf_jax').mkdir()
    (tmp_path / 'dlf_jax' / '__init__.py').write_text(package)
    found = tmp_path / 'scheduler.json'
    dask = [sys.executable, '-m', 'dask']
    quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
    scheduler = subprocess.Popen(
        [*dask, 'scheduler', f'--scheduler-file={found}', '--port=0', '--no-dashboard', '--host=127.0.0.1'],
        **quiet,
    )  # fmt: skip
    worker = subprocess.Popen(
        [*dask, 'worker', f'--scheduler-file={found}', '--nworkers=1', '--nthreads=1', '--no-dashboard'],
        cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(tmp_path)}, **quiet,
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not found.exists():
            assert time.monotonic() < until
            time.sleep(0.1)
        address = json.loads(found.read_text())['address']
        keys = table(tmp_path, [(i % 2, i) for i in range(30)])
        with pytest.raises(UserError, match=told) as error:
            on_cluster(tmp_path / 'd', address, **keys)
        assert 'install the same on all machines' in str(error.value)
    finally:
        for process in (worker, scheduler):
            process.terminate()
            process.wait(30)
