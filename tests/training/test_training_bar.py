"""The line of progress says what is known, and no more."""

import dataclasses
import os
import pty
import re
import subprocess
import sys
import termios

import pytest

from dlf_jax.config import get_config
from dlf_jax.training import step_timer
from dlf_jax.training.loss_guard import AHEAD
from dlf_jax.training.run_progress import RunProgress
from dlf_jax.training.schedules import Plateau
from dlf_jax.training.step_plan import StepPlan
from dlf_jax.training.step_timer import StepTimer
from dlf_jax.training.training_bar import Moment, Outlook, describe, fit
from tests.conftest import ROOT, TINY, command, compiled, finish

# 10 epochs of 50 steps.
PLAN = StepPlan(per_epoch=50, total=500, evaluate_every=50)


def config_of(**keys):
    config = get_config('mlp')
    config.training.batch_size = 1000
    config.update_from_flattened_dict({key.replace('__', '.'): value for key, value in keys.items()})
    return config


def evaluated(*aucs, every=50, **keys):
    """Progress of a run whose evaluations found these."""
    config, plateau, best = config_of(**keys), Plateau(), None
    for number, auc in enumerate(aucs, 1):
        plateau = plateau.observe(auc, number * every, config)
        if plateau.best_step == number * every:
            best = {'auc': auc, 'logloss': 1 - auc}
    step = len(aucs) * every
    return RunProgress(steps=step, evaluated=step, evaluations=len(aucs), plateau=plateau, best=best)


def line(step, *runs, plan=PLAN, pace=None, evaluation=None, loss=None, **keys):
    moment = Moment(step, dict(enumerate(runs)), pace, evaluation, loss)
    return ''.join(describe(config_of(**keys), plan, moment))


@pytest.mark.parametrize(
    ('step', 'run', 'known', 'told'),
    [
        # Before the first step's end nothing is timed. The first evaluation gains, two more may not.
        (
            0,
            RunProgress(),
            {},
            'epoch 1 0%; no evaluation yet, next in 50 steps; may end after 3 evaluations',
        ),
        (
            25,
            RunProgress(),
            {'pace': 0.5, 'loss': 0.45678},
            'epoch 1 50%; no evaluation yet, next in 00:12; may end after 3 evaluations; loss 0.4568; '
            '2.00k samples/s',
        ),
        # At an evaluation's step, and after it: 2 epochs of 25 s and 2 evaluations of 10 s.
        (
            50,
            RunProgress(),
            {'pace': 0.5},
            'epoch 1 100%; no evaluation yet, evaluating; may end after 3 evaluations; 2.00k samples/s',
        ),
        (
            50,
            evaluated(0.7),
            {'pace': 0.5, 'evaluation': 10},
            'epoch 1 100%; 1 evaluation, best auc 0.7000, next in 00:25; '
            'may end in 01:10 after 2 more without gain; 2.00k samples/s',
        ),
        (
            170,
            evaluated(0.7, 0.8, 0.75),
            {'pace': 0.5, 'evaluation': 10},
            'epoch 4 40%; 3 evaluations, best auc 0.8000, next in 00:15; '
            'may end in 00:25 after 1 more without gain; 2.00k samples/s',
        ),
        # Resumed: evaluations were before, and neither they nor steps are timed yet.
        (
            170,
            evaluated(0.7, 0.8, 0.75),
            {},
            'epoch 4 40%; 3 evaluations, best auc 0.8000, next in 30 steps; '
            'may end after 1 more without gain',
        ),
        # The last two evaluations cannot stop it before its end, which is therefore certain.
        (
            425,
            evaluated(*(0.7 + i / 100 for i in range(8))),
            {'pace': 0.5, 'evaluation': 10},
            'epoch 9 of 10 50%; 8 evaluations, best auc 0.7700, next in 00:12; '
            'ends in 00:57; 2.00k samples/s',
        ),
        # One without gain before, so another may.
        (
            425,
            evaluated(*(0.7 + i / 100 for i in range(7)), 0.5),
            {'pace': 0.5, 'evaluation': 10},
            'epoch 9 50%; 8 evaluations, best auc 0.7600, next in 00:12; '
            'may end in 00:22 after 1 more without gain; 2.00k samples/s',
        ),
        # The last epoch, its evaluation, and what comes after.
        (
            499,
            evaluated(*[0.7] * 9, plateau__patience=0),
            {'pace': 0.5, 'plateau__patience': 0},
            'epoch 10 of 10 98%; 9 evaluations, best auc 0.7000, next in 00:00; '
            'ends in 00:00 + 1 evaluation; 2.00k samples/s',
        ),
        (
            500,
            evaluated(*[0.7] * 9, plateau__patience=0),
            {'plateau__patience': 0},
            'epoch 10 of 10 100%; 9 evaluations, best auc 0.7000, evaluating; ends then',
        ),
        (
            500,
            evaluated(*[0.7] * 10, plateau__patience=0),
            {'plateau__patience': 0},
            'epoch 10 of 10 100%; 10 evaluations, best auc 0.7000',
        ),
        # Stopped early.
        (150, evaluated(0.7, 0.6, 0.6), {}, 'epoch 3 100%; 3 evaluations, best auc 0.7000'),
    ],
)
def test_one_run(step, run, known, told):
    assert line(step, run, **known) == told


