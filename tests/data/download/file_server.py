"""A small published dataset, and a server on this machine that breaks in all the ways servers break."""

from __future__ import annotations

import hashlib
import http.server
import re
import time

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
    'http://example.org/tiny',
)  # fmt: skip


class Server(http.server.ThreadingHTTPServer):
    """Files in memory, with ETag, Range and If-Range as the standard has them, unless told otherwise."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.files = dict(CONTENT)
        self.tags = True
        self.ranges = True
        self.lengths = True
        self.drop_after = 0  # bytes of a body, then the connection breaks
        self.drops = 10**9  # how often it does
        self.answers = []  # statuses given before any file
        self.redirects = False  # as the hub does: its own tag, then storage without one
        self.seconds = 0.0  # that a body takes
        self.asked = []  # (name, Range, If-Range, status)

    @property
    def base(self):
        return f'http://127.0.0.1:{self.server_port}/hub'

    def requests(self, name):
        return [asked for asked in self.asked if asked[0] == name]


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, name = self.server, self.path.rsplit('/', 1)[-1]
        wanted, guard = self.headers.get('Range'), self.headers.get('If-Range')
        content = server.files.get(name)
        if server.redirects and self.path.startswith('/hub') and content is not None:
            self.send_response(302)
            self.send_header('X-Linked-ETag', f'"{md5(content)}"')
            self.send_header('Location', f'/storage/{name}')
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        status = server.answers.pop(0) if server.answers else 200 if content is not None else 404
        if status != 200:
            server.asked.append((name, wanted, guard, status))
            self.send_error(status)
            return
        tag = f'"{md5(content)[:8]}"'
        start, headers = 0, {}
        if wanted and server.ranges and (guard is None or guard == tag):
            start = int(re.fullmatch(r'bytes=(\d+)-', wanted)[1])
            status = 206 if start < len(content) else 416
            told = f'{start}-{len(content) - 1}' if status == 206 else '*'
            headers['Content-Range'] = f'bytes {told}/{len(content)}'
        server.asked.append((name, wanted, guard, status))
        body = b'' if status == 416 else content[start:]
        if server.tags:
            headers['ETag'] = tag
        if server.lengths:
            headers['Content-Length'] = len(body)
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, str(value))
        self.end_headers()
        if server.drop_after and len(body) > server.drop_after and server.drops > 0:
            server.drops -= 1
            body = body[: server.drop_after]
        half = len(body) // 2
        self.wfile.write(body[:half])
        time.sleep(server.seconds)
        self.wfile.write(body[half:])
