"""Every flag of the commands stands on the page of the command line, and no other does."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SHARED = 'Flags of compare and tune'


def section(title):
    text = (ROOT / 'docs' / 'command-line.md').read_text()
    return text.split(f'## {title}\n', 1)[1].split('\n## ', 1)[0]


@pytest.mark.parametrize('command', ['main', 'daily', 'compare', 'tune', 'serve'])
def test_every_flag_is_on_the_page(command):
    line = [sys.executable, '-m', f'dlf_jax.{command}', '--help']
    told = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False).stdout
    flags = set(re.findall(r'^  (?:-\w,)?--(?:\[no\])?(\w+):', told, re.M)) - {'help', 'flagfile', 'undefok'}
    assert len(flags) > 5, told
    page = section(f'dlf_jax.{command}') + (section(SHARED) if command in ('compare', 'tune') else '')
    shown = set(re.findall(r'^\| `--(\w+)[=`]', page, re.M))
    assert shown - {'config'} == flags - {'config'}
