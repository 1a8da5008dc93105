"""A release is built, checked and tried in a clean environment."""

import os
import re
import subprocess
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import dlf_jax
from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_files_of_a_release(tmp_path):
    """From a copy, so that what the build leaves does not lie in the checkout."""
    listed = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '-z'],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split('\0')):
        if (ROOT / name).is_file():
            copy = tmp_path / 'project' / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
            copy.chmod((ROOT / name).stat().st_mode)
    # The release's own tools alone, in an environment of their own: building needs none of what trains.
    venv.create(tmp_path / 'tools', with_pip=True)
    pip = [tmp_path / 'tools' / 'bin' / 'python', '-m', 'pip', 'install', '--quiet', 'build', 'twine']
    subprocess.run(pip, timeout=600, check=True)
    (tmp_path / 'tools' / '.installed-release').write_text((ROOT / 'pyproject.toml').read_text())
    environment = {**os.environ, 'VENV': str(tmp_path / 'tools'), 'JAX_PLATFORMS': 'cpu'}
    done = subprocess.run(
        ['launch/release.sh', tmp_path / 'dist'], cwd=tmp_path / 'project', env=environment,
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'the wheel trains outside the checkout: AUC ' in done.stderr
    version = dlf_jax.__version__
    files = [f'dlf_jax-{version}-py3-none-any.whl', f'dlf_jax-{version}.tar.gz']
    assert re.findall(r'^[0-9a-f]{64}  (.+)$', done.stdout, re.M) == files
    section = re.search(
        rf'^## \[{version.partition(".dev")[0]}\].*', (ROOT / 'CHANGELOG.md').read_text(), re.M
    )
    ready = 'dev' not in version and re.search(r'\d{4}-\d\d-\d\d', section[0])
    assert ('twine upload' in done.stderr) == bool(ready)
    assert ('not to be uploaded' in done.stderr) != bool(ready)
    wheel = zipfile.ZipFile(tmp_path / 'dist' / files[0]).namelist()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / 'dlf_jax').rglob('*.py')}
    assert modules <= set(wheel)
    assert not any(Path(name).parts[0] in ('tests', 'benchmarks', 'docs') for name in wheel)
    with tarfile.open(tmp_path / 'dist' / files[1]) as source:
        assert {f'dlf_jax-{version}/{name}' for name in ('LICENSE', 'README.md')} <= set(source.getnames())


def test_a_release_needs_a_section_of_its_version():
    version = dlf_jax.__version__.partition('.dev')[0]
    assert f'\n## [{version}]' in (ROOT / 'CHANGELOG.md').read_text()