def test_without_early_stopping_the_end_is_known_from_the_start():
    keys = {'plateau__patience': 0}
    assert line(0, RunProgress(), **keys) == (
        'epoch 1 of 10 0%; no evaluation yet, next in 50 steps; ends in 500 steps'
    )
    # 450 steps of half a second and 9 evaluations of 10 s.
    assert line(50, evaluated(0.7, **keys), pace=0.5, evaluation=10, **keys) == (
        'epoch 1 of 10 100%; 1 evaluation, best auc 0.7000, next in 00:25; ends in 05:15; 2.00k samples/s'
    )


def test_evaluations_within_an_epoch():
    """At steps 20, 40, ..., 500, the last of them a whole number of epochs."""
    plan = StepPlan(50, 500, 20)
    found = line(130, evaluated(*[0.7] * 2, 0.8, 0.81, 0.82, 0.5, every=20), plan=plan, pace=1, evaluation=5)
    assert found == (
        'epoch 3 60%; 6 evaluations, best auc 0.8200, next in 00:10; may end in 00:15 after 1 more without '
        'gain; 1.00k samples/s'
    )


def test_evaluations_that_do_not_divide_the_steps():
    plan = StepPlan(50, 150, 40)
    assert [step for step in range(151) if plan.is_evaluated(step)] == [40, 80, 120, 150]
    assert [plan.evaluation_after(step) for step in (0, 39, 40, 119, 120, 149)] == [40, 40, 80, 120, 150, 150]
    assert [plan.evaluations_after(step) for step in (0, 39, 40, 119, 120, 149, 150)] == [4, 4, 3, 2, 1, 1, 0]
    # A finished run of 100 steps goes on with more epochs: its last evaluation was between two others.
    assert [step for step in range(101) if StepPlan(50, 100, 40).is_evaluated(step)] == [40, 80, 100]
    assert (plan.evaluation_after(100), plan.evaluations_after(100)) == (120, 2)


def test_the_plan_counts_what_it_lists():
    for every in range(1, 32):
        plan = StepPlan(10, 30, every)
        for step in range(31):
            after = [later for later in range(step + 1, 31) if plan.is_evaluated(later)]
            assert plan.evaluations_after(step) == len(after)
            assert [plan.evaluation_after(step, i + 1) for i in range(len(after))] == after


@pytest.mark.parametrize(
    ('monitor', 'told'),
    [('logloss', 'best logloss 0.3000'), ('auc-logloss', 'best auc-logloss 0.4000')],
)
def test_the_best_is_of_the_monitored_metric(monitor, told):
    run = evaluated(0.7)
    value = {'logloss': -0.3, 'auc-logloss': 0.4}[monitor]
    run = dataclasses.replace(run, plateau=dataclasses.replace(run.plateau, best=value))
    assert told in line(60, run, training__monitor=monitor)


def test_several_seeds():
    first, second = evaluated(0.7, 0.8), evaluated(0.75, 0.76)
    assert line(110, first, second, pace=0.5, evaluation=10) == (
        'epoch 3 20%; 2 seeds; 2 evaluations, best auc 0.7600 to 0.8000, next in 00:20; '
        'may end in 01:05 after 2 more without gain; 4.00k samples/s'
    )
    # One may stop first, and the other is then faster: in how much time is not known.
    second = evaluated(0.75, 0.74)
    assert line(110, first, second, pace=0.5, evaluation=10) == (
        'epoch 3 20%; 2 seeds; 2 evaluations, best auc 0.7500 to 0.8000, next in 00:20; may end after 2 more '
        'without gain; 4.00k samples/s'
    )
    # One has stopped; its best still counts.
    third = evaluated(0.9, 0.5, 0.5)
    first, second = evaluated(0.7, 0.8, 0.8), evaluated(0.6, 0.7, 0.8)
    assert line(160, first, second, third) == (
        'epoch 4 20%; 2 of 3 seeds; 3 evaluations, best auc 0.8000 to 0.9000, next in 40 steps; '
        'may end after 2 more without gain'
    )
    # The last of them goes on to the end for certain, when the other may have stopped.
    gains = [0.7 + i / 100 for i in range(8)]
    assert (
        'epoch 9 of 10 20%; 2 seeds; 8 evaluations, best auc 0.7600 to 0.7700, next in 00:20; ends within'
        in (line(410, evaluated(*gains), evaluated(*gains[:7], 0.1), pace=0.5, evaluation=10))
    )


