"""Several processes on one machine, over loopback: real processes, most of them of the real command."""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from dlf_jax.errors import UserError
from dlf_jax.training import multihost
from tests.conftest import ROOT, command, finish, run
from tests.processes import wait_for_line, wait_until
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
    address = free_address()
    return [
        command(
            *FLAGS, *more, f'--workdir={workdir}', f'--data_dir={data_dir}',
            f'--config.distributed.coordinator={address}', f'--config.distributed.processes={processes}',
            f'--config.distributed.process={i}', env=forced(devices),
        )
        for i in range(processes)
    ]  # fmt: skip


def free_address():
    with socket.socket() as free:
        free.bind(('localhost', 0))
        return f'localhost:{free.getsockname()[1]}'


def has_taken_steps(workdir):
    return lambda: bool(last_line(workdir)) and last_line(workdir)['step'] > 20


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
        pytest.param(2, 2, ('--config.baselines=True',), marks=pytest.mark.slow),
        pytest.param(2, 2, ('--config.parallel=pmap',), marks=pytest.mark.slow),
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
    for baseline in result.get('baselines', {}).values():
        assert baseline['test']['rows'] == 300


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
    wait_until(has_taken_steps(tmp_path), *started)
    started[victim].send_signal(signal.SIGKILL)
    moment = time.monotonic()
    other = finish(started[1 - victim])
    assert time.monotonic() - moment < 60
    finish(started[victim])
    assert other.returncode
    if victim:
        (error,) = [line for line in other.stderr.splitlines() if line.startswith('error: ')]
        # By the watch, or by the collective operation that fails, whichever is first.
        lost = 'process 1 has given no sign of life', 'another process is gone or cannot be reached'
        assert any(f'process 0 of 2: {words}' in error for words in lost), error
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


@pytest.mark.slow
def test_sigterm_to_one_process_while_all_compile(tmp_path, data_dir):
    """They wait neither for the compiler nor for each other."""
    more = ('--config.model.name=dlf', '--config.model.layers=12', '--config.model.attention_layers=4')
    started = start(2, 1, tmp_path, data_dir, *more)
    for process in started:
        # Listening by then.
        wait_for_line('parameters in tables', process)
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


@pytest.mark.slow
def test_sigterm_to_one_process_saves_in_all(alone, tmp_path, data_dir):
    started = start(2, 2, tmp_path, data_dir)
    wait_until(has_taken_steps(tmp_path), *started)
    started[1].send_signal(signal.SIGTERM)
    done = [finish(process) for process in started]
    assert [one.returncode for one in done] == [143, 143], [one.stderr for one in done]
    assert all('SIGTERM' in one.stderr for one in done)
    end(start(2, 2, tmp_path, data_dir))
    assert_same_course(course(tmp_path), alone[1])


# A process that uses the library, not the command: in a loop, a question whether to stop and a collective.
LIBRARY = """
import os, sys, time
import numpy as np
from dlf_jax import config as configs
from dlf_jax.training import multihost, runtime_errors
from dlf_jax.training.preemption import Preemption

config = configs.get_config('mlp')
config.distributed.coordinator, config.distributed.processes = sys.argv[1], 2
config.distributed.process, config.distributed.heartbeat_timeout = int(sys.argv[2]), int(sys.argv[3])
multihost.start(config, exit_on_loss=sys.argv[4] == 'exit')
stop = Preemption()
gathers = sys.argv[5] == 'gathers'
try:
    with runtime_errors.explained(config):
        calls = 0
        while not stop.due():
            if gathers:
                multihost.gather(np.ones(3, np.float32))
            calls += 1
            if calls == 3:
                print('looping', file=sys.stderr, flush=True)
            if os.path.exists(sys.argv[6]) and config.distributed.process == 1:
                multihost.leave('broken', 7)
                break
            time.sleep(0.05)
    print('left the loop', stop.reason, file=sys.stderr)
except multihost.LostProcess as error:
    print('raised:', error, file=sys.stderr)
sys.stderr.flush()
# JAX's own end waits for a process that is gone, and then aborts.
os._exit(0)
"""


def library(tmp_path, timeout, exits, gathers):
    """Two processes of LIBRARY that have begun their loops."""
    address, break_file = free_address(), tmp_path / 'break'
    how = 'exit' if exits else 'raise', 'gathers' if gathers else 'asks'
    started = [python(LIBRARY, address, process, timeout, *how, break_file) for process in range(2)]
    for process in started:
        wait_for_line('looping', process)
    return started, break_file


# A process that trains by the library.
TRAINING = """
import os, sys
from pathlib import Path
from dlf_jax import config as configs
from dlf_jax.data import builders
from dlf_jax.training import multihost, runtime_errors, trainer
from dlf_jax.workdir import Workdir

config = configs.get_config('mlp')
config.update_from_flattened_dict({
    'dataset.rows': 3000, 'dataset.block_rows': 32, 'model.hidden': (8,), 'model.embedding_size': 4,
    'training.batch_size': 64, 'training.epochs': 1000, 'training.log_every': 1, 'plateau.patience': 0,
    'training.checkpoint_every': 2, 'distributed.coordinator': sys.argv[1], 'distributed.processes': 2,
    'distributed.process': int(sys.argv[2]), 'distributed.heartbeat_timeout': 60,
})
multihost.start(config)
builder, workdir = builders.build(config.dataset, sys.argv[3]), Workdir(sys.argv[4])
try:
    with runtime_errors.explained(config):
        builder.prepare()
        multihost.run_on_first(workdir.create)
        trainer.train(config, builder, workdir)
except multihost.LostProcess as error:
    print('raised:', error, file=sys.stderr, flush=True)
    os._exit(0)
"""


