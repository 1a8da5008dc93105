"""Objects of a store that delays, throttles, hangs up, loses answers and sends less or other than it has."""

import logging
import traceback

import fsspec
import pytest

from dlf_jax.errors import UsageError, UserError
from dlf_jax.storage import retry, settings, urls
from dlf_jax.storage import store as stores
from dlf_jax.storage.store import Store
from tests.storage.object_store import GET, KEY, LISTING, PUT, SECRET, Faults


def rounds(bucket, tmp_path, count):
    """Writes, reads, lists, replaces and removes; all that comes back is right."""
    store, source, target = Store.of(bucket), tmp_path / 'source', tmp_path / 'target'
    tag = None
    for i in range(count):
        source.write_bytes(bytes([i % 256]) * (3000 + i))
        store.write(source, f'{bucket}/dt={i}/part')
        store.fetch(f'{bucket}/dt={i}/part', target)
        assert target.read_bytes() == source.read_bytes()
        found = store.list(bucket)
        assert [info.size for place, info in found.items() if place.endswith(f'/dt={i}/part')] == [3000 + i]
        assert len(found) == min(i + 1, 4) + (i > 0)
        old = tag
        tag = store.replace(f'{bucket}/marker', f'{i}'.encode(), old)
        assert tag
        assert store.replace(f'{bucket}/marker', b'of another', old) is None
        assert store.read(f'{bucket}/marker') == (f'{i}'.encode(), tag)
        if i > 2:
            store.delete([f'{bucket}/dt={i - 3}/part'])
            assert store.info(f'{bucket}/dt={i - 3}/part') is None
    assert not list(tmp_path.glob('.*'))


def test_objects(bucket, tmp_path):
    rounds(bucket, tmp_path, 3)
    assert Store.of(bucket).read(f'{bucket}/no') is None
    with pytest.raises(FileNotFoundError):
        Store.of(bucket).fetch(f'{bucket}/no', tmp_path / 'no')
    assert Store.of(bucket).list(f'{bucket}/nothing') == {}


def test_injected_faults_are_waited_out(s3, bucket, tmp_path):
    s3.faults = Faults(0.2, tuple({*GET, *LISTING, *PUT} - {'delay'}), seed=1)
    rounds(bucket, tmp_path, 2)
    assert sum(s3.faults.counts.values()) > 5


@pytest.mark.slow
def test_200_injected_faults_none_silent(s3, bucket, tmp_path):
    settings.choose(patience=120)
    s3.faults = Faults(0.25, seed=2)
    i = 0
    while sum(s3.faults.counts.values()) < 200:
        rounds(f'{bucket}/{i}', tmp_path, 8)
        i += 1
    print(dict(s3.faults.counts), s3.faults.requests)
    assert set(s3.faults.counts) == {*GET, *LISTING, *PUT}


@pytest.mark.parametrize(
    'kind',
    [
        'short',
        'SlowDown',
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ('cut', 'no answer', '500', 'damaged')),
    ],
)
def test_a_fault_that_stays_is_one_line(kind, s3, bucket, tmp_path):
    (tmp_path / 'source').write_bytes(b'0123456789' * 100)
    store = Store.of(bucket)
    store.write(tmp_path / 'source', f'{bucket}/a')
    settings.choose(patience=0.05)
    s3.faults = Faults(1, (kind,))
    with pytest.raises(UserError) as caught:
        store.fetch(f'{bucket}/a', tmp_path / 'target')
    assert str(caught.value).startswith(f'{bucket}/a: reading it failed')
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'target').exists()


def test_a_listing_that_changes_each_time_is_not_believed(s3, bucket, tmp_path):
    (tmp_path / 'source').write_bytes(b'1')
    store = Store.of(bucket)
    for i in range(8):
        store.write(tmp_path / 'source', f'{bucket}/{i}')
    s3.faults = Faults(0.25, ('lost entries',), seed=5)
    for _ in range(8):
        assert len(store.list(bucket)) == 8
    assert s3.faults.counts['lost entries']
    s3.faults = Faults(1, ('lost entries',), seed=5)
    with pytest.raises(UserError, match='each listing of it is another one'):
        store.list(bucket)


def test_secrets_are_told_nowhere(s3, bucket, monkeypatch, caplog):
    settings.choose(patience=0.5)
    # Not a name of the store's: the server checks no key, and a refusal must be made.
    monkeypatch.setenv('AWS_ENDPOINT_URL', 'http://127.0.0.1:9')
    stores._store.cache_clear()
    with caplog.at_level(logging.INFO, 'dlf_jax'), pytest.raises(UserError) as caught:
        Store.of(bucket).read(f'{bucket}/a')
    text = ''.join(traceback.format_exception(caught.value)) + caplog.text
    assert SECRET not in text
    assert KEY not in text
    hidden = retry.without_secrets(
        f'PUT https://x/?X-Amz-Signature=abcd1234&b=1 Authorization: AWS4 {KEY}, {SECRET} sftp://me:pw@host/x'
    )
    for secret in ('abcd1234', KEY, SECRET, 'pw@', 'me:'):
        assert secret not in hidden
    with pytest.raises(UsageError, match='leave it out') as refused:
        urls.check(f's3://{KEY}:{SECRET}@bucket/run')
    assert SECRET not in str(refused.value)


def test_missing_credentials_are_one_line(s3, bucket, monkeypatch):
    for name in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'):
        monkeypatch.delenv(name)
    monkeypatch.setenv('AWS_SHARED_CREDENTIALS_FILE', '/nonexistent')
    monkeypatch.setenv('AWS_CONFIG_FILE', '/nonexistent')
    stores._store.cache_clear()
    with pytest.raises(UserError, match='found no valid credentials'):
        Store.of(bucket).read(f'{bucket}/a')


def test_a_missing_extra_is_named(monkeypatch):
    def missing(*arguments, **options):
        raise ImportError('Install s3fs to access S3')

    monkeypatch.setattr(fsspec, 'filesystem', missing)
    with pytest.raises(UserError, match=r"s3a://: needs pip install 'dlf_jax\[s3\]'"):
        Store('s3a')
    with pytest.raises(UserError, match='no installed package'):
        Store('nope')


def test_a_store_in_memory(tmp_path):
    rounds('memory://objects', tmp_path, 4)
    assert Store.of('memory://objects').is_exclusive


@pytest.mark.parametrize(
    ('name', 'is_url'),
    [('s3://a/b', True), ('GS://a', True), ('file:///a', False), ('/a', False), ('a:b', False), ('', False)],
)
def test_urls(name, is_url):
    assert urls.is_url(name) == is_url
    if name.startswith('file'):
        assert urls.plain(name) == '/a'


@pytest.mark.parametrize('url', ['s3://', 's3:///', 's3://bucket//run', 's3://bucket/../run'])
def test_urls_that_cannot_be(url):
    with pytest.raises(UsageError):
        urls.check(url)
