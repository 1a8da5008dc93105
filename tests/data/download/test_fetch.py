"""Fetching from a server that breaks in all the ways servers break."""

import concurrent.futures
import io
import json
import logging
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile

import pytest

from dlf_jax.data.download import fetch, http, published_files
from dlf_jax.errors import UserError
from dlf_jax.lock import locked
from tests.conftest import ROOT
from tests.data.download.file_server import CONTENT, TINY, Server, md5


@pytest.fixture
def server(monkeypatch):
    """The server, and retries that come at once."""
    monkeypatch.setenv('no_proxy', '127.0.0.1,localhost')
    monkeypatch.setattr(http, 'PAUSE_SECONDS', 0.01)
    started = Server()
    thread = threading.Thread(target=started.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    yield started
    started.shutdown()
    started.server_close()
    thread.join()


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
    paths = fetch.fetch(TINY, folder, accept=True, base=server.base, **options)
    assert list(paths) == ['train', 'valid', 'test']
    for path in paths.values():
        with open(path, 'rb') as file:
            assert file.read() == CONTENT[path.rsplit('/', 1)[-1]]
    allowed = {*CONTENT, '.lock', 'digests.json', 'Tiny_x1.zip'}
    assert {p.name for p in folder.iterdir()} - allowed == set()
    return paths


def refused(server, folder):
    with pytest.raises(UserError) as error:
        fetch.fetch(TINY, folder, accept=True, base=server.base)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_files(server, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger='dlf_jax'):
        fetched(server, tmp_path / 'new')
    # The licence comes before anything is fetched.
    assert 'Tiny_x1 is for tests alone (http://example.org/licence' in caplog.messages[0]
    assert len(server.asked) == 3
    fetched(server, tmp_path / 'new')
    assert len(server.asked) == 3  # not again
    assert len(json.loads((tmp_path / 'new' / 'digests.json').read_text())) == 3
    (tmp_path / 'new' / 'valid.csv').unlink()
    fetched(server, tmp_path / 'new')
    assert len(server.asked) == 4


def test_consent(server, tmp_path):
    with pytest.raises(UserError, match=r'for tests alone .*licence.*config\.dataset\.download=True'):
        fetch.fetch(TINY, tmp_path, accept=False, base=server.base)
    assert not server.asked
    fetched(server, tmp_path)
    fetch.fetch(TINY, tmp_path, accept=False, base=server.base)


def test_goes_on_after_every_break(server, tmp_path):
    server.drop_after = 25_000
    fetched(server, tmp_path)
    statuses = [status for *_, status in server.requests('train.csv')]
    assert len(statuses) > http.TRIES + 2
    assert statuses == [200] + [206] * (len(CONTENT['train.csv']) // 25_000)
    offsets = [int(re.search(r'\d+', wanted)[0]) for _, wanted, _, _ in server.requests('train.csv')[1:]]
    assert offsets == [25_000 * (i + 1) for i in range(len(offsets))]
    assert server.requests('train.csv')[1][2]  # with If-Range


def test_goes_on_in_another_process(server, tmp_path):
    server.drop_after, server.answers = 50_000, [200] + [503] * 20
    assert 'HTTP 503' in refused(server, tmp_path)
    assert (tmp_path / 'train.csv.part').stat().st_size == 50_000
    server.answers, server.asked, server.drop_after = [], [], 0
    fetched(server, tmp_path)
    assert server.requests('train.csv')[0][1:] == ('bytes=50000-', f'"{TINY.files["train"].md5[:8]}"', 206)


@pytest.mark.parametrize('tags', [True, False])
def test_server_without_ranges(server, tmp_path, tags):
    server.ranges, server.tags = False, tags
    server.drop_after, server.drops = 50_000, 3
    fetched(server, tmp_path)
    assert [status for *_, status in server.requests('train.csv')] == [200] * 4


def test_server_without_lengths(server, tmp_path):
    server.lengths = False
    fetched(server, tmp_path)


def test_redirected_without_tags(server, tmp_path):
    """As on the hub: the storage behind it gives no tag, the hub does."""
    server.redirects, server.tags, server.drop_after = True, False, 100_000
    fetched(server, tmp_path)
    assert [s for *_, s in server.requests('train.csv')][:2] == [200, 206]


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
    server.answers, server.files, server.drop_after = [], dict(CONTENT), 0
    fetched(server, tmp_path)


def test_part_of_another_address(server, tmp_path):
    server.files['train.csv'] = b'other'
    refused(server, tmp_path)
    (tmp_path / 'train.csv.damaged').rename(tmp_path / 'train.csv.part')
    state = {'url': 'http://example.org/train.csv', 'tag': '', 'linked': '', 'length': 5}
    (tmp_path / 'train.csv.part.json').write_text(json.dumps(state))
    server.files = dict(CONTENT)
    fetched(server, tmp_path)


@pytest.mark.parametrize('held', ['all', 'more'])
def test_range_past_the_end(server, tmp_path, held):
    """A part that is complete, or too long, of a file whose length was not known: 416."""
    content = CONTENT['train.csv'] + b'more' * (held == 'more')
    (tmp_path / 'train.csv.part').write_bytes(content)
    state = {'url': f'{server.base}/train.csv', 'tag': '', 'linked': '', 'length': 0}
    (tmp_path / 'train.csv.part.json').write_text(json.dumps(state))
    fetched(server, tmp_path)
    statuses = [status for *_, status in server.requests('train.csv')]
    assert statuses == ([416] if held == 'all' else [416, 200])


@pytest.mark.parametrize('status', [429, 500, 503])
def test_busy_server(server, tmp_path, status):
    server.answers = [status, status]
    fetched(server, tmp_path)
    assert [s for *_, s in server.requests('train.csv')] == [status, status, 200]


def test_server_that_stays_broken(server, tmp_path):
    server.answers = [502] * 50
    assert f'tried {http.TRIES + 1} times' in refused(server, tmp_path)
    assert len(server.asked) == http.TRIES + 1
    server.answers, server.drop_after, server.ranges = [], 1000, False
    assert 'the connection ended after 1,000 of' in refused(server, tmp_path)


def test_archive(server, tmp_path):
    as_archive(server, folder='Tiny_x1/')
    server.drop_after = 20_000
    fetched(server, tmp_path)
    assert [name for name, *_ in server.asked[:2]] == ['train.csv', 'Tiny_x1.zip']
    assert 206 in [status for *_, status in server.asked]
    assert not (tmp_path / 'Tiny_x1.zip').exists()
    asked = len(server.asked)
    fetched(server, tmp_path)
    assert len(server.asked) == asked


def test_archive_for_the_rest(server, tmp_path):
    server.files = {'train.csv': CONTENT['train.csv'], 'Tiny_x1.zip': archive(**{'train.csv': b'other'})}
    fetched(server, tmp_path)


def test_archive_put_there_by_hand(server, tmp_path):
    (tmp_path / 'Tiny_x1.zip').write_bytes(archive())
    fetched(server, tmp_path)
    assert not server.asked
    assert (tmp_path / 'Tiny_x1.zip').exists()  # not ours to remove


def test_archive_cannot_write_elsewhere(server, tmp_path):
    folder = tmp_path / 'a' / 'b'
    as_archive(server, folder='../../')
    fetched(server, folder)
    assert {p.name for p in tmp_path.iterdir()} == {'a'}
    assert {p.name for p in (tmp_path / 'a').iterdir()} == {'b'}


@pytest.mark.parametrize('damage', ['cut', 'bits', 'missing', 'twice', 'not a zip'])
def test_damaged_archive(server, tmp_path, damage):
    whole = archive(zipfile.ZIP_STORED)
    if damage == 'cut':
        server.files = {'Tiny_x1.zip': whole[:-300]}
    elif damage == 'bits':
        server.files = {'Tiny_x1.zip': whole.replace(b'train700', b'train7x0')}
    elif damage == 'twice':
        server.files = {'Tiny_x1.zip': archive(**{'copy/test.csv': b''})}
    elif damage == 'missing':
        server.files = {'Tiny_x1.zip': whole.replace(b'test.csv', b'text.csv')}
    else:
        server.files = {'Tiny_x1.zip': b'<html>hello</html>'}
    message = refused(server, tmp_path)
    assert 'Tiny_x1.zip: ' in message
    assert 'set aside as Tiny_x1.zip.damaged' in message
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
    paths = fetch.fetch(TINY, tmp_path, accept=True, base=server.base)
    assert [name for name, *_ in server.asked] == ['train.csv', 'test.csv']
    assert b'\r' not in (tmp_path / 'valid.csv').read_bytes()
    assert (tmp_path / 'test.csv.damaged').read_bytes() == b'mine'
    with open(paths['test'], 'rb') as file:
        assert file.read() == CONTENT['test.csv']


@pytest.mark.parametrize('status', [401, 403, 404])
def test_server_says_no(server, tmp_path, status):
    server.answers = [status] * 9
    message = refused(server, tmp_path)
    assert f'HTTP {status}' in message
    assert (
        'download train.csv, valid.csv and test.csv (or Tiny_x1.zip) by hand from http://example.org/tiny '
        f'and put them into {tmp_path}, then run the same command again'
    ) in message
    assert len(server.asked) == (2 if status == 404 else 1)


def test_no_connection(tmp_path, server, monkeypatch):
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=r'train\.csv: Connection refused; download train\.csv, .* by hand'):
        fetch.fetch(TINY, tmp_path, accept=True, base=f'http://127.0.0.1:{port}')

    def unknown(*_, **__):
        raise socket.gaierror(-2, 'Name or service not known')

    monkeypatch.setattr(socket, 'getaddrinfo', unknown)
    for key in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(key, raising=False)
    with pytest.raises(UserError, match=r"the server's name is not found .* by hand from"):
        fetch.fetch(TINY, tmp_path, accept=True, base='http://nowhere.invalid/')


def test_no_room(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage._replace(free=100_000))
    assert 'needs 0.00 GB more' in refused(server, tmp_path)
    assert len(server.asked) == 1
    assert not (tmp_path / 'train.csv').exists()
    # The archive is small enough; what is in it is not.
    as_archive(server)
    assert 'Tiny_x1.zip' in refused(server, tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage)
    fetched(server, tmp_path)
    assert len(server.requests('Tiny_x1.zip')) == 1


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot make the folder: Not a directory'):
        fetch.fetch(TINY, tmp_path / 'file' / 'folder', accept=True, base=server.base)


def test_disk_that_fills(server, tmp_path):
    """Other writers may take the room that was free at the start."""
    code = (
        'import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); '
        'resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); '
        'from dlf_jax.data.download import fetch; from tests.data.download.file_server import TINY; '
        f'fetch.fetch(TINY, {str(tmp_path)!r}, accept=True, base={server.base!r})'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert re.search(r'UserError: cannot write .*train\.csv\.part: no space left', done.stderr), done.stderr
    assert len(server.asked) == 1
    fetched(server, tmp_path)
    assert server.asked[1][1] == 'bytes=100000-'


def test_two_processes_fetch_once(server, tmp_path):
    server.seconds = 0.1
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        runs = [
            pool.submit(
                fetch.fetch, TINY, tmp_path, accept=True, data_dir=f'{tmp_path}/{i}', base=server.base
            )
            for i in range(3)
        ]
    assert all(run.result() == runs[0].result() for run in runs)
    assert len(server.asked) == 3


def test_waiting_is_told(server, tmp_path, caplog):
    options = {'accept': True, 'base': server.base}
    with caplog.at_level(logging.INFO, logger='dlf_jax'), locked(tmp_path / '.lock', wait=False):
        thread = threading.Thread(target=fetch.fetch, args=(TINY, tmp_path), kwargs=options)
        thread.start()
        deadline = time.monotonic() + 5
        while not any('waiting for it' in text for text in caplog.messages):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not server.asked
    thread.join()
    assert len(server.asked) == 3
    fetched(server, tmp_path)


def test_killed_and_started_again(server, tmp_path):
    server.seconds = 30.0
    code = (
        'from dlf_jax.data.download import fetch; from tests.data.download.file_server import TINY; '
        f'fetch.fetch(TINY, {str(tmp_path)!r}, accept=True, base={server.base!r})'
    )
    process = subprocess.Popen([sys.executable, '-c', code], cwd=ROOT)
    part = tmp_path / 'train.csv.part'
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    held = part.stat().st_size
    assert not (tmp_path / 'train.csv').exists()
    server.seconds, server.asked = 0.0, []
    fetched(server, tmp_path)
    assert server.requests('train.csv')[0][1] == f'bytes={held}-'


def test_raw_forms_are_fetched_by_hand(tmp_path):
    with pytest.raises(
        UserError, match=r'download train\.txt by hand from https://www\.kaggle\.com/c/criteo'
    ):
        fetch.fetch(published_files.CRITEO_RAW, tmp_path, accept=True)
    (tmp_path / 'train.csv').write_text('id,click\n')
    paths = fetch.fetch(published_files.AVAZU_RAW, tmp_path, accept=False)
    assert paths == {'train': str(tmp_path / 'train.csv')}
