"""A workdir in a store: what is there at any moment is a state that a run goes on from to the same bits."""

import os
import shutil

import pytest
from fsspec.implementations.memory import MemoryFileSystem

import dlf_jax
from dlf_jax.errors import UserError
from dlf_jax.storage import manifest, settings, working_copy
from dlf_jax.storage.store import Store
from dlf_jax.training import preemption
from tests.conftest import config_of
from tests.test_resume import BUSY, assert_same

SHORT = (*BUSY, '--config.training.epochs=2', '--config.training.checkpoint_every=6')


def objects():
    return {name: bytes(file.getvalue()) for name, file in MemoryFileSystem.store.items()}


@pytest.fixture(scope='module')
def states(tmp_path_factory, data_dir, compiled_once):
    """All states that the store had while a run was trained, and the same run in a local folder."""
    config, folder = config_of(*SHORT), tmp_path_factory.mktemp('states')
    dlf_jax.train(config, folder / 'run', data_dir)
    settings.choose(cache=folder / 'cache')
    found, replace, write = [], Store.replace, Store.write

    def recorded(method):
        def call(*arguments):
            result = method(*arguments)
            found.append(objects())
            return result

        return call

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Store, 'replace', recorded(replace))
        patched.setattr(Store, 'write', recorded(write))
        MemoryFileSystem.store.clear()
        dlf_jax.train(config, 'memory://run', data_dir)
    settings.choose(cache=None)
    return found, folder / 'run'


def goes_on(state, expected, data_dir, cache):
    """Trains on from a state of the store, as on a fresh machine."""
    shutil.rmtree(cache, ignore_errors=True)
    MemoryFileSystem.store.clear()
    for name, content in state.items():
        # The process that had the lock is this one, which lives.
        MemoryFileSystem().pipe_file(name, content.replace(b'|%d|' % os.getpid(), b'|999999999|'))
    dlf_jax.train(config_of(*SHORT), 'memory://run', data_dir)
    there = manifest.read('memory://run')
    manifest.pull('memory://run', there, cache / 'found')
    assert_same(cache / 'found', expected)
    # What killed ones have left is gone.
    named = {file.object for file in there.files.values()} | {manifest.NAME, manifest.LOCK}
    assert set(manifest.objects_below('memory://run')) == named


def test_goes_on_from_what_a_kill_has_left(states, data_dir, cache):
    found, expected = states
    steps = [sum('/checkpoints/' in name and '_CHECKPOINT_METADATA' in name for name in one) for one in found]
    # In the middle of an upload, after the first checkpoint.
    middle = next(i for i, count in enumerate(steps) if count == 2) + 3
    assert f'{manifest.NAME}' in ''.join(found[middle])
    goes_on(found[middle], expected, data_dir, cache)


@pytest.mark.slow
def test_goes_on_from_every_state(states, data_dir, cache):
    found, expected = states
    for state in found[::4]:
        goes_on(state, expected, data_dir, cache)


def test_a_workdir_of_something_else_is_refused_and_stays(memory, tmp_path):
    (tmp_path / 'x').write_text('1')
    Store.of(memory).write(tmp_path / 'x', f'{memory}/x.csv')
    with pytest.raises(UserError, match=r'holds x.csv and no'), working_copy.opened(memory):
        pass
    assert manifest.objects_below(memory) == ['x.csv']


def test_what_cannot_be_kept_is_told_at_the_next_save(memory, monkeypatch):
    with pytest.raises(UserError, match='no rights'), working_copy.opened(memory) as (path, keeper):  # noqa: PT012
        (path / 'a').write_text('1')
        keeper.flush()

        def refuse(*arguments):
            raise UserError('no rights')

        monkeypatch.setattr(Store, 'write', refuse)
        (path / 'a').write_text('2')
        keeper.keep()
        keeper._thread.join(10)
        keeper.check()
    monkeypatch.undo()
    with working_copy.opened(memory) as (path, _):
        # The store is the truth.
        assert (path / 'a').read_text() == '1'


def test_a_checkpoint_that_is_being_removed_is_no_part_of_a_state(memory):
    with working_copy.opened(memory) as (path, keeper):
        for step in ('1', '2'):
            (path / 'checkpoints' / step).mkdir(parents=True)
            for name in ('.hidden', 'b'):
                (path / 'checkpoints' / step / name).write_text(step + name)
            keeper._see_checkpoints()
        (path / 'checkpoints' / '3.orbax-checkpoint-tmp').mkdir()
        (path / 'checkpoints' / '3.orbax-checkpoint-tmp' / 'c').write_text('3')
        (path / '.lock').touch()
        keeper.flush()
        names = ['checkpoints/1/.hidden', 'checkpoints/1/b', 'checkpoints/2/.hidden', 'checkpoints/2/b']
        assert sorted(manifest.read(memory).files) == names
        (path / 'checkpoints' / '1' / 'b').unlink()
        keeper.flush()
        assert sorted(manifest.read(memory).files) == names[2:]


def test_two_runs_at_once(memory, data_dir):
    config = config_of(*SHORT)
    with (
        working_copy.opened(memory),
        pytest.raises(UserError, match=f'{memory}: another process is working here'),
    ):
        dlf_jax.train(config, memory, data_dir)


def test_several_processes_are_refused(data_dir):
    config = config_of(*SHORT, '--config.distributed.coordinator=auto')
    with pytest.raises(UserError, match='a URL is for one process'):
        dlf_jax.train(config, 'memory://run', data_dir)


def test_a_request_to_stop_keeps_the_step(memory, data_dir, compiled_once):
    stop = preemption.Preemption()
    stop.request_stop('test')
    with pytest.raises(preemption.Preempted, match='step 1'):
        dlf_jax.train(config_of(*SHORT), memory, data_dir, stop)
    assert 'checkpoints/1/_CHECKPOINT_METADATA' in manifest.read(memory).files
