"""The picture of the house is of the house as it stands."""

import re

from tests.conftest import ROOT

# What commands leave in the project's folder.
MADE = {'build', 'dist', 'results', '__pycache__'}


def tree():
    """Paths in the first block of docs/design.md: an indented line is in the folder above it."""
    (block,) = re.findall(r'^```text\n(.*?)^```$', (ROOT / 'docs' / 'design.md').read_text(), re.M | re.S)
    found, above = [], []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        above[depth:] = [name]
        found.append(''.join(above[: depth + 1]))
        # Further files of a line: `schema_files.py: what it is`.
        found += [''.join(above[:depth]) + more for more in re.findall(r'; (\w+\.py): ', line)]
    return found


def folders(path):
    return {
        child.name
        for child in path.iterdir()
        if child.is_dir()
        and child.name not in MADE
        and not child.name.startswith('.')
        and not child.name.endswith('.egg-info')
        and any(child.rglob('*.*'))
    }


def test_everything_in_the_picture_exists():
    found = tree()
    assert len(found) > 20
    for path in found:
        assert (ROOT / path).is_dir() if path.endswith('/') else (ROOT / path).is_file(), path


def test_every_folder_is_in_the_picture():
    named = {path for path in tree() if path.endswith('/')}
    # Real rows may lie beside the tests; they are not part of the project.
    assert {path for path in named if path.count('/') == 1} == {f'{n}/' for n in folders(ROOT) - {'shared'}}
    package = {path for path in named if path.startswith('dlf_jax/')} - {'dlf_jax/'}
    packages = {path.parent for path in (ROOT / 'dlf_jax').rglob('__init__.py')} - {ROOT / 'dlf_jax'}
    assert package == {f'{path.relative_to(ROOT)}/' for path in packages}
