"""uvicorn's HTTP connections, with answers in one piece and bounds on heads, time and number."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

# Bytes of the head of a request, or of what follows its body, and seconds in which a head must come.
MAX_HEAD = 64 << 10
HEAD_SECONDS = 10.0
# Seconds for which a client may go on with a body that nobody reads, so that it comes to read the answer.
_LINGER = 2.0
# Seconds at the end in which a request that is on its way is still taken.
_LAST = 0.5
# Connections beyond the most, for the probes of the machinery that runs the server.
_RESERVE = 8
_PROBES = (b'/v2/health/live', b'/v2/health/ready')
_CONTINUE = b'HTTP/1.1 100'
_ERROR = orjson.dumps({'error': 'too many connections; try again'})
_FULL = (
    b'HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n'
    b'connection: close\r\ncontent-length: %d\r\n\r\n%b' % (len(_ERROR), _ERROR)
)


class Connection(HttpToolsProtocol):
    """Connection of a client.

    uvicorn sends the head of an answer and its body by one system call each; together they are an eighth of
    what a small request costs. And it waits without end for a head that does not come, however long it is,
    for the rest of a body after its answer, and keeps what follows a body, however long that is.

    uvicorn's `limit_concurrency` would refuse requests for the number of connections that are open, though
    nothing may come from them. Here it is the most connections: one more has the one closed that has been
    without a request for longest, and is refused where all have one.
    """

    transport: _Gathering  # type: ignore[assignment]
    # What came since the last part of a body, or the last end of a head or a request.
    _unbounded = 0
    _in_head, _begun, _spare, _last = True, False, False, False
    _late: asyncio.TimerHandle | None = None
    _idle_since = 0.0

    def __init__(self, *args: Any, **kwargs: Any):
        """As uvicorn's."""
        super().__init__(*args, **kwargs)
        self._most, self.limit_concurrency = self.limit_concurrency, None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called with a new connection."""
        super().connection_made(_Gathering(transport, self.loop))  # type: ignore[arg-type]
        self._idle_since = time.monotonic()
        self._wait_for_head()
        if self._too_many():
            self._make_room()
        self._spare = self._too_many()
        if self._too_many(_RESERVE):
            self._refuse()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection is closed."""
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called with what a client sends."""
        if self.transport.is_closing():
            # Nothing comes after the last answer.
            return
        self._unbounded += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._unbounded > MAX_HEAD:
            if self._in_head:
                self.send_400_response('The head of the request is too long.')
            else:
                self.transport.close()
        elif self._late is None and not self._busy():
            # uvicorn has stopped its clock, whatever came: the rest of a head, or an empty line.
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """Called with the first byte of a request."""
        super().on_message_begin()
        self._begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called with each header; after a body in pieces too, where it is of no use and has no bound."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Called with the end of the head of a request."""
        self._in_head = self._begun = False
        self._unbounded = 0
        self._head_is_there()
        if self.transport.is_closing():
            return
        self._spare = self._spare and self._too_many()
        if self._spare and self.url.partition(b'?')[0] not in _PROBES and not self._busy():
            # The client may still send the body.
            self.transport.unread = True
            self._refuse()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Called with a part of a body."""
        self._unbounded = 0
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Called with the end of a request."""
        self._in_head = True
        self._unbounded = 0
        if not self.transport.is_closing():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called at the end of an answer."""
        self.transport.flush()
        self._idle_since = time.monotonic()
        if self.transport.lingers:
            # The reading may have been stopped in the middle of a body.
            self.flow.resume_reading()
        super().on_response_complete()
        if self._begun and self._late is None and not self._busy():
            self._wait_for_head()

    def shutdown(self) -> None:
        """Called when the server ends: the connection has no more than the request that it waits for."""
        if self._busy() or self.transport.is_closing():
            super().shutdown()
        else:
            # A client may have sent it already, and would be cut.
            self._last = True
            self.loop.call_later(_LAST, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if not self._busy():
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        """Starts a request; where its body is not read when its answer begins, nothing can come after."""

        async def closing(scope: Scope, receive: Receive, send: Send) -> None:
            async def observed(message: Message) -> None:
                if message['type'] == 'http.response.start' and (cycle.more_body or self._last):
                    # uvicorn says so in the answer, and closes the connection after it.
                    cycle.keep_alive, self.transport.unread = False, cycle.more_body
                await send(message)

            await app(scope, receive, observed)

        super()._start_asgi_task(cycle, closing)  # type: ignore[arg-type]

    def _busy(self) -> bool:
        """Whether a request is there whose answer is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    def _too_many(self, reserve: int = 0) -> bool:
        return self._most is not None and len(self.connections) > self._most + reserve

    def _make_room(self) -> None:
        """Closes the other connection that has been without a request for longest, if there is one."""
        idle: list[Connection] = [
            other
            for other in self.connections
            if other is not self and isinstance(other, Connection) and not other._busy()
        ]
        if idle:
            oldest = min(idle, key=lambda other: other._idle_since)
            # uvicorn does so only a moment later, and others may come before.
            self.connections.discard(oldest)
            oldest.transport.abandon()

    def _refuse(self) -> None:
        self.transport.write(_FULL)
        self.transport.close()

    def _wait_for_head(self) -> None:
        self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _head_is_there(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Gathering:
    """Transport that sends what is written by `flush`, or when it is closed.

    Attributes:
      unread: whether a client may still send what nobody reads. A socket that is closed then takes the answer
        with it, so that only what is written ends at first.
      lingers: whether it is so.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop):
        self._transport, self._loop = transport, loop
        self._written: list[bytes] = []
        self.unread = self.lingers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Keeps bytes for the next `flush`."""
        self._written.append(data)
        if data.startswith(_CONTINUE):
            # The client waits for it before it sends the body.
            self.flush()

    def flush(self) -> None:
        """Sends what was written."""
        if self._written:
            self._transport.write(b''.join(self._written))
            self._written.clear()

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self.lingers or self._transport.is_closing()

    def close(self) -> None:
        """Sends what was written, and closes; a second call does so at once."""
        self.flush()
        if self.unread and not self.is_closing():
            self.lingers = True
            self._transport.write_eof()
            self._loop.call_later(_LINGER, self._transport.close)
        else:
            self._transport.close()

    def abandon(self) -> None:
        """Closes at once."""
        self.flush()
        self._transport.close()
