"""The command: flags, its end, its log, what it needs of the machine."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from dlf_jax import serve
from dlf_jax.errors import UsageError, UserError
from tests.conftest import ROOT, compiled


@contextlib.contextmanager
def started(*flags, env=None):
    """The command as a process; yields it, its address, and the lines of its log so far."""
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', **compiled(), **(env or {})}
    line = [sys.executable, '-m', 'dlf_jax.serve', '--port=0', '--max_batch=8', *map(str, flags)]
    process = subprocess.Popen(
        line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log, address = [], []

    def read():
        for one in process.stderr:
            log.append(one)
            if found := re.search(r'at (http://\S+:\d+)', one):
                address.append(found[1])

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, ''.join(log)
            assert time.monotonic() < deadline, ''.join(log)
            with contextlib.suppress(httpx.TransportError):
                if address and httpx.get(f'{address[0]}/v2/health/ready').status_code == 200:
                    break
            time.sleep(0.05)
        yield process, address[0], log
    finally:
        process.kill()
        process.communicate(timeout=20)
        reader.join(20)


def test_sigterm_ends_it_when_all_is_answered(workdir, model, frame, tmp_path):
    """Requests that were taken are answered; ready is false first; the exit code is 0."""
    (tmp_path / 'token').write_text('secret\n')
    rows, expected = frame.to_dicts(), model.predict(frame)
    flags = (f'--workdir={workdir}', '--name=clicks', '--drain_seconds=1', '--grace_seconds=10')
    with started(*flags, f'--token_file={tmp_path / "token"}') as (process, address, log):
        headers = {'authorization': 'Bearer secret'}
        with httpx.Client(base_url=address, headers=headers, timeout=20) as client:
            assert client.get('/v2/models/clicks').status_code == 200
            assert httpx.get(f'{address}/v2/models/clicks').status_code == 401
            answered, failed = [], []

            def ask(i):
                with httpx.Client(base_url=address, headers=headers, timeout=20) as own:
                    while True:
                        at = (i * 31 + len(answered)) % 200
                        try:
                            answer = own.post('/v1/score', json={'rows': rows[at : at + 50]})
                        except (httpx.ConnectError, httpx.RemoteProtocolError) as error:
                            # Not taken any more: the connection was closed between two requests.
                            failed.append(error)
                            return
                        assert answer.status_code == 200, answer.text
                        found = np.array(answer.json()['probabilities'], np.float32)
                        np.testing.assert_allclose(found, expected[at : at + 50], rtol=0, atol=1e-7)
                        answered.append(time.monotonic())

            threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            end = time.monotonic()
            time.sleep(0.3)
            assert client.get('/v2/health/ready').status_code == 503
            assert client.get('/v2/models/clicks/ready').status_code == 503
            assert client.get('/v2/health/live').status_code == 200
            for thread in threads:
                thread.join(20)
            assert process.wait(timeout=12) == 0, ''.join(log)
            assert time.monotonic() - end < 10
    # Until it ended, requests were answered, and each as it should be.
    assert len(failed) == 4
    assert max(answered) > end
    told = ''.join(log)
    assert 'SIGTERM: not ready any more' in told
    assert 'Traceback' not in told
    assert 'secret' not in told
    ready = float(re.search(r'ready after ([\d.]+) s', told)[1])
    assert ready < 30


def test_a_stuck_client_does_not_hold_up_the_end(workdir):
    import socket

    with started(f'--workdir={workdir}', '--grace_seconds=3', '--timeout_seconds=30') as (
        process,
        address,
        log,
    ):
        host, port = address.removeprefix('http://').split(':')
        with socket.create_connection((host, int(port))) as stuck:
            stuck.sendall(b'POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{')
            time.sleep(0.3)
            start = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0, ''.join(log)
            assert time.monotonic() - start < 5


def command(*flags):
    line = [sys.executable, '-m', 'dlf_jax.serve', *map(str, flags)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_folder_without_a_model(tmp_path):
    done = command(f'--workdir={tmp_path}', '--port=0')
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f'error: {tmp_path}: no trained model here')
    assert 'Traceback' not in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    ('flags', 'part'),
    [
        ((), '--workdir'),
        (('--workdir=/tmp', '--prot=3'), 'prot'),
        (('--workdir=/tmp', 'more'), "unexpected argument 'more'"),
        (('--workdir=/tmp', '--max_rows=0'), 'max_rows'),
        (('--workdir=/tmp', '--timeout_seconds=0'), 'timeout_seconds'),
        (('--workdir=/tmp', '--poll_seconds=nan'), 'poll_seconds'),
        (('--workdir=/tmp', '--name=a/b'), '--name=a/b'),
    ],
)
def test_a_wrong_command(flags, part):
    with pytest.raises(UsageError, match=re.escape(part)):
        serve.parse(['serve', *flags])


@pytest.mark.parametrize('text', ['', '  \n', 'two words', 'bell\a', 'é'])
def test_a_token_that_is_none(tmp_path, text):
    (tmp_path / 'token').write_text(text)
    with pytest.raises(UserError, match='expected one word') as error:
        serve.parse(['serve', '--workdir=/tmp', f'--token_file={tmp_path / "token"}'])
    assert not text.strip() or text.strip() not in str(error.value)
    with pytest.raises(UserError, match='cannot be read'):
        serve.parse(['serve', '--workdir=/tmp', '--token_file=/nowhere'])


def test_flags_are_settings():
    from dlf_jax.server.settings import Settings

    settings = Settings(**serve.parse(['serve', '--workdir=/tmp', '--port=9', '--max_delay_ms=1.5']))
    assert (settings.port, settings.max_delay_ms, settings.token) == (9, 1.5, '')
    # The defaults stand in two places.
    assert Settings(**serve.parse(['serve', '--workdir=w'])) == Settings('w')
    assert Settings('w', max_batch=512).sizes == (1, 8, 32, 128, 512)
    assert [Settings('w', max_batch=n).sizes for n in (1, 8, 100)] == [(1,), (1, 8), (1, 6, 25, 100)]


def test_missing_packages_are_named_and_the_other_commands_need_none(tmp_path):
    code = (
        'import sys, importlib.util\n'
        'find = importlib.util.find_spec\n'
        "gone = ('uvicorn', 'orjson')\n"
        'importlib.util.find_spec = lambda name, *rest: None if name in gone else find(name, *rest)\n'
        'import dlf_jax, dlf_jax.main\n'
        'from dlf_jax import serve\n'
        "code = serve.main(['serve', '--workdir=/tmp'])\n"
        "loaded = {'starlette', 'uvicorn', 'orjson'} & set(sys.modules)\n"
        'print(code, sorted(loaded))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == '1 []\n', done.stderr
    assert 'serving needs uvicorn, orjson: pip install "dlf_jax[serve]"' in done.stderr


def test_a_port_that_is_taken(workdir):
    import socket

    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command(f'--workdir={workdir}', f'--port={port}')
    assert done.returncode == 1
    assert f'error: --host=127.0.0.1 --port={port}: ' in done.stderr


def test_a_port_that_another_server_takes_meanwhile(scorer, workdir, monkeypatch):
    """Both have bound it, before either listens."""
    from dlf_jax.server import process
    from dlf_jax.server.settings import Settings

    class Reached(process.Server):
        def run(self, sockets=None):
            raise AssertionError('serves where nobody hears it')

    with process.bound_socket(Settings('', port=0)) as other:
        port = other.getsockname()[1]

        def load(*_):
            other.listen()
            return scorer

        monkeypatch.setattr(process, 'load', load)
        monkeypatch.setattr(process, 'Server', Reached)
        with pytest.raises(UserError, match=f'--host=127.0.0.1 --port={port}: .*in use'):
            process.serve(Settings(str(workdir), port=port, poll_seconds=0))


@pytest.mark.skipif(os.getuid() != 0, reason='only root may act as another user')
def test_another_user_serves_a_folder_that_it_may_only_read(workdir, frame):
    """Nothing is written: neither into the workdir nor beside it."""
    code = (
        'import json, os, sys\n'
        'from dlf_jax.server.scorer import load\n'
        'from dlf_jax.server.watcher import Watcher\n'
        'def serve():\n'
        '    scorer = load(sys.argv[1], (1,))\n'
        '    watcher = Watcher(sys.argv[1], lambda: scorer, print)\n'
        '    watcher.note()\n'
        '    rows = scorer.reader.rows(json.loads(sys.argv[2]))\n'
        '    return scorer.score(rows).probabilities[0]\n'
        # Python itself may lie where the other user cannot read it.
        'first = serve()\n'
        'os.setgid(65534); os.setuid(65534)\n'
        'assert not os.access(sys.argv[1], os.W_OK)\n'
        'assert serve() == first\n'
        'print("served")\n'
    )
    # Not in pytest's folder, which others may not enter.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        run = shutil.copytree(workdir, Path(folder) / 'run')
        run.chmod(0o755)
        before = {path: path.stat().st_mtime_ns for path in run.rglob('*')}
        done = subprocess.run(
            [sys.executable, '-c', code, str(run), json.dumps(frame[:1].to_dicts())],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert {path: path.stat().st_mtime_ns for path in run.rglob('*')} == before
    assert done.stdout == 'served\n', done.stderr
