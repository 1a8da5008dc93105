"""The walk over days: what it writes, what it does again, what a kill leaves."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import polars as pl
import pytest

import dlf_jax
from dlf_jax import api, daily
from dlf_jax.days import walk
from dlf_jax.errors import UsageError, UserError
from dlf_jax.workdir import Workdir
from tests.conftest import ROOT, compiled, finish, write_table
from tests.test_resume import checkpoint, course

pytestmark = pytest.mark.usefixtures('compiled_once')
# The model that compiles fastest.
FLAGS = (
    '--config.model.name=lr', '--config.dataset.block_rows=256', '--config.training.batch_size=128',
    '--config.training.checkpoint_every=2', '--config.training.log_every=1', '--dataset=table',
    '--config.dataset.label=click', "--config.dataset.categorical=('user','ad')",
    "--config.dataset.numeric=('price',)", '--config.dataset.forget_after=2',
    '--config.calibration.method=temperature',
)  # fmt: skip


def write_day(folder, day, rows=700):
    """A day whose users are others than those of two days before."""
    path = folder / f'day{day}'
    path.mkdir(parents=True)
    table = pl.read_csv(write_table(path / 'rows.csv', rows, seed=day))
    shifted = pl.col('user').str.slice(1).cast(pl.Int64) + 8 * day
    table.with_columns(user='u' + shifted.cast(pl.String)).write_csv(path / 'rows.csv')


def walked(logs, root, data, *more):
    """Walks in this process."""
    arguments = ['daily', *FLAGS, f'--days={logs}/day*/', f'--workdir={root}', f'--data_dir={data}', *more]
    config, given, options = daily.parse(arguments)
    return walk.walk(config, given, options)


@pytest.fixture(scope='module')
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('logs')
    for day in range(3):
        write_day(folder, day)
    return folder


@pytest.fixture(scope='module')
def root(logs, data_dir, tmp_path_factory):
    """Three days, walked without disturbance."""
    root = tmp_path_factory.mktemp('root')
    result = walked(logs, root, data_dir)
    assert (result['days'], result['trained']) == (3, ['day0', 'day1', 'day2'])
    return root


def lines(root):
    with open(root / 'daily.csv', newline='') as file:
        return list(csv.DictReader(file))


def test_table_and_latest(root, logs):
    first, second, third = lines(root)
    assert first['auc'] == ''
    assert int(first['rows']) == 630
    assert (int(second['new_values']), int(second['forgotten_values'])) == (8, 0)
    assert (int(third['new_values']), int(third['forgotten_values'])) == (8, 8)
    assert int(third['vocabulary']) == int(second['vocabulary']) == int(first['vocabulary']) + 8
    # The progressive metrics are those of the model of the day before, calibrated as prediction does.
    rows = pl.read_csv(logs / 'day2' / 'rows.csv').head(630)
    expected = dlf_jax.load(root / 'days' / 'day1').evaluate(rows)
    assert float(third['auc']) == pytest.approx(expected['auc'], abs=1e-6)
    assert float(third['logloss']) == pytest.approx(expected['logloss'], abs=1e-6)
    newest, latest = (dlf_jax.load(root / name).predict(rows) for name in ('days/day2', 'latest'))
    assert (newest == latest).all()


def test_finished_days_stay_and_new_ones_are_taken(root, logs, data_dir, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (root / 'days').rglob('*') if path.is_file()}
    assert walked(logs, root, data_dir)['trained'] == []
    assert before == {path: path.stat().st_mtime_ns for path in (root / 'days').rglob('*') if path.is_file()}
    with pytest.raises(
        UserError, match=r'day2 holds a run of another config .*learning_rate.*--from=.*latest'
    ):
        walked(logs, root, data_dir, '--config.optimizer.learning_rate=0.1')


def test_bad_day_is_named_and_late_day_is_left_out(root, logs, data_dir, tmp_path):
    """Days 1 and 3 of another chain, which begins with the model of day 0."""
    other, own = tmp_path / 'logs', tmp_path / 'root'
    for day in (1, 3):
        write_day(other, day)
    bad = (other / 'day3' / 'rows.csv').read_text()
    (other / 'day3' / 'rows.csv').write_text(bad.replace('click', 'clack'))
    start = f'--from={root / "days" / "day0"}'
    with pytest.raises(UserError, match=r"^day day3: .*no column 'click'"):
        walked(other, own, data_dir, start)
    assert [line['day'] for line in lines(own)] == ['day1']
    assert lines(own)[0]['auc'] == lines(root)[1]['auc']
    assert os.readlink(own / 'latest') == 'days/day1'
    (other / 'day3' / 'rows.csv').write_text(bad)
    write_day(other, 0)
    result = walked(other, own, data_dir, start, '--keep_days=1')
    assert (result['trained'], result['left_out']) == (['day3'], ['day0'])
    assert not (own / 'days' / 'day1' / 'checkpoints').exists()
    assert walked(other, own, data_dir, start, '--keep_days=1')['trained'] == []
    # A day without checkpoints is a finished run all the same.
    day = own / 'days' / 'day1'
    config = Workdir(day).config()
    assert dlf_jax.train(config, day, data_dir) == Workdir(day).result()
    for key, value, error in (
        ('optimizer.learning_rate', 0.5, 'another config'),
        ('training.epochs', 2, r'its checkpoints were removed \(--keep_days\)'),
    ):
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict({key: value})
        with pytest.raises(UserError, match=error):
            dlf_jax.train(changed, day, data_dir)


@pytest.mark.parametrize(
    ('error', 'flags'),
    [
        ('--days: GLOB', ('--days=',)),
        ('--workdir: ROOT', ('--workdir=',)),
        ('config.dataset.valid: not with --days', ('--config.dataset.valid=x.csv',)),
        ('config.seeds=2', ('--config.seeds=2',)),
        ('no such key', ('--config.training.epoch=2',)),
        ('one process', ('--config.distributed.coordinator=auto',)),
    ],
)
def test_what_cannot_be(logs, tmp_path, error, flags):
    with pytest.raises(UsageError, match=error):
        walked(logs, tmp_path / 'root', tmp_path / 'data', *flags)
    assert not (tmp_path / 'root').exists()


def test_names_of_days(tmp_path):
    for name in ('dt=2026-11-02', 'dt=2026-11-01'):
        (tmp_path / name).mkdir()
    (tmp_path / 'dt=2026-11-03.csv.gz').touch()
    assert list(walk.find(f'{tmp_path}/dt=*')) == ['dt=2026-11-01', 'dt=2026-11-02', 'dt=2026-11-03']
    for day in (1, 2):
        (tmp_path / f'clicks.2026-11-0{day}.csv').touch()
    assert list(walk.find(f'{tmp_path}/cl*')) == ['clicks.2026-11-01', 'clicks.2026-11-02']
    (tmp_path / 'dt=2026-11-03.csv').touch()
    with pytest.raises(UserError, match="both called 'dt=2026-11-03'"):
        walk.find(f'{tmp_path}/dt=*')


def test_kill_between_the_training_and_the_calibrator(root, data_dir, tmp_path, monkeypatch):
    """Two days of which the last has a single class in its validation part, and so a monitor of its own."""
    files, own = tmp_path / 'logs', tmp_path / 'root'
    for day in (0, 1):
        write_day(files, day)
    rows = pl.read_csv(files / 'day1' / 'rows.csv').with_row_index()
    rows = rows.with_columns(click=pl.when(pl.col('index') < 630).then('click').otherwise(0)).drop('index')
    rows.write_csv(files / 'day1' / 'rows.csv')

    class Killed(Exception):
        pass

    def killed(*arguments):
        raise Killed

    monkeypatch.setattr(api.calibration, 'of_run', killed)
    with pytest.raises(Killed):
        walked(files, own, data_dir)
    monkeypatch.undo()
    assert not (own / 'latest').exists()
    with pytest.raises(UserError, match=r'^day day1: .*--config.training.monitor=logloss'):
        walked(files, own, data_dir)
    one, other = (json.loads((of / 'days' / 'day0' / 'calibration.json').read_text()) for of in (own, root))
    assert one == other
    assert 'calibration' in json.loads((own / 'days' / 'day0' / 'result.json').read_text())
    assert walked(files, own, data_dir, '--config.training.monitor=logloss')['trained'] == ['day1']
    assert lines(own)[1]['valid_auc'] == ''
    assert walked(files, own, data_dir)['trained'] == []
    # The name of a finished day is of that day alone, and the chain began once.
    (tmp_path / 'other' / 'day0').mkdir(parents=True)
    with pytest.raises(UserError, match=rf"'day0' was trained on {files}/day0, and .* has the same name"):
        walked(tmp_path / 'other', own, data_dir)
    with pytest.raises(UserError, match=r'--from=elsewhere: .* began from scratch'):
        walked(files, own, data_dir, '--from=elsewhere')


def command(logs, root, data):
    line = [sys.executable, '-m', 'dlf_jax.daily', *FLAGS, f'--days={logs}/day*/', f'--workdir={root}',
            f'--data_dir={data}']  # fmt: skip
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', **compiled()}
    return subprocess.Popen(
        line, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def entries(folder):
    """Number of files and folders that are there, while others come and go."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(folder))


