"""The command that shows all on an accelerator runs on a CPU too, and outlives cases that fail."""

import json
import subprocess
import sys

import pytest

from benchmarks import accelerator
from tests.conftest import ROOT


@pytest.mark.slow
def test_cases_run_one_after_another_and_are_kept_as_they_come(tmp_path):
    command = [sys.executable, '-m', 'benchmarks.accelerator', f'--output={tmp_path}']
    done = subprocess.run(
        [*command, '--cases=dcnv2,seeds mlp'],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == json.loads((tmp_path / 'accelerator.json').read_text())
    cases = found['cases']
    assert {'dcnv2', 'dcnv2, programs kept', 'dcnv2, lazy_adam', 'seeds mlp'} <= cases.keys()
    assert all('error' not in cases[name] for name in cases if 'torch' not in name), cases
    assert cases['dcnv2']['milliseconds'] > 0
    assert cases['dcnv2']['first_step_seconds'] > cases['dcnv2, programs kept']['first_step_seconds']
    assert '| dcnv2, lazy_adam | ' in (tmp_path / 'accelerator.md').read_text()


def test_a_case_that_there_is_not_is_told(tmp_path, monkeypatch, capsys):
    device = {'platform': 'cpu', 'kind': 'cpu', 'count': 1, 'jax': '1'}
    monkeypatch.setattr(accelerator, '_json', lambda *_: device)
    monkeypatch.setattr(sys, 'argv', ['accelerator', f'--output={tmp_path}', '--cases=dcnv2,seed,qickstart'])
    with pytest.raises(SystemExit):
        accelerator.main()
    told = capsys.readouterr().err
    assert "no case begins with 'qickstart'; here are dlf-released" in told


def test_cases_find_the_packages_that_the_command_finds(tmp_path, monkeypatch):
    (tmp_path / 'only_there.py').write_text('FOUND = 7')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    code = 'import benchmarks, json, only_there; print(json.dumps({"found": only_there.FOUND}))'
    assert accelerator._json(60, ('-c', code)) == {'found': 7}


def test_a_case_that_fails_is_a_row_with_its_error():
    def late(limit):
        raise subprocess.TimeoutExpired('command', limit)

    def wrong(limit):
        raise SystemExit('command: exit code 1\n\nerror: no such thing | here')

    rows = {
        name: accelerator.outcome(accelerator.Case(name, 7, run))
        for name, run in (('late', late), ('wrong', wrong))
    }
    assert rows == {
        'late': {'error': 'not done within 7 seconds'},
        'wrong': {'error': 'error: no such thing | here'},
    }
    told = accelerator.table({'count': 2, 'kind': 'H', 'jax': '1'}, rows)
    assert '| wrong | error error: no such thing / here |' in told


@pytest.mark.parametrize('small', [False, True])
def test_each_case_has_a_name_of_its_own_and_a_limit(small, tmp_path):
    cases = list(accelerator.Cases(tmp_path, small))
    assert len({case.name for case in cases}) == len(cases)
    assert all(0 < case.limit <= 240 for case in cases)