def python(script, *arguments):
    return subprocess.Popen(
        [sys.executable, '-c', script, *map(str, arguments)], cwd=ROOT,
        env={**os.environ, 'JAX_PLATFORMS': 'cpu'}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def killed(*processes):
    for process in processes:
        process.kill()
        process.communicate(timeout=30)


def test_a_frozen_first_process_is_left_after_the_timeout(tmp_path):
    """Calls of its store block then; JAX itself would abort after 2 * 3 + 10 seconds."""
    (first, other), _ = library(tmp_path, 3, exits=True, gathers=False)
    first.send_signal(signal.SIGSTOP)
    moment = time.monotonic()
    done = finish(other)
    assert 2 < time.monotonic() - moment < 14
    assert done.returncode == 1
    (error,) = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert 'process 1 of 2: process 0 has not been reached for 3 seconds' in error
    killed(first)


@pytest.mark.slow
def test_a_first_process_that_is_frozen_for_less_is_not_left(tmp_path):
    started, break_file = library(tmp_path, 20, exits=True, gathers=False)
    started[0].send_signal(signal.SIGSTOP)
    time.sleep(7)
    assert started[1].poll() is None
    started[0].send_signal(signal.SIGCONT)
    # They still speak to each other.
    time.sleep(2)
    assert [process.poll() for process in started] == [None, None]
    break_file.touch()
    done = finish(started[0])
    assert done.returncode == 7
    assert 'process 1 stopped: broken' in done.stderr
    killed(started[1])


def test_a_library_gets_an_exception_for_a_process_that_is_gone(tmp_path):
    (first, other), _ = library(tmp_path, 3, exits=False, gathers=False)
    killed(other)
    done = finish(first)
    assert done.returncode == 0
    assert 'raised: process 0 of 2: process 1 has given no sign of life for 3 seconds' in done.stderr
    assert 'error: ' not in done.stderr


def test_a_library_gets_an_exception_for_a_collective_that_fails(tmp_path):
    """At once, from the connection that is closed."""
    (first, other), _ = library(tmp_path, 60, exits=False, gathers=True)
    killed(other)
    moment = time.monotonic()
    done = finish(first)
    assert time.monotonic() - moment < 30
    assert done.returncode == 0
    assert 'raised: process 0 of 2: another process is gone or cannot be reached' in done.stderr
    assert 'peer' in done.stderr


@pytest.mark.slow
def test_training_by_the_library_raises_for_a_process_that_is_gone(tmp_path, data_dir):
    """At once: it does not wait for the checkpoint that the lost process was to write its part of."""
    address, workdir = free_address(), tmp_path / 'run'
    first, other = [python(TRAINING, address, process, data_dir, workdir) for process in range(2)]
    wait_until(has_taken_steps(workdir), first, other)
    killed(other)
    moment = time.monotonic()
    done = finish(first)
    assert time.monotonic() - moment < 30
    assert done.returncode == 0, done.stderr
    assert 'raised: process 0 of 2: another process is gone or cannot be reached' in done.stderr


def test_a_library_gets_an_exception_for_a_process_that_failed(tmp_path):
    (first, other), break_file = library(tmp_path, 60, exits=False, gathers=False)
    break_file.touch()
    done = [finish(process) for process in (first, other)]
    assert [one.returncode for one in done] == [0, 0]
    assert 'raised: process 0 of 2: process 1 stopped: broken' in done[0].stderr
    assert 'left the loop' in done[1].stderr


def test_a_jax_that_keeps_its_store_elsewhere_is_told(monkeypatch):
    with pytest.raises(UserError, match='share no coordination service'):
        multihost.store_set('key', 'value')
    module = importlib.import_module('jax._src.distributed')
    monkeypatch.setattr(module.global_state, 'client', object())
    with pytest.raises(UserError, match=rf'jax {jax.__version__}: .*has no key_value_set.*; install jax'):
        multihost.store_set('key', 'value')
    monkeypatch.delattr(module, 'global_state')
    with pytest.raises(UserError, match=r'global_state.*; install jax'):
        multihost.store_set('key', 'value')


def test_alone_there_is_nothing_to_join_or_leave(monkeypatch):
    """One process never looks for JAX's private store."""
    # JAX itself looks there when it finds its devices.
    assert jax.process_count() == 1
    monkeypatch.delattr(importlib.import_module('jax._src.distributed'), 'global_state')
    multihost.raise_if_lost()
    multihost.leave()
    assert multihost.run_on_first(lambda: 5) == 5
    assert multihost.gather(np.arange(3)).tolist() == [[0, 1, 2]]
