"""The command, end to end: killed and run again, a failing run, real processes on small data."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from dlf_jax.compare import parse
from dlf_jax.comparison import report
from dlf_jax.comparison.runner import is_busy
from dlf_jax.errors import UserError
from tests.comparison.conftest import make
from tests.conftest import ROOT

# The linear model compiles fast; a learning rate out of all bounds ends in a loss that is not finite.
FLAGS = (
    '--dataset=synthetic', '--models=lr', '--sweep=optimizer.learning_rate=0.002,1e38', '--seeds=1',
    '--config.dataset.rows=3000', '--config.dataset.block_rows=256', '--config.training.batch_size=256',
    '--config.training.epochs=300', '--config.training.evaluate_every=3',
    '--config.training.checkpoint_every=1', '--config.plateau.patience=0',
)  # fmt: skip
SHORT = '--config.training.epochs=2'


def start(workdir, data_dir, *flags):
    line = [sys.executable, '-m', 'dlf_jax.compare', *FLAGS, f'--workdir={workdir}', f'--data_dir={data_dir}']
    return subprocess.Popen(
        [*line, *flags],
        cwd=ROOT,
        env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(what, process):
    end = time.monotonic() + 120
    while not what():
        assert process.poll() is None, process.communicate(timeout=60)
        assert time.monotonic() < end
        time.sleep(0.01)


def checkpoints(run):
    return [int(p.name) for p in run.workdir.checkpoints.glob('*') if p.name.isdigit()]


@pytest.fixture
def runs(tmp_path):
    found = make(tmp_path, 'lr', ['optimizer.learning_rate=0.002,1e38'], seeds='1')
    return found.runs


@pytest.mark.slow
def test_killed_and_run_again(tmp_path, data_dir, runs):
    good, bad = runs
    log = good.workdir.path / 'log.txt'

    process = start(tmp_path, data_dir)
    wait_for(lambda: checkpoints(good), process)
    process.kill()
    process.communicate(timeout=60)
    # The run ends with it, so that it does not hold the folder.
    end = time.monotonic() + 10
    while is_busy(good):
        assert time.monotonic() < end, 'the run went on by itself'
        time.sleep(0.01)
    reached = max(checkpoints(good))

    process = start(tmp_path, data_dir)
    wait_for(lambda: 'going on from step' in log.read_text(), process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ''), err
    assert err.splitlines()[-1] == 'interrupted; the same command goes on where it stopped'
    assert not is_busy(good)
    assert f'going on from step {reached} ' in log.read_text()

    # Fewer epochs than it has come to: it ends at once.
    out, err = (process := start(tmp_path, data_dir, SHORT, '--jobs=2')).communicate(timeout=120)
    assert process.returncode == 1, err
    assert 'Traceback' not in err
    told = json.loads(out)
    assert out.count('\n') == 1
    assert (told['runs'], told['finished']) == (2, 1)
    [failed] = told['failed']
    assert failed.startswith(f'synthetic {bad.folder} seed 0: step ')
    assert 'Try a lower' in failed
    assert err.splitlines()[-1].startswith(f'error: 1 of 2 runs failed: synthetic {bad.folder}')
    saved = json.loads((good.workdir.path / 'result.json').read_text())
    assert told['rows'][0]['valid_auc_mean'] == saved['valid']['auc']
    assert told['rows'][1]['valid_auc_mean'] is None
    text = (tmp_path / 'comparison' / 'table.md').read_text()
    assert f'{saved["valid"]["auc"]:.5f}' in text
    assert 'Failed: ' in text
    assert all((tmp_path / 'comparison' / name).is_file() for name in ('table.csv', 'runs.csv'))
    assert len(told['plots']) == 3

    # Finished runs are read, not run; another config in their folders is refused before anything runs.
    before = log.stat().st_mtime_ns
    same = ['compare', *FLAGS, f'--workdir={tmp_path}', f'--data_dir={data_dir}', SHORT]
    listed = report.listing(parse([*same, '--list']))
    assert [entry['state'] for entry in listed['list']] == ['finished', 'begun']
    with pytest.raises(UserError, match=r'embedding\.std.*take another --workdir'):
        report.compare(parse([*same, '--config.embedding.std=0.5']))
    assert log.stat().st_mtime_ns == before
