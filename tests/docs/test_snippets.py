"""The commands and the code in the pages do what the pages say: they are run as they stand there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib

import polars as pl
import pytest

from tests.conftest import ROOT, compiled, write_table
from tests.docs.pages import name_of, pages, snippets
from tests.launch.environment import virtual_environment

# Where a page's numbers would take too long: what stands there, and what is run instead.
SMALLER = (
    # It is installed, and need not be from elsewhere.
    (r'^pip install "dlf_jax\[serve\]"', 'python -c "import starlette, uvicorn"'),
    (
        r'^launch/quickstart\.sh',
        'launch/quickstart.sh --config.dataset.rows=3000 --config.model.name=lr --config.training.epochs=1',
    ),
    (r'^launch/test\.sh', 'launch/test.sh --collect-only tests/models/test_fm.py'),
    (r'--dataset=synthetic', '--dataset=synthetic --config.dataset.rows=3000 --config.training.epochs=1'),
)


def marked(mark):
    """Pages with blocks of a mark, as parameters."""
    return [
        pytest.param(page, id=name_of(page))
        for page in pages()
        if any(snippet.mark == mark for snippet in snippets(page))
    ]


def run_blocks(page, mark, folder, environment):
    """Runs a page's blocks of a mark in one folder, one after another."""
    for snippet in snippets(page):
        if snippet.mark != mark:
            continue
        code = snippet.code.replace('/tmp/', f'{folder}/')
        for pattern, smaller in SMALLER:
            code = re.sub(pattern, smaller, code, flags=re.MULTILINE)
        # A Python block that begins with a file's name is that file.
        if named := re.match(r'# (\w+\.py)\n', code):
            (folder / named[1]).write_text(code)
            continue
        if snippet.language == 'python':
            line = [sys.executable, '-c', code]
        else:
            assert snippet.language == 'bash'
            line = ['bash', '-euo', 'pipefail', '-c', code]
        done = subprocess.run(
            line, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f'{snippet.code}\n{done.stdout}\n{done.stderr}'


@pytest.fixture
def environment(tmp_path):
    """A folder like a clone, and the variables of a process in it."""
    for name in ('launch', 'configs', 'dlf_jax', 'tests', 'pyproject.toml', 'setup.cfg'):
        (tmp_path / name).symlink_to(ROOT / name)
    # The tutorial's table, for the pages that go on from it.
    write_table(tmp_path / 'clicks.csv', 2000)
    pl.read_csv(tmp_path / 'clicks.csv').write_parquet(tmp_path / 'clicks.parquet')
    return {
        **virtual_environment(tmp_path / 'venv'),
        **compiled(),
        'PYTHONPATH': str(ROOT),
        'HOME': str(tmp_path),
    }


@pytest.mark.parametrize('page', marked('runs'))
def test_what_a_page_shows_runs(page, tmp_path, environment):
    run_blocks(page, 'runs', tmp_path, environment)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize('page', marked('runs slowly'))
def test_what_a_page_shows_slowly_runs(page, tmp_path, environment):
    run_blocks(page, 'runs slowly', tmp_path, environment)


def test_readme_s_first_commands_are_run():
    (readme,) = [page for page in pages() if name_of(page) == 'README.md']
    assert [snippet.language for snippet in snippets(readme) if snippet.mark == 'runs'] == ['bash', 'python']


@pytest.mark.parametrize('page', pages(), ids=name_of)
def test_code_can_be_parsed(page):
    """Also of the blocks that are not run."""
    for snippet in snippets(page):
        if snippet.language == 'python':
            ast.parse(snippet.code)
        elif snippet.language == 'toml':
            tomllib.loads(snippet.code)
        elif snippet.language == 'bash':
            checked = subprocess.run(
                ['bash', '-n', '-c', snippet.code], capture_output=True, text=True, timeout=60, check=False
            )
            assert checked.returncode == 0, checked.stderr
