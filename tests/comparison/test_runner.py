"""Folders that another process works in, children without a parent, times in words."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from dlf_jax.comparison import runner
from dlf_jax.data import builders
from dlf_jax.errors import UserError
from dlf_jax.file_writing import to_json, write_atomically
from dlf_jax.lock import locked
from tests.comparison.conftest import make, result
from tests.conftest import ROOT


def as_finished(run, saved):
    """What a finished run leaves that tells its result."""
    (run.workdir.checkpoints / '5').mkdir(parents=True)
    builder = builders.build(run.config.dataset, os.path.expanduser(run.data_dir))
    mark = {'fingerprint': builder.builder_config.name, 'made_of': builder.made_of}
    write_atomically(run.workdir.path / 'data.json', to_json(mark))
    write_atomically(run.workdir.path / 'config.json', run.config.to_json())
    run.workdir.finish(saved)


def test_a_run_that_another_process_carries_out_is_waited_for(tmp_path, monkeypatch):
    [run] = make(tmp_path, 'dlf', seeds='1').runs
    run.workdir.create()
    monkeypatch.setattr(runner, '_Process', lambda run, slot: pytest.fail('started beside the other'))
    taken, told = threading.Event(), []

    def other():
        with locked(run.workdir.lock, wait=False):
            taken.set()
            time.sleep(0.3)
            as_finished(run, result(0.75))

    thread = threading.Thread(target=other)
    thread.start()
    taken.wait(timeout=60)
    outcome = runner.Outcome()
    runner.carry_out([run], outcome, [{}], lambda: told.append(1))
    thread.join(timeout=60)
    assert outcome.results[run]['valid']['auc'] == 0.75
    assert told == [1]


def test_finished_results(tmp_path):
    first, second = make(tmp_path, 'mlp', seeds='2').runs
    as_finished(first, result(0.7))
    assert list(runner.finished_results([first, second])) == [first]
    with pytest.raises(UserError, match=r'holds a run of another config .*embedding\.std'):
        runner.finished_results(make(tmp_path, 'mlp', seeds='2', overrides={'embedding.std': '0.3'}).runs)
    mark = first.workdir.path / 'data.json'
    saved = json.loads(mark.read_text())
    saved['made_of']['files'] = {'train': [{'path': '/logs/train.csv', 'sum': 'of before'}]}
    mark.write_text(json.dumps(saved))
    with pytest.raises(UserError, match=r'holds a run on other data \(train: /logs/train.csv there'):
        runner.finished_results([first, second])


def test_a_child_whose_parent_has_gone_does_not_start():
    # Process 1 is never the parent here.
    line = [sys.executable, '-m', 'dlf_jax.comparison.child', '1', '--nonsense']
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (1 if sys.platform == 'linux' else 2)
    assert done.stdout == ''


def test_a_hopeless_run_is_ended_and_another_is_not(tmp_path, data_dir):
    """Real processes: the first is stopped after two evaluations, the second comes to its end."""
    overrides = {
        'dataset.rows': '3000', 'dataset.block_rows': '256', 'training.batch_size': '256',
        'training.epochs': '2',
    }  # fmt: skip
    [short] = make(tmp_path, 'lr', seeds='1', overrides=overrides, folder=data_dir).runs
    overrides |= {'training.epochs': '3000', 'plateau.patience': '0'}
    [endless] = make(
        tmp_path, 'lr', ['embedding.std=0.01'], seeds='1', overrides=overrides, folder=data_dir
    ).runs
    outcome = runner.Outcome()

    def hopeless(run):
        return (
            run is endless
            and run.workdir.metrics.exists()
            and run.workdir.metrics.read_text().count('valid') > 1
        )

    runner.carry_out([endless, short], outcome, [{}], should_stop=hopeless)
    assert outcome.stopped == {endless}
    assert list(outcome.results) == [short]
    assert outcome.errors == {}
    assert not runner.is_busy(endless)


@pytest.mark.parametrize(
    ('seconds', 'words'), [(12.4, '12 s'), (600, '10 min'), (7800, '2 h 10 min'), (3599, '1 h 0 min')]
)
def test_duration(seconds, words):
    assert runner.duration(seconds) == words
