"""`launch/environment.sh` installs when the list of packages has changed, and only then."""

import subprocess

import pytest

from tests.conftest import ROOT
from tests.launch.environment import virtual_environment


@pytest.fixture
def source(tmp_path):
    """Sources the script for an extra, in a folder like a clone; returns what it had Python do."""
    (tmp_path / 'launch').symlink_to(ROOT / 'launch')
    (tmp_path / 'pyproject.toml').write_text((ROOT / 'pyproject.toml').read_text())
    recorder = tmp_path / 'recorder'
    recorder.write_text('#!/bin/sh\necho "$@" >> calls\n')
    recorder.chmod(0o755)
    environment = virtual_environment(tmp_path / 'venv', str(recorder))

    def run(extra):
        (tmp_path / 'calls').write_text('')
        line = ['bash', '-euo', 'pipefail', '-c', f'source launch/environment.sh {extra}']
        subprocess.run(line, cwd=tmp_path, env=environment, timeout=60, check=True)
        return (tmp_path / 'calls').read_text().splitlines()

    return run


@pytest.mark.parametrize(('extra', 'installed'), [('test', '.[test]'), ('""', '.')])
def test_installs_when_the_list_of_packages_changes(source, tmp_path, extra, installed):
    assert source(extra) == []
    with open(tmp_path / 'pyproject.toml', 'a') as file:
        file.write('# another\n')
    (call,) = source(extra)
    assert call.startswith('-m pip install ')
    assert call.endswith(f' --editable {installed}')
    assert source(extra) == []
    # An extra comes on top of what all need, which is not installed again.
    assert source('""') == []
