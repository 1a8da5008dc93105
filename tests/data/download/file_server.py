"""A small published dataset, and a hub on this machine that breaks in all the ways that servers break."""

from __future__ import annotations

import hashlib
import http.server
import re
from time import sleep
from typing import NamedTuple

from dlf_jax.data.download.published_files import X1, File, Published

CONTENT = {
    f'{part}.csv': b'label,a\r\n' + b''.join(b'%d,%s%d\r\n' % (i % 2, part.encode(), i) for i in range(rows))
    for part, rows in (('train', 20_000), ('valid', 2000), ('test', 1000))
}


def md5(content):
    return hashlib.md5(content).hexdigest()


TINY = Published(
    'Tiny_x1', 'for tests alone', 'http://example.org/licence', X1, 2,
    {name[:-4]: File(name, md5(content), content.count(b'\n') - 1) for name, content in CONTENT.items()},
    'http://example.org/tiny', 'reczoo/Tiny_x1',
)  # fmt: skip


class Request(NamedTuple):
    """A request: method, revision ('' of storage), file name, two headers, and the status of the answer."""

    method: str
    revision: str
    name: str
    range: str | None
    authorization: str | None
    status: int


class Server(http.server.ThreadingHTTPServer):
    """Files in memory, served as the Hugging Face hub serves those of a dataset, unless told otherwise."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.files = dict(CONTENT)
        self.tags = True
        self.ranges = True
        self.lengths = True  # whether the answer with the content has its size
        self.sizes = True  # whether the metadata has it
        self.excess = b''  # sent after the content
        self.drop_after = 0  # bytes of a body, then the connection breaks
        self.drops = 10**9  # how often it does
        self.answers = []  # statuses given before any file's content
        self.head_answers = []  # statuses given before any file's metadata
        self.redirects = False  # to storage on another origin, without a tag, as the hub does for large files
        self.seconds = 0.0  # that a body takes
        self.requests = []

    @property
    def endpoint(self):
        return f'http://127.0.0.1:{self.server_port}'

    @property
    def commit(self):
        return hashlib.sha1(b''.join(self.files.values())).hexdigest()

    def gets(self, *names):
        """The answers with files' content, redirects apart; of all files where no name is given."""
        return [
            r
            for r in self.requests
            if r.method == 'GET' and r.status != 302 and (not names or r.name in names)
        ]


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(self.server.head_answers, with_body=False)

    def do_GET(self):
        self.answer(self.server.answers, with_body=True)

    def answer(self, answers, with_body):
        server, name = self.server, self.path.rsplit('/', 1)[-1]
        wanted, authorization = self.headers.get('Range'), self.headers.get('Authorization')
        content = server.files.get(name)
        hub = re.match(r'/datasets/reczoo/Tiny_x1/resolve/(main|[0-9a-f]{40})/', self.path)
        revision = hub[1] if hub else ''
        if revision not in ('main', server.commit) and not self.path.startswith('/storage/'):
            content = None
        status = 200 if content is not None else 404
        if server.redirects and hub and content is not None:
            status = 302
        elif answers:
            status = answers.pop(0)
        headers = {'X-Repo-Commit': server.commit} if hub else {}
        if hub and status == 404:
            headers['X-Error-Code'] = 'EntryNotFound'
        if status in (401, 403):
            headers['X-Error-Message'] = 'Access is restricted.'
        body = content if status == 200 else b''
        if status == 302:
            headers |= {'X-Linked-ETag': f'"{md5(content)}"', 'X-Linked-Size': len(content)}
            headers['Location'] = f'http://localhost:{server.server_port}/storage/{name}'
        elif status == 200:
            if wanted and server.ranges:
                start = int(re.fullmatch(r'bytes=(\d+)-', wanted)[1])
                status, body = (206, content[start:]) if start < len(content) else (416, b'')
                held = f'{start}-{len(content) - 1}' if status == 206 else '*'
                headers['Content-Range'] = f'bytes {held}/{len(content)}'
            body += server.excess if with_body else b''
            if server.tags:
                headers['ETag'] = f'"{md5(content)}"'
        if status >= 300 or (server.lengths if with_body else server.sizes):
            headers['Content-Length'] = len(body)
        server.requests.append(Request(self.command, revision, name, wanted, authorization, status))
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, str(value))
        self.end_headers()
        if not with_body:
            return
        if server.drop_after and len(body) > server.drop_after and server.drops > 0:
            server.drops -= 1
            body = body[: server.drop_after]
        half = len(body) // 2
        self.wfile.write(body[:half])
        sleep(server.seconds)
        self.wfile.write(body[half:])
