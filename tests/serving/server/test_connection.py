"""Connections: heads that are too long or do not come, requests one after another, answers in one piece."""

import socket

import pytest

from dlf_jax.serving.server import connection


@pytest.fixture
def raw(server):
    host, port = server[0].removeprefix('http://').split(':')
    with socket.create_connection((host, int(port)), timeout=20) as found:
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
