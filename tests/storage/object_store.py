"""An S3 server on the loopback, and a proxy before it that injects faults."""

from __future__ import annotations

import collections
import contextlib
import http.client
import logging
import os
import random
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from moto.server import ThreadedMotoServer

KEY, SECRET = 'AKIAFAKEFAKEFAKE1234', 'fakeSecretThatMustNeverBeLogged/0123'
SLOW_DOWN = (
    b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message>'
    b'</Error>'
)
# Faults that each kind of request may meet.
ANY = ('delay', 'no answer', 'SlowDown', '500')
GET = (*ANY, 'cut', 'short', 'damaged')
LISTING = (*ANY, 'cut', 'lost entries')
PUT = (*ANY, 'answer lost')


class Faults:
    """Which requests fail, and how; the number of each kind so far.

    Attributes:
      rate: share of requests that fail.
      only: kinds that may come; None: all.
      counts: by kind.
      requests: number of all.
    """

    def __init__(self, rate: float = 0.0, only: tuple[str, ...] | None = None, seed: int = 0):
        self.rate, self.only = rate, only
        self.counts: collections.Counter[str] = collections.Counter()
        self.requests = 0
        self._random, self._lock = random.Random(seed), threading.Lock()

    def some(self, entries: list) -> list:
        with self._lock:
            return self._random.sample(entries, (len(entries) + 1) // 2)

    def draw(self, method: str, query: dict) -> str:
        kinds = {'GET': LISTING if 'list-type' in query else GET, 'PUT': PUT, 'HEAD': ANY}.get(method, ANY)
        kinds = tuple(kind for kind in kinds if self.only is None or kind in self.only)
        with self._lock:
            self.requests += 1
            if not kinds or self._random.random() >= self.rate:
                return ''
            kind = self._random.choice(kinds)
            self.counts[kind] += 1
            return kind


class Proxy(ThreadingHTTPServer):
    """Hands requests on, or not."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int):
        super().__init__(('127.0.0.1', 0), _Handler)
        self.port, self.faults = port, Faults()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_address[1]}'

    def handle_error(self, request, client_address):
        """A client that is killed closes its connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *arguments):
        pass

    def _body(self) -> bytes:
        if self.headers.get('Transfer-Encoding', '') != 'chunked':
            return self.rfile.read(int(self.headers.get('Content-Length', 0)))
        found = b''
        while size := int(self.rfile.readline().split(b';')[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return found

    def _hang_up(self):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes, sent: bytes | None = None):
        self.send_response_only(status)
        length = None
        for name, value in headers:
            if name.lower() == 'content-length':
                length = value
            elif name.lower() not in ('connection', 'transfer-encoding'):
                self.send_header(name, value)
        self.send_header('Content-Length', length if self.command == 'HEAD' and length else str(len(body)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body if sent is None else sent)

    def _answer(self):
        body, query = self._body(), parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        kind = self.server.faults.draw(self.command, query)
        if kind == 'no answer':
            return self._hang_up()
        if kind in ('SlowDown', '500'):
            return self._send(
                503 if kind == 'SlowDown' else 500, [], SLOW_DOWN if kind == 'SlowDown' else b''
            )
        if kind == 'delay':
            time.sleep(0.3)
        there = http.client.HTTPConnection('127.0.0.1', self.server.port, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ('transfer-encoding', 'expect')}
        headers['Content-Length'] = str(len(body))
        there.request(self.command, self.path, body, headers)
        answer = there.getresponse()
        content = answer.read()
        there.close()
        sent = None
        if kind == 'answer lost':
            return self._hang_up()
        if kind == 'lost entries':
            found = re.findall(rb'<Contents>.*?</Contents>', content, re.DOTALL)
            for entry in self.server.faults.some(found):
                content = content.replace(entry, b'', 1)
        elif answer.status < 300 and content:
            if kind == 'cut':
                sent = content[: len(content) // 2]
            elif kind == 'short':
                content = content[: len(content) // 2]
            elif kind == 'damaged':
                content = content[:-1] + bytes([content[-1] ^ 1])
        self._send(answer.status, answer.getheaders(), content, sent)
        if sent is not None:
            self._hang_up()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _answer


@contextlib.contextmanager
def served() -> Iterator[Proxy]:
    """A running server with a bucket `bucket`, and the environment by which clients find its proxy."""
    logging.getLogger('werkzeug').setLevel(logging.ERROR)
    server = ThreadedMotoServer('127.0.0.1', 0, verbose=False)
    server.start()
    proxy = Proxy(server.get_host_and_port()[1])
    values = environment(proxy)
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        import boto3

        boto3.client('s3').create_bucket(Bucket='bucket')
        yield proxy
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        proxy.shutdown()
        server.stop()


def environment(proxy: Proxy) -> dict[str, str]:
    """What tells clients where the store is, and who they are."""
    return {
        'AWS_ENDPOINT_URL': proxy.url, 'AWS_ACCESS_KEY_ID': KEY, 'AWS_SECRET_ACCESS_KEY': SECRET,
        'AWS_DEFAULT_REGION': 'us-east-1', 'AWS_EC2_METADATA_DISABLED': 'true',
    }  # fmt: skip
