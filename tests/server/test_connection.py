"""Connections: heads that are too long or do not come, requests one after another, answers in one piece."""

import contextlib
import json
import socket
import time

import httpx
import pytest

from dlf_jax.server import connection
from tests.server.conftest import serving


def connected(address, seconds=20):
    host, port = address.removeprefix('http://').split(':')
    return socket.create_connection((host, int(port)), timeout=seconds)


@pytest.fixture
def raw(server):
    with connected(server[0]) as found:
        yield found


LIVE = b'GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n'


def until(found, end):
    data = b''
    while not data.endswith(end):
        more = found.recv(1 << 16)
        assert more, data
        data += more
    return data


def rest(found):
    data = b''
    while more := found.recv(1 << 16):
        data += more
    return data


def test_an_answer_comes_in_one_piece(raw):
    for _ in range(20):
        raw.sendall(LIVE)
        assert raw.recv(1 << 16).endswith(b'{"live":true}')


def test_requests_before_the_answers_of_those_before(raw):
    raw.sendall(LIVE * 5)
    found = b''
    while found.count(b'{"live":true}') < 5:
        found += raw.recv(1 << 16)
    assert found.count(b'HTTP/1.1 200 OK') == 5


def test_a_client_that_asks_whether_to_go_on(raw):
    raw.sendall(b'POST /v1/score HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n')
    assert until(raw, b'\r\n\r\n').startswith(b'HTTP/1.1 100 Continue')
    raw.sendall(b'{}')
    assert until(raw, b'}').startswith(b'HTTP/1.1 400')


@pytest.mark.parametrize('line', [b'X: ' + b'a' * 1000 + b'\r\n', b'a' * 1000], ids=['lines', 'one line'])
def test_a_head_without_end(raw, line):
    raw.sendall(b'GET / HTTP/1.1\r\nHost: x\r\nLong: ')
    with pytest.raises(OSError, match=r'reset|pipe'):  # noqa: PT012
        for _ in range(10_000):
            raw.sendall(line)
        raise AssertionError('ten million bytes were taken')


def test_what_is_no_request(raw):
    raw.sendall(b'\x16\x03\x01\x02\x00\r\n\r\n')
    assert rest(raw).startswith(b'HTTP/1.1 400')


def test_a_head_that_does_not_come(server, monkeypatch):
    monkeypatch.setattr(connection, 'HEAD_SECONDS', 0.3)
    host, port = server[0].removeprefix('http://').split(':')
    for first in (b'', b'GET / HTTP/1.1\r\nHo', LIVE + b'GET'):
        with socket.create_connection((host, int(port)), timeout=10) as found:
            found.sendall(first)
            assert (b'"live":true' in rest(found)) == first.startswith(LIVE)
    # One that is slow with its body only is not meant.
    with socket.create_connection((host, int(port)), timeout=10) as found:
        found.sendall(b'POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{')
        found.settimeout(0.8)
        with pytest.raises(TimeoutError):
            found.recv(100)
        found.sendall(b'}')
        assert found.recv(100).startswith(b'HTTP/1.1 400')


CHUNKED = b' HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n'


@pytest.mark.parametrize('line', [b'h1: v\r\n' * 1000, b'h' * 1000], ids=['lines', 'one line'])
@pytest.mark.parametrize('route', [b'GET /v2/health/live', b'POST /v1/score'])
def test_what_follows_a_body_without_end(raw, monkeypatch, route, line):
    monkeypatch.setattr(connection, '_LINGER', 0.2)
    raw.sendall(route + CHUNKED + b'0\r\n')
    end = time.monotonic() + 3
    with pytest.raises(OSError, match=r'reset|pipe'):  # noqa: PT012
        while time.monotonic() < end:
            raw.sendall(line)
        raise AssertionError('it was taken for three seconds')


def test_what_follows_a_body_is_no_header(server, monkeypatch):
    """It is not kept either."""
    found = []
    complete = connection.Connection.on_message_complete

    def observed(self):
        complete(self)
        found.append(list(self.headers))

    monkeypatch.setattr(connection.Connection, 'on_message_complete', observed)
    with connected(server[0]) as raw:
        raw.sendall(b'POST /v1/score' + CHUNKED + b'2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\n\r\n')
        assert until(raw, b'}').startswith(b'HTTP/1.1 400')
        raw.sendall(LIVE)
        assert until(raw, b'}').startswith(b'HTTP/1.1 200')
    assert [name for name, _ in found[0]] == [b'host', b'transfer-encoding']


LENGTH = b' HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n'


