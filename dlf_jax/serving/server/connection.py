"""uvicorn's HTTP connections, with answers in one piece and bounds on the heads of requests."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Bytes of the head of a request, and seconds in which it must come.
MAX_HEAD = 64 << 10
HEAD_SECONDS = 10.0
_CONTINUE = b'HTTP/1.1 100'


class Connection(HttpToolsProtocol):
    """Connection of a client.

    uvicorn sends the head of an answer and its body by one system call each; together they are an eighth of
    what a small request costs. And it waits without end for a head that does not come, however long it is.
    """

    _in_head, _head_bytes = True, 0
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called with a new connection."""
        super().connection_made(_Gathering(transport))  # type: ignore[arg-type]
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection is closed."""
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called with what a client sends."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_head:
            self._head_is_there()
        elif self._head_bytes > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response('The head of the request is too long.')
        elif self._late is None:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """Called with the first byte of a request."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Called with the end of the head of a request."""
        self._in_head = False
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Called at the end of an answer."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()

    def _wait_for_head(self) -> None:
        self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _head_is_there(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Gathering:
    """Transport that sends what is written by `flush`, or when it is closed."""

    def __init__(self, transport: asyncio.Transport):
        self._transport = transport
        self._written: list[bytes] = []

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

    def close(self) -> None:
        """Sends what was written, and closes."""
        self.flush()
        self._transport.close()
