"""Fetching from a server that breaks in all the ways servers break."""

import concurrent.futures
import io
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile

import pytest
from huggingface_hub import constants

from dlf_jax.data.download import fetch, http, published_files
from dlf_jax.errors import UserError
from dlf_jax.lock import locked
from tests.conftest import ROOT
from tests.data.download.file_server import CONTENT, TINY, Server, md5


@pytest.fixture
def server(monkeypatch):
    """The server, a client that asks no other one, and retries that come at once."""
    monkeypatch.setenv('no_proxy', '127.0.0.1,localhost')
    monkeypatch.delenv('HF_TOKEN', raising=False)
    monkeypatch.setenv('HF_HOME', '/nowhere')
    monkeypatch.setenv('HF_HUB_DISABLE_TELEMETRY', '1')
    # The client has read the variables of this process already.
    monkeypatch.setattr(constants, 'HF_TOKEN_PATH', '/nowhere/token')
    monkeypatch.setattr(constants, 'HF_HUB_DISABLE_TELEMETRY', True)
    monkeypatch.setattr(http, 'PAUSE_SECONDS', 0.01)
    sleep = time.sleep
    monkeypatch.setattr(time, 'sleep', lambda seconds: sleep(min(seconds, 0.02)))
    started = Server()
    thread = threading.Thread(target=started.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    yield started
    started.shutdown()
    started.server_close()
    thread.join(timeout=60)


def archive(compression=zipfile.ZIP_DEFLATED, folder='', **contents):
    """An archive of the files, each in the folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', compression) as file:
        file.writestr('README.md', 'hello')
        for name, content in {**CONTENT, **contents}.items():
            file.writestr(f'{folder}{name}', content)
    return buffer.getvalue()


def as_archive(server, **options):
    server.files = {'Tiny_x1.zip': archive(**options)}


def fetched(server, folder, **options):
    """Fetches and checks that the folder then holds the files and nothing unfinished."""
    paths = fetch.fetch(TINY, folder, accept=True, endpoint=server.endpoint, **options)
    assert list(paths) == ['train', 'valid', 'test']
    for path in paths.values():
        with open(path, 'rb') as file:
            assert file.read() == CONTENT[path.rsplit('/', 1)[-1]]
    allowed = {*CONTENT, '.lock', 'digests.json', 'Tiny_x1.zip'}
    assert {p.name for p in folder.iterdir()} - allowed == set()
    return paths


def partial(folder, name='train.csv'):
    """The one file of partial content."""
    (path,) = folder.glob(f'{name}.*.part')
    return path


def refused(server, folder):
    with pytest.raises(UserError) as error:
        fetch.fetch(TINY, folder, accept=True, endpoint=server.endpoint)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_files(server, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger='dlf_jax'):
        fetched(server, tmp_path / 'new')
    # The licence comes before anything is fetched.
    assert 'Tiny_x1 is for tests alone (http://example.org/licence' in caplog.messages[0]
    # Of the commit that the metadata are of, so that no new version can come between.
    assert [(r.status, r.revision) for r in server.gets()] == [(200, server.commit)] * 3
    assert len(json.loads((tmp_path / 'new' / 'digests.json').read_text())) == 3
    server.requests.clear()
    fetched(server, tmp_path / 'new')
    assert not server.requests  # not again
    (tmp_path / 'new' / 'valid.csv').unlink()
    fetched(server, tmp_path / 'new')
    assert [r.name for r in server.requests] == ['valid.csv'] * 2


def test_consent(server, tmp_path):
    with pytest.raises(UserError, match=r'for tests alone .*licence.*config\.dataset\.download=True'):
        fetch.fetch(TINY, tmp_path, accept=False, endpoint=server.endpoint)
    assert not server.requests
    fetched(server, tmp_path)
    fetch.fetch(TINY, tmp_path, accept=False, endpoint=server.endpoint)


def test_goes_on_after_every_break(server, tmp_path):
    server.drop_after = 25_000
    fetched(server, tmp_path)
    statuses = [r.status for r in server.gets('train.csv')]
    assert len(statuses) > http.RETRIES + 3
    assert statuses == [200] + [206] * (len(CONTENT['train.csv']) // 25_000)
    offsets = [int(re.search(r'\d+', r.range)[0]) for r in server.gets('train.csv')[1:]]
    assert offsets == [25_000 * (i + 1) for i in range(len(offsets))]


def test_goes_on_in_another_process(server, tmp_path):
    server.drop_after, server.answers = 50_000, [200] + [503] * 20
    assert 'HTTP 503' in refused(server, tmp_path)
    assert partial(tmp_path).stat().st_size == 50_000
    server.answers, server.requests, server.drop_after = [], [], 0
    fetched(server, tmp_path)
    assert [(r.range, r.status) for r in server.gets('train.csv')] == [('bytes=50000-', 206)]


@pytest.mark.parametrize('tags', [True, False])
def test_server_without_ranges(server, tmp_path, tags):
    server.ranges, server.tags = False, tags
    server.drop_after, server.drops = 50_000, 3
    fetched(server, tmp_path)
    assert [r.status for r in server.gets('train.csv')] == [200] * 4


def test_server_without_lengths(server, tmp_path):
    server.lengths = server.sizes = False
    fetched(server, tmp_path)


def test_connection_that_ends_early_without_a_word(server, tmp_path):
    """Without a length, the size that the metadata told shows that something is missing."""
    server.lengths, server.drop_after = False, 100_000
    fetched(server, tmp_path)
    assert [r.status for r in server.gets('train.csv')] == [200, 206, 206]


def test_more_content_than_announced(server, tmp_path):
    server.excess = b'more'
    assert 'fetched with md5' in refused(server, tmp_path)
    assert len(server.gets()) == 1
    server.excess = b''
    (tmp_path / 'train.csv.damaged').unlink()
    fetched(server, tmp_path)


def test_redirected_without_tags(server, tmp_path):
    """As on the hub: the storage behind it gives no tag, the hub does."""
    server.redirects, server.tags, server.drop_after = True, False, 100_000
    fetched(server, tmp_path)
    assert [r.status for r in server.gets('train.csv')][:2] == [200, 206]


@pytest.mark.parametrize('tagged', ['server', 'hub', 'none'])
@pytest.mark.parametrize('longer', [True, False])
def test_remote_file_changed(server, tmp_path, tagged, longer):
    """What was fetched of the old file is thrown away."""
    if tagged == 'none' and not longer:
        pytest.skip('nothing tells the two apart before the md5 sum does')
    server.tags, server.redirects = tagged == 'server', tagged == 'hub'
    old = CONTENT['train.csv'].replace(b'train', b'old--')
    server.files['train.csv'] = old + b'more' * longer
    server.drop_after, server.answers = 50_000, [200] + [503] * 20
    refused(server, tmp_path)
    server.answers, server.files = [200] + [503] * 20, dict(CONTENT)
    refused(server, tmp_path)
    assert partial(tmp_path).read_bytes() == CONTENT['train.csv'][:50_000]
    server.answers, server.drop_after = [], 0
    fetched(server, tmp_path)


def test_part_of_another_address(server, tmp_path):
    """Nothing but the address tells the two apart before the md5 sum does."""
    server.tags, server.drop_after, server.answers = False, 50_000, [200] + [503] * 20
    server.files['train.csv'] = CONTENT['train.csv'].replace(b'train', b'old--')
    with pytest.raises(UserError, match='HTTP 503'):
        fetch.fetch(TINY, tmp_path, accept=True, endpoint=f'http://localhost:{server.server_port}')
    assert partial(tmp_path).stat().st_size == 50_000
    server.files, server.drop_after, server.answers, server.requests = dict(CONTENT), 0, [], []
    fetched(server, tmp_path)
    assert server.gets('train.csv')[0].range is None


@pytest.mark.parametrize('held', ['all', 'more'])
def test_nothing_more_to_fetch(server, tmp_path, held):
    """Killed between the last byte and the check; or more was received than the file has."""
    server.drop_after, server.answers = 50_000, [200] + [503] * 20
    refused(server, tmp_path)
    partial(tmp_path).write_bytes(CONTENT['train.csv'] + b'more' * (held == 'more'))
    server.drop_after, server.answers, server.requests = 0, [], []
    fetched(server, tmp_path)
    assert [(r.range, r.status) for r in server.gets('train.csv')] == [(None, 200)] * (held == 'more')


@pytest.mark.parametrize('held', ['some', 'all', 'more'])
def test_size_unknown(server, tmp_path, held):
    """The server alone knows whether something is missing: it answers 416 where nothing is."""
    server.sizes, server.drop_after, server.answers = False, 50_000, [200] + [503] * 20
    refused(server, tmp_path)
    if held != 'some':
        partial(tmp_path).write_bytes(CONTENT['train.csv'] + b'more' * (held == 'more'))
    server.drop_after, server.answers, server.requests = 0, [], []
    fetched(server, tmp_path)
    expected = {'some': [206], 'all': [416], 'more': [416, 200]}
    assert [r.status for r in server.gets('train.csv')] == expected[held]


@pytest.mark.parametrize('status', [429, 500, 503])
def test_busy_server(server, tmp_path, status):
    server.head_answers, server.answers = [status, status], [status, status]
    fetched(server, tmp_path)
    assert [r.status for r in server.requests if r.name == 'train.csv'] == [status, status, 200] * 2


def test_server_that_stays_broken(server, tmp_path):
    server.head_answers = [502] * 50
    assert 'HTTP 502 Bad Gateway, repeatedly' in refused(server, tmp_path)
    assert len(server.requests) == http.RETRIES + 2  # asked once, then left to the client's own retries
    server.head_answers, server.answers, server.requests = [], [502] * 50, []
    assert 'HTTP 502 Bad Gateway, repeatedly' in refused(server, tmp_path)
    assert len(server.gets()) == http.RETRIES + 1
    server.answers, server.drop_after, server.ranges, server.requests = [], 1000, False, []
    message = refused(server, tmp_path)
    assert 'received 1000 bytes, expected' in message
    assert f'{http.RETRIES + 1} times without progress at byte 1,000' in message
    assert len(server.gets()) == http.RETRIES + 2  # the first one did bring something


def test_archive(server, tmp_path):
    as_archive(server, folder='Tiny_x1/')
    server.drop_after = 20_000
    fetched(server, tmp_path)
    assert [r.name for r in server.requests[:2]] == ['train.csv', 'Tiny_x1.zip']
    assert 206 in [r.status for r in server.gets('Tiny_x1.zip')]
    assert not (tmp_path / 'Tiny_x1.zip').exists()
    server.requests.clear()
    fetched(server, tmp_path)
    assert not server.requests


def test_archive_for_the_rest(server, tmp_path):
    server.files = {'train.csv': CONTENT['train.csv'], 'Tiny_x1.zip': archive(**{'train.csv': b'other'})}
    fetched(server, tmp_path)


def test_archive_put_there_by_hand(server, tmp_path):
    (tmp_path / 'Tiny_x1.zip').write_bytes(archive())
    fetched(server, tmp_path)
    assert not server.requests
    assert (tmp_path / 'Tiny_x1.zip').exists()  # not ours to remove


def test_archive_cannot_write_elsewhere(server, tmp_path):
    folder = tmp_path / 'a' / 'b'
    as_archive(server, folder='../../')
    fetched(server, folder)
    assert {p.name for p in tmp_path.iterdir()} == {'a'}
    assert {p.name for p in (tmp_path / 'a').iterdir()} == {'b'}


@pytest.mark.parametrize('damage', ['cut', 'bits', 'deflated bits', 'missing', 'twice', 'not a zip'])
def test_damaged_archive(server, tmp_path, damage):
    whole = archive(zipfile.ZIP_STORED)
    if damage == 'cut':
        server.files = {'Tiny_x1.zip': whole[:-300]}
    elif damage == 'bits':
        server.files = {'Tiny_x1.zip': whole.replace(b'train700', b'train7x0')}
    elif damage == 'deflated bits':
        deflated = archive()
        server.files = {'Tiny_x1.zip': deflated[:200] + bytes(200) + deflated[400:]}
    elif damage == 'twice':
        server.files = {'Tiny_x1.zip': archive(**{'copy/test.csv': b''})}
    elif damage == 'missing':
        server.files = {'Tiny_x1.zip': whole.replace(b'test.csv', b'text.csv')}
    else:
        server.files = {'Tiny_x1.zip': b'<html>hello</html>'}
    message = refused(server, tmp_path)
    assert 'Tiny_x1.zip: ' in message
    assert 'kept as Tiny_x1.zip.damaged' in message
    names = {p.name for p in tmp_path.iterdir()} - {'.lock', 'digests.json'}
    assert names == {'Tiny_x1.zip.damaged'}
    as_archive(server)
    (tmp_path / 'Tiny_x1.zip.damaged').unlink()
    fetched(server, tmp_path)


def test_wrong_content(server, tmp_path):
    wrong = CONTENT['valid.csv'].replace(b'1,valid7', b'0,valid7')
    server.files['valid.csv'] = wrong
    message = refused(server, tmp_path)
    for told in (md5(wrong), TINY.files['valid'].md5, 'valid.csv.damaged', 'http://example.org/tiny'):
        assert told in message
    assert (tmp_path / 'valid.csv.damaged').read_bytes() == wrong
    names = {p.name for p in tmp_path.iterdir()} - {'.lock', 'digests.json'}
    assert names == {'train.csv', 'valid.csv.damaged'}
    server.files = dict(CONTENT)
    (tmp_path / 'valid.csv.damaged').unlink()
    fetched(server, tmp_path)


def test_wrong_content_in_archive(server, tmp_path):
    wrong = CONTENT['valid.csv'].replace(b'1,valid7', b'0,valid7')
    as_archive(server, **{'valid.csv': wrong})
    message = refused(server, tmp_path)
    assert md5(wrong) in message
    assert not (tmp_path / 'valid.csv').exists()
    names = {p.name for p in tmp_path.iterdir()} - {'.lock', 'digests.json'}
    assert names == {'train.csv', 'valid.csv.damaged', 'Tiny_x1.zip.damaged'}


def test_files_there_already(server, tmp_path):
    """The published rows with other line ends are as good; anything else is set aside, not lost."""
    (tmp_path / 'valid.csv').write_bytes(CONTENT['valid.csv'].replace(b'\r\n', b'\n'))
    (tmp_path / 'test.csv').write_bytes(b'mine')
    paths = fetch.fetch(TINY, tmp_path, accept=True, endpoint=server.endpoint)
    assert [r.name for r in server.gets()] == ['train.csv', 'test.csv']
    assert b'\r' not in (tmp_path / 'valid.csv').read_bytes()
    assert (tmp_path / 'test.csv.damaged').read_bytes() == b'mine'
    with open(paths['test'], 'rb') as file:
        assert file.read() == CONTENT['test.csv']


@pytest.mark.parametrize('status', [401, 403, 404])
def test_server_says_no(server, tmp_path, status):
    server.head_answers = [status] * 9
    message = refused(server, tmp_path)
    assert f'HTTP {status}' in message
    assert ('(Access is restricted.)' in message) == (status != 404)
    assert (
        'download train.csv, valid.csv and test.csv (or Tiny_x1.zip) by hand from http://example.org/tiny '
        f'and put them into {tmp_path}, then run the same command again'
    ) in message
    assert len(server.requests) == (2 if status == 404 else 1)


@pytest.mark.parametrize('status', [401, 403, 404])
def test_server_says_no_to_the_content(server, tmp_path, status):
    server.redirects, server.answers = True, [status] * 9
    assert f'HTTP {status}' in refused(server, tmp_path)
    assert not (tmp_path / 'train.csv').exists()


def test_no_connection(tmp_path, server, monkeypatch):
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=r'train\.csv: Connection refused; download train\.csv, .* by hand'):
        fetch.fetch(TINY, tmp_path, accept=True, endpoint=f'http://127.0.0.1:{port}')

    def unknown(*_, **__):
        raise socket.gaierror(-2, 'Name or service not known')

    monkeypatch.setattr(socket, 'getaddrinfo', unknown)
    for key in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(key, raising=False)
    with pytest.raises(UserError, match=r"the server's name is not found .* by hand from"):
        fetch.fetch(TINY, tmp_path, accept=True, endpoint='http://nowhere.invalid')


def test_no_room(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage._replace(free=100_000))
    assert 'needs 0.00 GB more' in refused(server, tmp_path)
    assert [(r.method, r.name) for r in server.requests] == [('HEAD', 'train.csv'), ('GET', 'train.csv')]
    assert not list(tmp_path.glob('*.part'))
    assert not (tmp_path / 'train.csv').exists()
    # The archive is small enough; what is in it is not.
    as_archive(server)
    assert 'Tiny_x1.zip' in refused(server, tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage)
    fetched(server, tmp_path)
    assert len(server.gets('Tiny_x1.zip')) == 1


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot make the folder: Not a directory'):
        fetch.fetch(TINY, tmp_path / 'file' / 'folder', accept=True, endpoint=server.endpoint)


def test_disk_that_fills(server, tmp_path):
    """Other writers may take the room that was free at the start."""
    code = (
        'import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); '
        'resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); '
        'from dlf_jax.data.download import fetch; from tests.data.download.file_server import TINY; '
        f'fetch.fetch(TINY, {str(tmp_path)!r}, accept=True, endpoint={server.endpoint!r})'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert re.search(r'UserError: cannot write .*train\.csv\.\w+\.part: no space left', done.stderr), (
        done.stderr
    )
    assert len(server.gets()) == 1
    fetched(server, tmp_path)
    assert server.gets()[1].range == 'bytes=100000-'


def test_two_processes_fetch_once(server, tmp_path):
    server.seconds = 0.1
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        runs = [
            pool.submit(
                fetch.fetch, TINY, tmp_path, accept=True, data_dir=f'{tmp_path}/{i}', endpoint=server.endpoint
            )
            for i in range(3)
        ]
    assert all(run.result() == runs[0].result() for run in runs)
    assert len(server.gets()) == 3


def test_waiting_is_told(server, tmp_path, caplog):
    options = {'accept': True, 'endpoint': server.endpoint}
    with caplog.at_level(logging.INFO, logger='dlf_jax'), locked(tmp_path / '.lock', wait=False):
        thread = threading.Thread(target=fetch.fetch, args=(TINY, tmp_path), kwargs=options)
        thread.start()
        deadline = time.monotonic() + 5
        while not any('waiting for it' in text for text in caplog.messages):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not server.requests
    thread.join(timeout=60)
    assert len(server.gets()) == 3
    fetched(server, tmp_path)


def test_killed_and_started_again(server, tmp_path):
    server.seconds = 30.0
    code = (
        'from dlf_jax.data.download import fetch; from tests.data.download.file_server import TINY; '
        f'fetch.fetch(TINY, {str(tmp_path)!r}, accept=True, endpoint={server.endpoint!r})'
    )
    process = subprocess.Popen([sys.executable, '-c', code], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not any(part.stat().st_size for part in tmp_path.glob('train.csv.*.part')):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait(timeout=60)
    held = partial(tmp_path).stat().st_size
    assert not (tmp_path / 'train.csv').exists()
    server.seconds, server.requests = 0.0, []
    fetched(server, tmp_path)
    assert server.gets('train.csv')[0].range == f'bytes={held}-'


def test_environment(server, tmp_path):
    """The hub's variables; the token goes to the hub, not to the storage behind it, and into no log."""
    server.redirects = True
    code = (
        'import logging; logging.basicConfig(level=logging.DEBUG); '
        'from dlf_jax.data.download import fetch; from tests.data.download.file_server import TINY; '
        f'fetch.fetch(TINY, {str(tmp_path)!r}, accept=True)'
    )
    variables = {'HF_ENDPOINT': server.endpoint, 'HF_TOKEN': 'hf_secret', 'HF_DEBUG': '1'}

    def run(**more):
        return subprocess.run(
            [sys.executable, '-c', code],
            env={**os.environ, **variables, **more},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )

    offline = run(HF_HUB_OFFLINE='1')
    assert 'UserError: ' in offline.stderr
    assert 'offline mode is enabled by the environment variable HF_HUB_OFFLINE; download' in offline.stderr
    assert not server.requests
    online = run()
    assert online.returncode == 0, online.stderr
    assert 'train.csv' in online.stderr
    assert 'hf_secret' not in online.stdout + online.stderr
    fetched(server, tmp_path)
    assert {r.method for r in server.requests if r.revision} == {'HEAD', 'GET'}
    assert {r.authorization for r in server.requests if r.revision} == {'Bearer hf_secret'}
    assert [r.authorization for r in server.requests if not r.revision] == [None] * 3


def test_raw_forms_are_fetched_by_hand(tmp_path):
    with pytest.raises(
        UserError, match=r'download train\.txt by hand from https://www\.kaggle\.com/c/criteo'
    ):
        fetch.fetch(published_files.CRITEO_RAW, tmp_path, accept=True)
    (tmp_path / 'train.csv').write_text('id,click\n')
    paths = fetch.fetch(published_files.AVAZU_RAW, tmp_path, accept=False)
    assert paths == {'train': str(tmp_path / 'train.csv')}
