"""What a URL names is what the same path names."""

import os

import fsspec
import pytest

from dlf_jax.data.readers import tables
from dlf_jax.errors import UserError, shown
from dlf_jax.storage import settings

NAMES = (
    'a.csv', 'b.tsv', '_SUCCESS', '.hidden.csv', '_part.csv', 'notes.md', 'day=1/x.csv', 'day=1/hour=2/y.csv',
    'day=2/x.csv', 'day=10/x.csv', 'other/z.csv', 'day=2/_temporary/w.csv', 'c[1].csv', 'logs/dt=1/p.gz',
)  # fmt: skip


@pytest.fixture(scope='module')
def both(tmp_path_factory):
    """The same files in a folder and in a store."""
    folder, store = tmp_path_factory.mktemp('files'), fsspec.filesystem('memory')
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f'a,b\nx,{len(name)}\n')
        store.pipe_file(f'/files/{name}', (folder / name).read_bytes())
    settings.choose(cache=tmp_path_factory.mktemp('cache'))
    yield str(folder), 'memory://files'
    settings.choose(cache=None)
    store.rm('/files', recursive=True)


def named(spec, top):
    try:
        return [shown(path).removeprefix(top) for path in tables.expand(spec, '--input')]
    except UserError as error:
        return str(error).replace(top, '').replace(os.path.abspath(top), '')


@pytest.mark.parametrize(
    'spec',
    [
        '{}/a.csv', '{}', '{}/', '{}/*.csv', '{}/day=*', '{}/day=*/*.csv', '{}/**/*.csv', '{}/day=[12]/x.csv',
        '{}/day=?/x.csv', '{}/d*/x.csv', '{}/_*.csv', '{}/no.csv', '{}/no*', '{}/other', '{}/day=2',
        '{}/a.csv,{}/b.tsv', '{}/logs/dt=*', '{}/day=[!1]', '{}/day=1/hour=*/*',
    ],
)  # fmt: skip
def test_the_same_files(spec, both):
    paths, stored = (named(spec.format(*[top] * spec.count('{}')), top) for top in both)
    assert stored == paths


def test_folders_of_a_url_are_columns(both):
    (path,) = tables.expand(f'{both[1]}/day=10', '--input')
    table = tables.open_table([path])
    assert table.columns == ('a', 'b', 'day')
