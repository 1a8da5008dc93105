"""CI and pre-commit run the same linters, by one script."""

import subprocess

import pytest
import yaml

from tests.conftest import ROOT


def lint(*arguments):
    return subprocess.run(
        ['launch/lint.sh', *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_pre_commit_runs_every_linter():
    linters = lint('--list').stdout.split()
    assert {'ruff', 'format', 'shellcheck', 'types'} <= set(linters)
    config = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())
    (repository,) = config['repos']
    assert repository['repo'] == 'local'
    assert [hook['id'] for hook in repository['hooks']] == linters
    for hook in repository['hooks']:
        assert hook['entry'] == f'launch/lint.sh {hook["id"]}'
        assert (hook['language'], hook['pass_filenames']) == ('system', False)


def test_ci_runs_tests_linters_and_documentation():
    lines = (ROOT / '.ci' / 'run').read_text().splitlines()
    assert [line for line in lines if line.startswith('launch/')] == [
        'launch/test.sh',
        'launch/lint.sh',
        'launch/docs.sh',
    ]


@pytest.mark.parametrize('arguments', [['mypy'], ['ruff', 'tests']])
def test_a_linter_that_there_is_not_is_named(arguments):
    done = lint(*arguments)
    assert done.returncode == 2
    assert done.stderr == f'error: {arguments[-1]}: no such linter; known: ruff format shellcheck types\n'
