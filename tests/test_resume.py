"""Killed at any moment and run again, a run ends with the same bits."""

import json
import random
import signal
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.conftest import TINY, command, finish, run

# Evaluations and checkpoints every few steps, so that kills hit them as well as training.
BUSY = (
    *TINY, '--config.model.dropout=0.2', '--config.training.epochs=12',
    '--config.training.evaluate_every=5', '--config.training.checkpoint_every=3',
    '--config.training.log_every=1', '--config.plateau.patience=0', '--config.plateau.factor=0.5',
)  # fmt: skip


def checkpoint(workdir):
    """Every number of the latest checkpoint."""
    steps = [int(p.name) for p in (workdir / 'checkpoints').iterdir() if p.name.isdigit()]
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore((workdir / 'checkpoints' / str(max(steps)) / 'state').absolute())


def course(workdir):
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def last_line(workdir):
    """The last whole line of the course; None before the first."""
    path = workdir / 'metrics.jsonl'
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith('\n')]
    return json.loads(whole[-1]) if whole else None


def assert_same(workdir, other):
    first, second = checkpoint(workdir), checkpoint(other)
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
    assert course(workdir) == course(other)
    results = [json.loads((w / 'result.json').read_text()) for w in (workdir, other)]
    for key in ('steps', 'best_step', 'valid', 'test'):
        assert results[0][key] == results[1][key]


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory, data_dir):
    workdir = tmp_path_factory.mktemp('undisturbed') / 'run'
    run(*BUSY, f'--workdir={workdir}', f'--data_dir={data_dir}')
    return workdir


def wait_for_lines(workdir, count, process):
    path = workdir / 'metrics.jsonl'
    while process.poll() is None:
        if path.exists() and path.read_text().count('\n') >= count:
            return
        time.sleep(0.002)


def test_kill_9_at_random_moments(undisturbed, tmp_path, data_dir):
    workdir, draw = tmp_path / 'run', random.Random(0)
    kills = 0
    for _ in range(40):
        process = command(*BUSY, f'--workdir={workdir}', f'--data_dir={data_dir}')
        known = len(course(workdir)) if (workdir / 'metrics.jsonl').exists() else 0
        # Sometimes during start-up, mostly in the middle of steps, evaluations and saves.
        if draw.random() < 0.15:
            time.sleep(draw.uniform(0.2, 3.0))
        else:
            wait_for_lines(workdir, known + draw.randint(1, 16), process)
            time.sleep(draw.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        if finish(process).returncode == 0:
            break
        kills += 1
        if kills == 6:
            run(*BUSY, f'--workdir={workdir}', f'--data_dir={data_dir}')
            break
    assert kills >= 3
    assert_same(workdir, undisturbed)


@pytest.mark.slow
def test_kill_9_while_evaluating(undisturbed, tmp_path, data_dir):
    """Kills between the line of a step that evaluates and the line of its evaluation."""
    workdir = tmp_path / 'run'
    caught = 0
    for _ in range(30):
        process = command(*BUSY, f'--workdir={workdir}', f'--data_dir={data_dir}')
        start = last_line(workdir)
        while process.poll() is None:
            last = last_line(workdir)
            if last and last != start and last['kind'] == 'train' and last['step'] % 5 == 0:
                process.send_signal(signal.SIGKILL)
                break
        if finish(process).returncode == 0:
            break
        caught += last_line(workdir)['kind'] == 'train'
        if caught == 3:
            break
    assert caught == 3
    run(*BUSY, f'--workdir={workdir}', f'--data_dir={data_dir}')
    assert_same(workdir, undisturbed)


@pytest.mark.slow
def test_kill_9_while_saving(undisturbed, tmp_path, data_dir):
    """Kills when a checkpoint's temporary folder is there, so in the middle of a save."""
    workdir = tmp_path / 'run'
    caught = 0
    for _ in range(30):
        process = command(*BUSY, f'--workdir={workdir}', f'--data_dir={data_dir}')
        known = set((workdir / 'checkpoints').glob('*')) if workdir.exists() else set()
        while process.poll() is None:
            new = set((workdir / 'checkpoints').glob('*')) - known
            if any('tmp' in path.name for path in new):
                process.send_signal(signal.SIGKILL)
                caught += 1
                break
            time.sleep(0.0005)
        assert finish(process).returncode in (0, -signal.SIGKILL)
        if caught == 3:
            break
    assert caught == 3
    run(*BUSY, f'--workdir={workdir}', f'--data_dir={data_dir}')
    assert_same(workdir, undisturbed)
    assert not [p for p in (workdir / 'checkpoints').iterdir() if 'tmp' in p.name]


@pytest.mark.slow
def test_interrupt_says_how_to_go_on(undisturbed, tmp_path, data_dir):
    workdir = tmp_path / 'run'
    process = command(*BUSY, f'--workdir={workdir}', f'--data_dir={data_dir}')
    wait_for_lines(workdir, 7, process)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.returncode == 130
    assert 'the same command goes on' in done.stderr
    run(*BUSY, f'--workdir={workdir}', f'--data_dir={data_dir}')
    assert_same(workdir, undisturbed)
