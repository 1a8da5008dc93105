"""SIGTERM, damaged checkpoints and many kills: nothing is lost, and the end is that of an undisturbed run."""

import random
import signal
import time

import pytest

from tests.conftest import TINY, command, finish, run
from tests.processes import deadline, wait_for_line
from tests.test_resume import BUSY, assert_same, last_line, undisturbed, wait_for_lines  # noqa: F401


def steps_kept(workdir):
    return sorted(int(path.name) for path in (workdir / 'checkpoints').iterdir() if path.name.isdigit())


@pytest.mark.slow
def test_sigterm_saves_the_step_that_was_taken(undisturbed, tmp_path, data_dir):  # noqa: F811
    workdir = tmp_path / 'run'
    for lines in (7, 14):
        process = command(*BUSY, f'--workdir={workdir}', f'--data_dir={data_dir}')
        with deadline(process):
            wait_for_lines(workdir, lines, process)
        process.send_signal(signal.SIGTERM)
        done = finish(process)
        assert done.returncode == 143, done.stderr
        (error,) = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
        assert 'the same command goes on' in error
        assert steps_kept(workdir)[-1] == last_line(workdir)['step']
    run(*BUSY, f'--workdir={workdir}', f'--data_dir={data_dir}')
    assert_same(workdir, undisturbed)


@pytest.mark.parametrize('seconds', [pytest.param(0.5, marks=pytest.mark.slow), 1.0])
def test_sigterm_while_compiling(seconds, undisturbed, tmp_path, data_dir):  # noqa: F811
    """The handler in Python waits for the compiler; the process does not."""
    workdir = tmp_path / 'run'
    slow = ('--config.model.name=dlf', '--config.model.layers=6')
    flags = [flag for flag in BUSY if not flag.startswith('--config.model.')]
    process = command(*flags, *slow, f'--workdir={workdir}', f'--data_dir={data_dir}')
    wait_for_line('parameters in tables', process)
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    moment = time.monotonic()
    assert finish(process).returncode == 143
    assert time.monotonic() - moment < 10


@pytest.mark.slow
def test_sigterm_while_the_test_part_is_scored(tmp_path, data_dir):
    flags = (
        *TINY, '--config.dataset.rows=60000', '--config.dataset.fractions=(1.,1.,58.)',
        '--config.dataset.split=chronological', '--config.predict.batch_size=16',
        f'--data_dir={data_dir}',
    )  # fmt: skip
    expected = run(*flags, f'--workdir={tmp_path / "undisturbed"}')
    workdir = tmp_path / 'run'
    process = command(*flags, f'--workdir={workdir}')
    wait_for_line('scoring the test part', process)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    moment = time.monotonic()
    done = finish(process)
    assert done.returncode == 143, done.stderr
    assert time.monotonic() - moment < 10
    assert not (workdir / 'result.json').exists()
    result = run(*flags, f'--workdir={workdir}')
    assert result['test'] == expected['test']
    assert result['test']['rows'] == 58000


def test_a_damaged_checkpoint_is_set_aside(undisturbed, tmp_path, data_dir):  # noqa: F811
    workdir = tmp_path / 'run'
    process = command(*BUSY, f'--workdir={workdir}', f'--data_dir={data_dir}')
    with deadline(process):
        wait_for_lines(workdir, 16, process)
    process.send_signal(signal.SIGTERM)
    assert finish(process).returncode == 143
    before, newest = steps_kept(workdir)[-2:]
    for path in (workdir / 'checkpoints' / str(newest) / 'state').rglob('*'):
        if path.is_file() and path.stat().st_size > 200:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    process = command(*BUSY, f'--workdir={workdir}', f'--data_dir={data_dir}')
    done = finish(process)
    assert done.returncode == 0, done.stderr
    assert f'checkpoints/{newest}: this checkpoint cannot be restored' in done.stderr
    assert f'going on from step {before} ' in done.stderr
    assert (workdir / 'damaged' / str(newest)).is_dir()
    assert_same(workdir, undisturbed)


@pytest.mark.slow
def test_a_hundred_kills(undisturbed, tmp_path, data_dir):  # noqa: F811
    """At random moments, most of them in the middle of steps, evaluations and saves."""
    workdir, draw, kills = tmp_path / 'run', random.Random(1), 0
    while kills < 100:
        process = command(*BUSY, f'--workdir={workdir}', f'--data_dir={data_dir}')
        with deadline(process):
            wait_for_lines(workdir, 1, process)
            if draw.random() < 0.3:
                time.sleep(draw.uniform(0, 4))
            else:
                start = last_line(workdir)
                while process.poll() is None and last_line(workdir) == start:
                    time.sleep(0.002)
                time.sleep(draw.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        finished = finish(process).returncode == 0
        kills += not finished
        if finished:
            # The end came too soon: from the beginning, the kills so far counted.
            assert_same(workdir, undisturbed)
            workdir = tmp_path / f'run-{kills}'
    run(*BUSY, f'--workdir={workdir}', f'--data_dir={data_dir}')
    assert_same(workdir, undisturbed)
