"""Lock of a folder in a store: one holder; a dead one's is taken when it is stale."""

import json
import time

import pytest

from dlf_jax.errors import UserError
from dlf_jax.storage import conditional, settings, store_lock
from dlf_jax.storage.manifest import LOCK
from dlf_jax.storage.store import Store
from dlf_jax.storage.store_lock import StoreLock


@pytest.fixture
def lock(memory):
    settings.choose(lock_seconds=0.4)
    made = []

    def make():
        made.append(StoreLock(memory))
        return made[-1]

    yield make
    for one in made:
        one._ended.set()


def elsewhere(monkeypatch):
    """From now on this process is one of another machine."""
    monkeypatch.setattr(store_lock, '_process', lambda: 'other|boot|space|1|1')


def test_a_second_one_of_this_machine_is_refused_at_once(lock, memory):
    first = lock()
    first.acquire()
    with pytest.raises(UserError, match=f'{memory}: another process is working here'):
        lock().acquire()
    first.release()
    lock().acquire()


def test_one_of_another_machine_is_refused_once_the_holder_gives_a_sign(lock, monkeypatch):
    first = lock()
    first.acquire()
    elsewhere(monkeypatch)
    with pytest.raises(UserError, match='another process is working here'):
        lock().acquire()
    first.release()
    lock().acquire()


def test_a_stale_lock_is_taken_and_its_holder_writes_no_more(lock, memory, monkeypatch):
    first = lock()
    first.acquire()
    # It stands still, as in a debugger, but does not end.
    first._ended.set()
    first._thread.join(60)
    elsewhere(monkeypatch)
    start = time.monotonic()
    lock().acquire()
    assert 0.4 <= time.monotonic() - start < 5
    first._ended.clear()
    first._renew()
    with pytest.raises(UserError, match='has taken the lock'):
        first.check()
    first.release()
    assert not json.loads(Store.of(memory).read(f'{memory}/{LOCK}')[0])['released']


def test_the_lock_of_a_dead_process_of_this_machine_is_taken_at_once(lock, memory):
    settings.choose(lock_seconds=60)
    dead = store_lock._process().split('|')
    text = json.dumps({'process': '|'.join([*dead[:3], '999999999', '1']), 'seconds': 60})
    Store.of(memory).replace(f'{memory}/{LOCK}', text.encode(), None)
    start = time.monotonic()
    lock().acquire()
    assert time.monotonic() - start < 5


def test_a_store_without_conditions_says_so(lock, memory, monkeypatch, caplog):
    store = Store.of(memory)
    monkeypatch.setattr(conditional, '_SETTLED', 0.01)
    monkeypatch.setattr(store, 'replacement', conditional._Unconditional(store._fs))
    first = lock()
    with caplog.at_level('WARNING', 'dlf_jax'):
        first.acquire()
    assert 'does not write on conditions' in caplog.text
    with pytest.raises(UserError, match='another process is working here'):
        lock().acquire()
    first.release()


def test_a_store_that_ignores_conditions_is_found_out(lock, memory, monkeypatch, caplog):
    store = Store.of(memory)

    def ignoring(path, content, tag):
        store._fs.pipe_file(path, content)
        return ''

    monkeypatch.setattr(store.replacement, 'replace', ignoring)
    with caplog.at_level('WARNING', 'dlf_jax'):
        lock().acquire()
    assert 'does not write on conditions' in caplog.text


def test_on_s3(bucket, s3):
    first = StoreLock(bucket)
    first.acquire()
    with pytest.raises(UserError, match='another process is working here'):
        StoreLock(bucket).acquire()
    first.release()
