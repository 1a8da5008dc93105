"""Imports point one way: a module knows only what is below it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'dlf_jax'
# From the ground up; what is on one floor does not know each other.
FLOORS = (
    ('errors', 'allocator', 'library_logs', 'program_cache'),
    ('lock', 'plugins', 'command_line', 'config_files', 'file_writing', 'data_changes'),
    ('storage',),
    ('data',),
    ('models',),
    ('config', 'testing'),
    ('config_by_size', 'own_code', 'config_arguments'),
    ('workdir',),
    ('training',),
    ('baselines',),
    ('config_checks', 'serving'),
    ('analysis', 'compiling', 'exporting'),
    ('server', 'trained_model'),
    ('api', 'comparison', 'trained_runs'),
    ('fit_frames', 'days'),
    ('main', 'compare', 'daily', 'serve', 'sklearn', 'tune'),
)
# The wings of `data`, over what all of them stand on.
WINGS = (
    ('schema', 'hashing', 'progress', 'prefetch', 'rows', 'values'),
    ('readers', 'download', 'loading'),
    ('preprocess', 'schema_files'),
    ('schema_proposal',),
    ('builders',),
)


def imported(file):
    """Dotted names that a file imports from the package."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('dlf_jax'):
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


@pytest.mark.parametrize(('depth', 'floors'), [(1, FLOORS), (2, WINGS)], ids=['package', 'data'])
def test_imports_point_down(depth, floors):
    height = {name: floor for floor, names in enumerate(floors) for name in names}
    root = PACKAGE if depth == 1 else PACKAGE / 'data'
    found = set()
    for file in root.rglob('*.py'):
        own = file.relative_to(root).with_suffix('').parts[0]
        if own == '__init__':
            continue
        assert own in height, f'{file}: on which floor is it?'
        for name in imported(file):
            parts = name.split('.')
            if parts[:depth] != ['dlf_jax', 'data'][:depth] or parts[depth] == own:
                continue
            if parts[depth] in height and height[parts[depth]] >= height[own]:
                found.add(f'{own} imports {parts[depth]}')
    assert not found