def test_a_narrow_line_leaves_out_the_end():
    pieces = ['epoch 4 62%', '; 3 evaluations', ', best auc 0.8012', '; loss 0.4512']
    assert fit(pieces, None, 0.5) == ''.join(pieces)
    assert fit(pieces, 50, 0.5) == 'epoch 4 62%; 3 evaluations, best auc 0.8012'
    assert fit(pieces, 26, 0.5) == 'epoch 4 62%; 3 evaluations'
    assert fit(pieces, 25, 0.5) == 'epoch 4 62%'
    assert fit(pieces, 5, 0.5) == 'epoch'
    assert fit(pieces, 69, 0.5) == ('epoch 4 62% |█████     |; 3 evaluations, best auc 0.8012; loss 0.4512')
    for width in range(1, 200):
        assert len(fit(pieces, width, 0.5)) <= width


def test_a_step_s_time_is_of_the_steps_that_are_done(monkeypatch):
    """Of 2 seconds each, which the host hands over `AHEAD` steps before the device is done with them."""
    now = [0.0]
    monkeypatch.setattr(step_timer.time, 'monotonic', lambda: now[0])
    timer = StepTimer({0: RunProgress()})
    now[0] = 30.0  # of compiling
    for _ in range(1 + AHEAD):
        timer.count(100)
    assert timer.seconds_per_step is None
    for step in range(1, 6):
        now[0] += 2.0
        timer.count(100)
        assert timer.seconds_per_step == pytest.approx(2.0), step
    # All of them are done when the clock is stopped, and an evaluation does not count.
    now[0] += 2.0 * AHEAD
    timer.pause()
    assert timer.seconds_per_step == pytest.approx(2.0)
    now[0] += 100.0
    timer.resume()
    assert timer.seconds_per_step == pytest.approx(2.0)
    assert timer.progress({0: RunProgress()}, 14)[0].training_seconds == pytest.approx(26.0)


EARLY = (*TINY, '--config.training.epochs=50', '--config.plateau.patience=1', '--config.plateau.min_gain=0.9')


def test_a_log_file_tells_what_is_known(tmp_path, data_dir):
    """The bar stands below every line of the log, so also below each evaluation's."""
    done = finish(command(*EARLY, f'--workdir={tmp_path}', f'--data_dir={data_dir}'))
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    first, second = (i for i, text in enumerate(lines) if ': valid auc' in text)
    auc = f'{float(re.search(r"valid auc ([0-9.]+)", lines[first])[1]):.4f}'
    assert re.fullmatch(
        rf'epoch 1 100%; 1 evaluation, best auc {auc}, next in 00:00; may end in 00:\d\d '
        r'after 1 more without gain; .* samples/s',
        lines[first + 1],
    ), lines
    assert re.fullmatch(rf'epoch 2 .*100%; 2 evaluations, best auc {auc}.*', lines[second + 1]), lines


def test_a_terminal_shows_it(tmp_path, data_dir):
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, 120))
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', **compiled()}
    line = [sys.executable, '-m', 'dlf_jax.main', *EARLY, f'--workdir={tmp_path}', f'--data_dir={data_dir}']
    process = subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    shown = b''
    # Reading ends in an error when the process has closed its side.
    while True:
        try:
            shown += os.read(controller, 65536)
        except OSError:
            break
    process.communicate(timeout=300)
    text = shown.decode()
    assert process.returncode == 0, text
    assert re.search(
        r'epoch 1 0%.*; no evaluation yet, next in 9 steps; may end after 2 evaluations', text
    ), text
    assert re.search(r'epoch 1 100%.*; 1 evaluation, best auc 0\.\d{4}, next in 00:00; may end in', text), (
        text
    )


@pytest.mark.parametrize('steps', [0, 30, 50, 70, 100, 120])
@pytest.mark.parametrize(
    'aucs', [[], [0.7], [0.7, 0.6], [0.7, 0.6, 0.6], [0.7, 0.6, 0.6, 0.8, 0.6, 0.6, 0.6]]
)
def test_the_end_that_is_told_is_that_of_a_plateau_in_steps(steps, aucs):
    keys = {'plateau__steps': steps, 'plateau__patience': 3}
    plan = StepPlan(per_epoch=50, total=5000, evaluate_every=50)
    run = evaluated(*aucs, **keys) if aucs else RunProgress()
    outlook = Outlook(config_of(**keys), plan, Moment(run.steps, {0: run}, None, None, None))
    plateau, more = run.plateau, 0
    while not plateau.exhausted(config_of(**keys)):
        more += 1
        plateau = plateau.observe(0.5, run.steps + 50 * more, config_of(**keys))
    assert outlook.evaluations == more
