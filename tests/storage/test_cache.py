"""The local cache: bounded, the longest unused goes, and what any living process uses stays."""

import errno
import os
import subprocess
import sys

import pytest

from dlf_jax.errors import UsageError, UserError
from dlf_jax.storage import cache as caches
from dlf_jax.storage import inputs, settings
from dlf_jax.storage.store import Store


def filled(kind, name, size, age=0):
    entry = caches.use(kind, name)
    (entry / 'data').write_bytes(bytes(size))
    now = entry.stat().st_mtime
    os.utime(entry, (now - age, now - age))
    return entry


def forget_uses():
    """As if this process had ended."""
    for file in caches._own.values():
        file.close()
    caches._own.clear()


def test_the_longest_unused_goes_and_what_is_used_stays(cache):
    settings.choose(cache_gb=1e-6)
    old, newer = filled('inputs', 'old', 300, age=100), filled('inputs', 'newer', 300, age=50)
    forget_uses()
    used = filled('read', 'used', 300, age=1000)
    caches.make_room(200, 's3://bucket/a')
    assert (old.exists(), newer.exists(), used.exists()) == (False, True, True)
    with pytest.raises(UserError, match=r's3://bucket/a: needs .* DLF_JAX_CACHE_GB'):
        caches.make_room(800, 's3://bucket/a')
    assert used.exists()


def test_what_another_process_uses_stays(cache):
    settings.choose(cache_gb=1e-6)
    code = (
        f'from dlf_jax.storage import cache, settings; settings.choose(cache={str(cache)!r});'
        "(cache.use('inputs', 'theirs') / 'data').write_bytes(bytes(900)); print(flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    with pytest.raises(UserError, match='in use'):
        caches.make_room(200, 's3://bucket/a')
    process.kill()
    process.wait(60)
    caches.make_room(200, 's3://bucket/a')
    assert not (cache / 'inputs' / 'theirs').exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(cache, memory, tmp_path, monkeypatch):
    (tmp_path / 'a.csv').write_bytes(b'a\n1\n')
    store = Store.of(memory)
    store.write(tmp_path / 'a.csv', f'{memory}/a.csv')

    def full(path, target):
        with open(target, 'wb') as file:
            file.write(b'a')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(store._fs, 'get_file', full)
        with pytest.raises(UserError) as caught:
            inputs.local_file(f'{memory}/a.csv', '--input')
    assert str(caught.value).startswith(f'cannot write a local copy of {memory}/a.csv: no space left')
    assert not [path for path in cache.rglob('*a.csv*') if path.is_file()]
    assert inputs.local_file(f'{memory}/a.csv', '--input').read_bytes() == b'a\n1\n'


def test_a_changed_object_is_fetched_anew(memory, tmp_path):
    place, source = f'{memory}/dt=1/a.csv', tmp_path / 'a.csv'
    source.write_text('1')
    Store.of(memory).write(source, place)
    first = inputs.local_file(place, '--input')
    assert str(first).endswith('/dt=1/a.csv')
    assert inputs.local_file(place, '--input') == first
    source.write_text('2')
    Store.of(memory).write(source, place)
    assert inputs.local_file(place, '--input').read_text() == '2'
    assert str(UserError(f'{first}: row 3')) == f'{place}: row 3'


def test_settings_that_cannot_be(monkeypatch):
    monkeypatch.setenv('DLF_JAX_CACHE_GB', 'much')
    with pytest.raises(UsageError, match="DLF_JAX_CACHE_GB='much': expected a number above 0"):
        settings.current()
    with pytest.raises(UsageError):
        settings.choose(lock_seconds=0)
