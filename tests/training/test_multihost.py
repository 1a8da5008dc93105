"""Several processes on one machine, over loopback: real processes of the real command."""

import json
import signal
import socket
import time

import numpy as np
import pytest

from tests.conftest import command, finish, run
from tests.test_resume import course, last_line

# A tail of every part; checkpoints every few steps, and evaluations inside and at the end of an epoch.
FLAGS = (
    '--dataset=synthetic', '--config.dataset.rows=3000', '--config.dataset.block_rows=32',
    '--config.model.name=mlp', '--config.model.hidden=(8,)', '--config.model.embedding_size=4',
    '--config.model.dropout=0.2', '--config.training.batch_size=64', '--config.training.epochs=3',
    '--config.training.log_every=1', '--config.training.checkpoint_every=4',
    '--config.training.evaluate_every=15', '--config.plateau.patience=0',
    '--config.distributed.heartbeat_timeout=15',
    # Steps follow the gradients' sizes, not the signs of their rounding.
    '--config.optimizer.eps=0.1', '--config.optimizer.learning_rate=0.1', '--config.embedding.std=0.3',
)  # fmt: skip


def start(processes, devices, workdir, data_dir, *more):
    """The command in so many processes of so many devices, with more flags."""
    with socket.socket() as free:
        free.bind(('localhost', 0))
        address = f'localhost:{free.getsockname()[1]}'
    return [
        command(
            *FLAGS, *more, f'--workdir={workdir}', f'--data_dir={data_dir}',
            f'--config.distributed.coordinator={address}', f'--config.distributed.processes={processes}',
            f'--config.distributed.process={i}', env=forced(devices),
        )
        for i in range(processes)
    ]  # fmt: skip


def forced(devices):
    return {'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'}


def end(started):
    done = [finish(process) for process in started]
    assert [one.returncode for one in done] == [0] * len(done), '\n'.join(one.stderr for one in done)
    return json.loads(done[0].stdout.splitlines()[-1])


def assert_same_course(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert (one['kind'], one['step']) == (other['kind'], other['step'])
        for key in set(one) - {'kind'}:
            np.testing.assert_allclose(one[key], other[key], rtol=2e-3, atol=2e-5, err_msg=f'{key} of {one}')


@pytest.fixture(scope='module')
def alone(tmp_path_factory, data_dir):
    """One process with four devices."""
    workdir = tmp_path_factory.mktemp('alone')
    result = run(*FLAGS, f'--workdir={workdir}', f'--data_dir={data_dir}', env=forced(4))
    return result, course(workdir)


@pytest.mark.parametrize(
    ('processes', 'devices', 'more'),
    [
        (2, 2, ()),
        (2, 2, ('--config.parallel=pmap',)),
        pytest.param(4, 1, (), marks=pytest.mark.slow),
        pytest.param(4, 1, ('--config.parallel=pmap',), marks=pytest.mark.slow),
    ],
)
def test_processes_are_one(processes, devices, more, alone, tmp_path, data_dir):
    """The same losses, and evaluations of every row of parts that the processes cannot share evenly."""
    result = end(start(processes, devices, tmp_path, data_dir, *more))
    assert_same_course(course(tmp_path), alone[1])
    assert result['valid']['rows'] == 600
    assert result['test']['rows'] == 300
    assert result['best_step'] == alone[0]['best_step']
    for part in ('valid', 'test'):
        assert result[part]['auc'] == pytest.approx(alone[0][part]['auc'], abs=1e-3)
        assert result[part]['logloss'] == pytest.approx(alone[0][part]['logloss'], abs=1e-4)


@pytest.mark.slow
def test_seeds_together_in_two_processes_under_pmap(tmp_path, data_dir):
    more = ('--config.seeds=2', '--config.training.epochs=1')
    one, two = tmp_path / 'one', tmp_path / 'two'
    run(*FLAGS, *more, f'--workdir={one}', f'--data_dir={data_dir}', env=forced(4))
    end(start(2, 2, two, data_dir, *more, '--config.parallel=pmap'))
    assert_same_course(course(two), course(one))


@pytest.mark.parametrize('victim', [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_process_stops_the_others_and_fewer_go_on(victim, alone, tmp_path, data_dir):
    started = start(2, 2, tmp_path, data_dir)
    while not (last_line(tmp_path) and last_line(tmp_path)['step'] > 20):
        assert all(process.poll() is None for process in started), [p.communicate() for p in started]
        time.sleep(0.02)
    started[victim].send_signal(signal.SIGKILL)
    moment = time.monotonic()
    other = finish(started[1 - victim])
    assert time.monotonic() - moment < 60
    finish(started[victim])
    assert other.returncode
    if victim:
        (error,) = [line for line in other.stderr.splitlines() if line.startswith('error: ')]
        assert 'process 0 of 2: process 1 has given no sign of life' in error
        assert 'latest checkpoint' in error
    else:
        # JAX's own message, where it is faster than our watch.
        assert 'another task died' in other.stderr or 'process 1 of 2' in other.stderr
    # On one process with another number of devices: no row is lost, none comes twice.
    result = run(*FLAGS, f'--workdir={tmp_path}', f'--data_dir={data_dir}', env=forced(2))
    assert_same_course(course(tmp_path), alone[1])
    assert result['steps'] == alone[0]['steps']


def test_an_error_of_one_process_is_told_by_all(tmp_path, data_dir):
    (tmp_path / 'checkpoints').write_text('not a folder')
    started = start(2, 1, tmp_path, data_dir)
    done = [finish(process) for process in started]
    for one in done:
        assert one.returncode == 1, one.stderr
        assert any(line.startswith('error: ') for line in one.stderr.splitlines()), one.stderr
        assert 'Traceback' not in one.stderr


def test_sigterm_to_one_process_while_all_compile(tmp_path, data_dir):
    """They wait neither for the compiler nor for each other."""
    more = ('--config.model.name=dlf', '--config.model.layers=12', '--config.model.attention_layers=4')
    started = start(2, 1, tmp_path, data_dir, *more)
    for process in started:
        # Listening by then.
        assert any('parameters in tables' in line for line in process.stderr)
    time.sleep(1)
    started[1].send_signal(signal.SIGTERM)
    moment = time.monotonic()
    done = [finish(process) for process in started]
    assert time.monotonic() - moment < 10
    assert [one.returncode for one in done] == [143, 143], done
    assert 'error: stopped by SIGTERM' in done[1].stderr
    assert 'process 1 stopped: SIGTERM' in done[0].stderr
    assert not any('training compiled' in one.stderr for one in done)
    assert last_line(tmp_path) is None


def test_sigterm_to_one_process_saves_in_all(alone, tmp_path, data_dir):
    started = start(2, 2, tmp_path, data_dir)
    while not (last_line(tmp_path) and last_line(tmp_path)['step'] > 20):
        assert all(process.poll() is None for process in started), [p.communicate() for p in started]
        time.sleep(0.02)
    started[1].send_signal(signal.SIGTERM)
    done = [finish(process) for process in started]
    assert [one.returncode for one in done] == [143, 143], [one.stderr for one in done]
    assert all('SIGTERM' in one.stderr for one in done)
    end(start(2, 2, tmp_path, data_dir))
    assert_same_course(course(tmp_path), alone[1])
