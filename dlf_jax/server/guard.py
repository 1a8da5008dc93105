"""What is around every route: the token, the size of bodies, errors as JSON, metrics."""

from __future__ import annotations

import hmac
import logging
import re
import time
from collections.abc import Callable
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dlf_jax.server.batcher import Overloaded
from dlf_jax.server.metrics import Metrics
from dlf_jax.server.rows import BadRequest

_log = logging.getLogger(__name__)

# Paths that need no token: probes of the machinery that runs the server, and a page that holds nothing of the
# model.
FREE = ('/v2/health/live', '/v2/health/ready', '/', '/page.js', '/page.css')
_PATHS = {*FREE, '/v2', '/v1/score', '/v1/schema', '/metrics', '/openapi.json'}
_MODEL = re.compile(r'^/v2/models/[^/]+(?:/versions/[^/]+)?(/ready|/infer)?$')
# Status of a request whose client has left before its end, as nginx has it.
_LEFT = 499
_HEADERS = [
    (b'x-content-type-options', b'nosniff'),
    (b'cache-control', b'no-store'),
]


class Guard:
    """ASGI application around another one."""

    def __init__(self, app: ASGIApp, token: str, metrics: Metrics, draining: Callable[[], bool]):
        """Takes the application.

        Args:
          app: what answers.
          token: that requests must bring; '' for none.
          metrics: count every answer.
          draining: whether the server is about to end.
        """
        self._app, self._metrics, self._draining = app, metrics, draining
        self._wanted = f'Bearer {token}'.encode() if token else b''

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope['type'] != 'http':
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message['type'] == 'http.response.start':
                status = message['status']
                message['headers'] = [*message['headers'], *_HEADERS]
                if self._draining():
                    # The end would cut a connection just as its client sends the next request.
                    message['headers'].append((b'connection', b'close'))
            await send(message)

        try:
            if self._allowed(scope):
                await self._app(scope, receive, observed)
            else:
                refused = error_response('a bearer token is needed, and this is not it', 401)
                refused.headers['www-authenticate'] = 'Bearer'
                await refused(scope, receive, observed)
        except Exception:
            # A mistake of ours: told in the log, and nothing of it to the client.
            _log.exception('a request failed')
            if not status:
                await error_response('the server failed; its log says why', 500)(scope, receive, observed)
        finally:
            route = label(scope['path']) if status != 404 else 'other'
            self._metrics.request(route, status, time.perf_counter() - start)

    def _allowed(self, scope: Scope) -> bool:
        if not self._wanted or scope['path'] in FREE:
            return True
        found = [value for name, value in scope['headers'] if name == b'authorization']
        return len(found) == 1 and hmac.compare_digest(found[0], self._wanted)


def label(path: str) -> str:
    """Name of a path's route in the metrics, which are few whatever paths are asked for."""
    if found := _MODEL.match(path):
        return f'/v2/models/NAME{found[1] or ""}'
    return path if path in _PATHS else 'other'


async def body_of(request: Request, max_bytes: int) -> bytes:
    """The body of a request.

    Args:
      request: not read yet.
      max_bytes: maximum size.

    Raises:
      BadRequest: it is larger, or encoded.
    """
    if request.headers.get('content-encoding', 'identity') != 'identity':
        raise BadRequest('content-encoding: the body must not be compressed', 415)
    length = request.headers.get('content-length', '')
    if length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_bytes:
                raise _too_large(max_bytes)
            chunks.append(chunk)
    except ClientDisconnect:
        # Nobody is there to read it; the metrics have it.
        raise BadRequest('the client has left', _LEFT) from None
    return chunks[0] if len(chunks) == 1 else b''.join(chunks)


def _too_large(max_bytes: int) -> BadRequest:
    return BadRequest(f'the body has more than {max_bytes} bytes; send fewer rows at once', 413)


def error_response(message: str, status: int) -> Response:
    """An error as both protocols have it."""
    return Response(orjson.dumps({'error': message}), status, media_type='application/json')


async def bad_request(request: Request, error: Exception) -> Response:
    """The answer to a `BadRequest`."""
    assert isinstance(error, BadRequest)
    response = error_response(str(error), error.status)
    if error.status in (408, 413, 415):
        # The body was not read to its end, so nothing can come after it.
        response.headers['connection'] = 'close'
    return response


async def overloaded(request: Request, error: Exception) -> Response:
    """The answer where there is no room."""
    response = error_response('too many rows are waiting; try again', 503)
    response.headers['retry-after'] = '1'
    return response


async def timed_out(request: Request, error: Exception) -> Response:
    """The answer where the time is over."""
    return error_response('the request took too long', 504)


async def http_error(request: Request, error: Exception) -> Response:
    """The answer to a path or a method that there is not."""
    assert isinstance(error, HTTPException)
    response = error_response(error.detail, error.status_code)
    response.headers.update(error.headers or {})
    return response


HANDLERS: dict[Any, Any] = {
    BadRequest: bad_request,
    Overloaded: overloaded,
    TimeoutError: timed_out,
    HTTPException: http_error,
}