def kill(draw, logs, root, data, longest):
    """Starts the command and kills it after some time; whether it was still at work."""
    process = command(logs, root, data)
    # Once it has made so many more files, which falls into every stage of a day.
    until, wanted = time.monotonic() + 60, entries(root) + draw.randint(1, longest)
    while process.poll() is None and time.monotonic() < until:
        if entries(root) >= wanted:
            break
        time.sleep(0.002)
    time.sleep(draw.uniform(0, 0.02))
    process.send_signal(signal.SIGKILL)
    return finish(process).returncode != 0


def assert_same(root, other):
    days = sorted(path.name for path in (other / 'days').iterdir())
    assert days == sorted(path.name for path in (root / 'days').iterdir())
    for day in days:
        one, two = root / 'days' / day, other / 'days' / day
        first, second = checkpoint(one), checkpoint(two)
        assert first.keys() == second.keys()
        pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
        assert course(one) == course(two)
        assert (one / 'encoder' / 'encoder.json').read_bytes() == (
            two / 'encoder' / 'encoder.json'
        ).read_bytes()
    without = [[{**line, 'seconds': ''} for line in lines(of)] for of in (root, other)]
    assert without[0] == without[1]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_many_kills(root, logs, tmp_path):
    draw, killed, rounds = random.Random(2), 0, 0
    while killed < int(os.environ.get('KILLS', '30')):
        own, data = tmp_path / f'root{rounds}', tmp_path / f'data{rounds}'
        for _ in range(8):
            killed += kill(draw, logs, own, data, 30)
        done = finish(command(logs, own, data))
        assert done.returncode == 0, done.stderr
        assert_same(own, root)
        rounds += 1
        print(f'{killed} kills in {rounds} walks, all with the same bits', flush=True)