@pytest.mark.parametrize('first', [b'GET /v2/health/live', b'GET /v1/schema', b'POST /nothing'])
def test_a_body_that_nobody_reads_ends_the_connection(server, monkeypatch, first):
    monkeypatch.setattr(connection, '_LINGER', 0.5)
    with connected(server[0], seconds=5) as raw:
        raw.sendall(first + LENGTH + b'x')
        found = rest(raw)
        head, _, body = found.partition(b'\r\n\r\n')
        assert b'\r\nconnection: close' in head
        assert json.loads(body)
        # What comes nevertheless is taken for a moment, so that the client comes to read the answer.
        raw.sendall(b'x' * 1000)
        start = time.monotonic()
        with pytest.raises(OSError, match=r'reset|pipe'):  # noqa: PT012
            while time.monotonic() - start < 5:
                raw.sendall(LIVE)
                time.sleep(0.02)
        assert time.monotonic() - start < 3


def test_a_client_that_sends_much_without_a_token_reads_why(scorer):
    with serving(scorer, token='secret') as (address, _), httpx.Client(base_url=address) as client:
        for _ in range(5):
            answer = client.post('/v1/score', content=b' ' * 3_000_000)
            assert answer.status_code == 401
            assert answer.headers['connection'] == 'close'
        # One whose body has come with its head keeps its connection.
        with connected(address, seconds=5) as raw:
            raw.sendall(b'POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}')
            found = until(raw, b'}')
        assert found.startswith(b'HTTP/1.1 401')
        assert b'connection' not in found.lower()


@pytest.mark.parametrize('first', [b'', LIVE], ids=['new', 'kept'])
def test_a_request_that_is_on_its_way_at_the_end(server, monkeypatch, first):
    made = []
    connection_made = connection.Connection.connection_made

    def observed(self, transport):
        connection_made(self, transport)
        made.append(self)

    monkeypatch.setattr(connection.Connection, 'connection_made', observed)
    with connected(server[0], seconds=5) as raw:
        if first:
            raw.sendall(first)
            until(raw, b'}')
        with connected(server[0], seconds=5) as silent:
            time.sleep(0.2)
            assert len(made) == 2
            for protocol in made:
                protocol.loop.call_soon_threadsafe(protocol.shutdown)
            time.sleep(0.1)
            raw.sendall(LIVE)
            found = rest(raw)
            assert found.startswith(b'HTTP/1.1 200')
            assert b'\r\nconnection: close\r\n' in found
            assert rest(silent) == b''


def test_bytes_after_an_answer_do_not_keep_a_connection(server, monkeypatch):
    monkeypatch.setattr(connection, 'HEAD_SECONDS', 0.3)
    for more in (b'\r\n', b'G'):
        with connected(server[0], seconds=5) as raw:
            raw.sendall(LIVE)
            until(raw, b'}')
            raw.sendall(more)
            assert rest(raw) == b''
    # One that asks again in time goes on.
    with connected(server[0], seconds=5) as raw:
        for _ in range(5):
            raw.sendall(b'\r\n' + LIVE)
            until(raw, b'}')
            time.sleep(0.1)


SCORE = b'POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n'


def test_idle_connections_make_room(scorer):
    """However many are open, requests are answered; those that have one are not closed."""
    with serving(scorer, max_connections=4) as (address, _), contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(address)) for _ in range(4)]
        idle[0].sendall(SCORE + b'{')
        time.sleep(0.2)
        for _ in range(10):
            with connected(address) as raw:
                raw.sendall(LIVE)
                assert until(raw, b'}').startswith(b'HTTP/1.1 200')
                raw.sendall(SCORE + b'{}')
                assert until(raw, b'}').startswith(b'HTTP/1.1 400')
        assert rest(idle[1]) == b''
        idle[0].sendall(b'}')
        assert until(idle[0], b'}').startswith(b'HTTP/1.1 400')


def test_more_connections_than_there_may_be(scorer):
    """All have a request: probes are answered by a few more, and others are refused."""
    with serving(scorer, max_connections=3) as (address, _), contextlib.ExitStack() as stack:
        busy = [stack.enter_context(connected(address)) for _ in range(3)]
        for one in busy:
            one.sendall(SCORE + b'{')
        time.sleep(0.3)
        for path in ('/v2/health/live', '/v2/health/ready'):
            assert httpx.get(address + path).status_code == 200
        answer = httpx.post(f'{address}/v1/score', content=b' ' * 3_000_000)
        assert answer.status_code == 503
        assert 'too many connections' in answer.json()['error']
        assert answer.headers['connection'] == 'close'
        assert answer.headers['retry-after'] == '1'
        for one in busy:
            one.sendall(b'}')
            assert until(one, b'}').startswith(b'HTTP/1.1 400')
        assert httpx.post(f'{address}/v1/score', content=b'{}').status_code == 400


def test_the_reserve_has_an_end(scorer, monkeypatch):
    monkeypatch.setattr(connection, '_RESERVE', 0)
    with serving(scorer, max_connections=1) as (address, _), connected(address) as busy:
        busy.sendall(SCORE + b'{')
        time.sleep(0.3)
        with connected(address) as raw:
            found = rest(raw)
        assert found.startswith(b'HTTP/1.1 503')
        head, _, body = found.partition(b'\r\n\r\n')
        assert f'content-length: {len(body)}'.encode() in head
        assert json.loads(body).keys() == {'error'}
