"""Folders in a store: whole or not there, whatever a killed writer leaves and whoever writes beside."""

import contextlib
import json

import pytest

from dlf_jax.errors import UserError
from dlf_jax.storage import manifest, outputs, snapshot
from dlf_jax.storage.manifest import Manifest, Pusher
from dlf_jax.storage.store import Store


def files(folder, **contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (folder / name).write_text(text)
    return folder


def texts(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob('*') if p.is_file()}


def test_what_is_new_goes_up_and_what_is_dropped_goes(memory, tmp_path):
    folder, pusher = files(tmp_path / 'a', x='1', y='2'), Pusher(memory, None)
    assert pusher.push(folder, ['x', 'y'])
    first = manifest.read(memory)
    assert not pusher.push(folder, ['x', 'y'])
    files(folder, x='other', z='3')
    pusher.push(folder, ['x', 'z'])
    second = manifest.read(memory)
    assert (second.number, set(second.files)) == (2, {'x', 'z'})
    there = set(manifest.objects_below(memory))
    assert there == {manifest.NAME, *(file.object for file in second.files.values())}
    assert not there & {file.object for file in first.files.values()}
    # A local copy of the first is brought level; a file that is as it should be is not fetched.
    copy = files(tmp_path / 'copy', x='old', y='2', z='3', extra='5')
    (copy / 'empty').mkdir()
    assert manifest.pull(memory, second, copy) == len('other')
    assert texts(copy) == {'x': 'other', 'z': '3'}
    assert not (copy / 'empty').exists()


def test_objects_without_a_manifest_do_not_exist(memory, tmp_path, monkeypatch):
    folder = files(tmp_path / 'a', x='1')
    pusher = Pusher(memory, None)

    def killed(self, url, content, tag):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Store, 'replace', killed)
        with pytest.raises(KeyboardInterrupt):
            pusher.push(folder, ['x'])
    (left,) = manifest.objects_below(memory)
    assert manifest.of_listing(memory) == Manifest({})
    assert texts(snapshot.local(memory)) == {}
    other = Pusher(memory, None)
    other.push(folder, ['x'])
    other.clean()
    assert left not in manifest.objects_below(memory)
    assert texts(snapshot.local(memory)) == {'x': '1'}


def test_one_of_two_writers_is_refused(memory, tmp_path):
    first, second = Pusher(memory, None), Pusher(memory, None)
    first.push(files(tmp_path / 'a', x='1'), ['x'])
    with pytest.raises(manifest.Conflict, match='another process has written there'):
        second.push(files(tmp_path / 'b', x='2'), ['x'])
    assert texts(snapshot.local(memory)) == {'x': '1'}


def test_a_reader_begins_anew_where_a_writer_replaces_what_it_reads(memory, tmp_path, monkeypatch):
    pusher = Pusher(memory, None)
    pusher.push(files(tmp_path / 'a', x='1'), ['x'])
    fetch = Store.fetch

    def overtaken(self, url, *arguments):
        if pusher.there.number == 1:
            pusher.push(files(tmp_path / 'a', x='2'), ['x'])
        fetch(self, url, *arguments)

    monkeypatch.setattr(Store, 'fetch', overtaken)
    assert texts(snapshot.local(memory)) == {'x': '2'}


def test_a_lost_object_is_one_line(memory, tmp_path):
    Pusher(memory, None).push(files(tmp_path / 'a', x='1'), ['x'])
    (file,) = manifest.read(memory).files.values()
    Store.of(memory).delete([f'{memory}/{file.object}'])
    with pytest.raises(UserError, match='the store has lost it'):
        snapshot.local(memory)


@pytest.mark.parametrize('name', ['../x', '/x', 'a/../../x', ''])
def test_a_manifest_writes_nowhere_else(name, memory, tmp_path):
    entry = {'object': 'x', 'size': 1, 'sha256': ''}
    text = json.dumps({'version': 1, 'number': 1, 'files': {name: entry}})
    Store.of(memory).replace(f'{memory}/{manifest.NAME}', text.encode(), None)
    with pytest.raises(UserError, match='is no manifest'):
        snapshot.local(memory)


def test_a_folder_that_somebody_copied_there_is_read_by_its_listing(memory, tmp_path):
    for name in ('x', 'y'):
        Store.of(memory).write(files(tmp_path / 'a', x='1', y='2') / name, f'{memory}/sub/{name}')
    copy = snapshot.local(memory)
    assert texts(copy) == {'sub/x': '1', 'sub/y': '2'}
    assert snapshot.local(memory) == copy
    Store.of(memory).write(files(tmp_path / 'a', x='3') / 'x', f'{memory}/sub/x')
    assert texts(snapshot.local(memory)) == {'sub/x': '3', 'sub/y': '2'}


def test_outputs_have_their_names_and_the_manifest_comes_last(memory, tmp_path):
    with outputs.folder(memory) as folder:
        files(folder / 'sub', x='1', y='2')
    assert set(manifest.objects_below(memory)) == {manifest.NAME, 'sub/x', 'sub/y'}
    with contextlib.suppress(KeyError), outputs.folder(memory) as folder:
        files(folder, z='3')
        raise KeyError
    assert texts(snapshot.local(memory)) == {'sub/x': '1', 'sub/y': '2'}
    with outputs.folder(memory) as folder:
        files(folder, z='3')
    assert set(manifest.objects_below(memory)) == {manifest.NAME, 'z'}
    Pusher(f'{memory}/cut', None)._replace(None)
    with pytest.raises(UserError, match='its writing was cut short'):
        snapshot.local(f'{memory}/cut')
    with outputs.file(f'{memory}/scores.csv') as file:
        file.write_text('a')
    assert Store.of(memory).read(f'{memory}/scores.csv')[0] == b'a'
    with (
        pytest.raises(UserError, match='objects that no export has put there'),
        outputs.folder('memory://' + memory.removeprefix('memory://').partition('/')[0] + '/none'),
    ):
        raise UserError('objects that no export has put there')
