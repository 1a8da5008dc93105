"""A workdir is of one config and one data: what differs is named, and what is refused changes nothing."""

import hashlib
import json
import shutil

import pytest

from dlf_jax import data_changes
from tests.conftest import SMALL_FLAGS, command, fail, finish, run, table_flags, write_table


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A folder with the table `train.csv`, a finished run on it, `run`, and `other.csv`, other rows."""
    folder = tmp_path_factory.mktemp('files')
    write_table(folder / 'train.csv', 1000)
    write_table(folder / 'other.csv', 1000, seed=1)
    run(*flags(folder))
    return folder


def flags(folder, train='train.csv', workdir='run'):
    return (
        *table_flags(folder / train), f'--workdir={folder / workdir}', f'--data_dir={folder / "data"}',
    )  # fmt: skip


def unfinished(files, tmp_path):
    """A copy of the run as it was between its last evaluation and its end."""
    shutil.copytree(files / 'run', tmp_path / 'run')
    (tmp_path / 'run' / 'result.json').unlink()
    return tmp_path / 'run'


def contents(folder):
    found = {path: path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}
    return {path: hashlib.sha256(data).hexdigest() for path, data in found.items()}


def test_overwritten_files_are_told_and_put_back(files):
    train, before = files / 'train.csv', (files / 'train.csv').read_bytes()
    train.write_bytes((files / 'other.csv').read_bytes())
    message = fail(*flags(files))
    train.write_bytes(before)
    assert f'holds a run on other data (train: {train} has other content now)' in message
    assert 'take another --workdir to train on the new data, or put back' in message
    done = finish(command(*flags(files)))
    assert 'is finished' in done.stderr
    assert done.stdout == (files / 'run' / 'result.json').read_text()


@pytest.mark.parametrize('ended', [True, False])
def test_other_files_are_told(files, tmp_path, ended):
    workdir = files / 'run' if ended else unfinished(files, tmp_path)
    message = fail(*flags(files, 'other.csv'), f'--workdir={workdir}')
    assert f'train: {files}/train.csv there, {files}/other.csv now' in message
    message = fail(*flags(files), f'--config.dataset.valid={files}/other.csv', f'--workdir={workdir}')
    assert f'valid: no files of its own there, {files}/other.csv now' in message


def test_the_same_bytes_elsewhere_are_the_same_run(files, tmp_path):
    shutil.copy(files / 'train.csv', tmp_path / 'moved.csv')
    moved = f'--config.dataset.train={tmp_path / "moved.csv"}'
    assert run(*flags(files), moved) == json.loads((files / 'run' / 'result.json').read_text())
    workdir = unfinished(files, tmp_path)
    result = run(*flags(files), moved, f'--workdir={workdir}')
    assert result['valid'] == json.loads((files / 'run' / 'result.json').read_text())['valid']


def test_a_run_of_before_the_files_were_named(files, tmp_path):
    workdir = unfinished(files, tmp_path)
    mark = json.loads((workdir / 'data.json').read_text())
    (workdir / 'data.json').write_text(json.dumps({'fingerprint': mark['fingerprint']}))
    message = fail(*flags(files, 'other.csv'), f'--workdir={workdir}')
    assert 'holds a run on other data (the input files have changed since' in message
    run(*flags(files), f'--workdir={workdir}')


@pytest.mark.slow
def test_a_changed_schema_file_is_told(tmp_path):
    table, schema = write_table(tmp_path / 'train.csv', 300), tmp_path / 'schema.toml'
    text = 'label = "click"\n[columns.user]\nkind = "categorical"\n[columns.ad]\nkind = "categorical"\n'
    schema.write_text(text)
    arguments = (
        *SMALL_FLAGS, '--dataset=table', f'--config.dataset.train={table}',
        f'--config.dataset.schema={schema}', f'--workdir={tmp_path / "run"}',
        f'--data_dir={tmp_path / "data"}',
    )  # fmt: skip
    run(*arguments)
    schema.write_text(text + 'min_count = 3\n[columns.price]\nkind = "numeric"\n')
    message = fail(*arguments)
    assert "field 'ad': min_count: the default there, 3 now" in message
    assert "field 'price' is there only now" in message


REFUSED = {
    'a path that there is not': (['--config.dataset.train={files}/non.csv', '--config.training.epochs=3'], 1),
    'other files': (['--config.dataset.train={files}/other.csv', '--config.training.epochs=3'], 1),
    'another config': (['--config.model.hidden=(16,)'], 1),
    'no such key': (['--config.model.hiden=(16,)'], 2),
    'a metric without its column': (["--config.training.metrics=('gauc',)", '--config.training.epochs=3'], 2),
    'a part that cannot be': (['--config.training.epochs=3', '--config.sharding.tables=columns'], 2),
    'no such input': (['--mode=evaluate', '--input={files}/non.csv'], 1),
}


@pytest.mark.parametrize(
    ('case', 'ended'),
    [
        *((case, True) for case in REFUSED),
        # What is refused before the folder is looked at is so whatever is in it.
        *((case, False) for case in ('other files', 'another config', 'no such input')),
    ],
)
def test_what_is_refused_changes_nothing(files, tmp_path, case, ended):
    workdir = files / 'run' if ended else unfinished(files, tmp_path)
    before, (arguments, code) = contents(workdir), REFUSED[case]
    arguments = [argument.replace('{files}', str(files)) for argument in arguments]
    beside = () if '--mode=evaluate' in arguments else flags(files)
    fail(*beside, *arguments, f'--workdir={workdir}', code=code)
    assert contents(workdir) == before


def test_a_refused_first_run_leaves_no_files(files, tmp_path):
    fail(*flags(files), "--config.training.metrics=('gauc',)", f'--workdir={tmp_path / "run"}', code=2)
    assert [path.name for path in (tmp_path / 'run').rglob('*')] == ['.lock']


MADE_OF = {
    'dataset': 'table', 'release': '1.0.0', 'version': 2, 'encoder': 3, 'keys': {'min_count': 2},
    'schema': {'label': 'click', 'fields': [{'name': 'a', 'kind': 'numeric'}, {'name': 'b'}]},
    'files': {'train': [{'path': '/1.csv', 'sum': 'x'}, {'path': '/2.csv', 'sum': 'y'}]},
}  # fmt: skip


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        ({}, []),
        ({'files': {'train': [{'path': '/moved.csv', 'sum': 'x'}, {'path': '/2.csv', 'sum': 'y'}]}}, []),
        (
            {'files': {'train': [{'path': '/1.csv', 'sum': 'x'}, {'path': '/2.csv', 'sum': 'z'}]}},
            ['train: /2.csv has other content now'],
        ),
        (
            {'files': {'train': [{'path': '/1.csv', 'sum': 'x'}]}},
            ['train: /1.csv, /2.csv there, /1.csv now'],
        ),
        ({'keys': {}}, ['config.dataset.min_count: 2 there, the default now']),
        ({'release': '1.0.1'}, ["version of the dataset: '1.0.0' there, '1.0.1' now"]),
        (
            {'schema': {'label': 'buy', 'fields': MADE_OF['schema']['fields'][::-1]}},
            [
                "the schema: label: 'click' there, 'buy' now",
                'the schema: the fields are in another order',
            ],
        ),
    ],
)  # fmt: skip
def test_differences_of_data_in_words(change, told):
    assert data_changes.describe(MADE_OF, {**MADE_OF, **change}) == told
