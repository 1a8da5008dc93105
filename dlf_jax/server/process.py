"""The server as a process: its socket, its signals, its end."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import time
from types import FrameType

import uvicorn

from dlf_jax import allocator
from dlf_jax.errors import UserError
from dlf_jax.server.app import Service, application
from dlf_jax.server.connection import Connection
from dlf_jax.server.scorer import load
from dlf_jax.server.settings import Settings
from dlf_jax.server.watcher import Watcher

_log = logging.getLogger(__name__)

_BACKLOG = 2048
# Seconds for which a connection may stay open between two requests: longer than a balancer in front takes.
_KEEP_ALIVE = 75
# Seconds for which one thread may keep the interpreter from another that waits for it; by default 5 ms, which
# an answer would wait while a batch is encoded.
_SWITCH = 0.0005
# New objects after which the collector looks for cycles among them.
_GARBAGE = 50_000


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
      UserError: there is no model, or the address cannot be had.
    """
    begin = time.perf_counter()
    bound = bound_socket(settings)
    watcher = Watcher(
        settings.workdir, lambda: service.scorer, lambda scorer: service.swap(scorer),
        lambda: service.metrics.swap('refused'), settings.poll_seconds, settings.seed,
    )  # fmt: skip
    watcher.note()
    service = Service(settings, load(settings.workdir, settings.sizes, settings.seed))
    # Before that nobody is heard; and of two servers that started at once, one is told now.
    listen(bound, settings)
    if settings.poll_seconds:
        watcher.start()
    sys.setswitchinterval(_SWITCH)
    # What is there now stays: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    allocator.give_back()
    # Rows of JSON are many small objects without cycles, which the collector would visit again and again.
    gc.set_threshold(_GARBAGE, 20, 20)
    _log.info(
        'serving %s, version %s, at http://%s:%d; ready after %.1f s', settings.name, service.scorer.version,
        settings.host, bound.getsockname()[1], time.perf_counter() - begin,
    )  # fmt: skip
    try:
        Server(service).run(sockets=[bound])
    finally:
        idle = watcher.close()
    _log.info('ended')
    if not idle:
        # A compiler that is at work while Python takes itself apart would end the process with an error.
        logging.shutdown()
        os._exit(0)


def bound_socket(settings: Settings) -> socket.socket:
    """A socket at the address, which does not listen yet. Raises UserError where it cannot be had."""
    family = socket.AF_INET6 if ':' in settings.host else socket.AF_INET
    try:
        # Nobody is heard before the model is there.
        bound = socket.socket(family)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        raise UserError(f'--host={settings.host} --port={settings.port}: {error}') from error
    return bound


def listen(bound: socket.socket, settings: Settings) -> None:
    """Has a socket listen. Raises UserError where another one has come to listen at its address."""
    try:
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise UserError(f'--host={settings.host} --port={settings.port}: {error}') from error


class Server(uvicorn.Server):
    """uvicorn's server, which on a signal says first that it is not ready, and ends by itself."""

    def __init__(self, service: Service):
        """Takes what it serves.

        Args:
          service: whose settings are those of the server.
        """
        settings = service.settings
        # A grace that includes the drain, and a second for what comes after.
        grace = max(1.0, settings.grace_seconds - settings.drain_seconds - 1)
        super().__init__(
            uvicorn.Config(
                application(service), loop='uvloop', http=Connection, ws='none', lifespan='on',
                log_config=None, access_log=False, server_header=False, proxy_headers=False,
                # What it is of is up to `Connection`.
                limit_concurrency=settings.max_connections, backlog=_BACKLOG, timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=int(grace),
            )
        )  # fmt: skip
        self._service = service
        self._end = float('inf')

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handles SIGTERM and SIGINT; a second one ends at once."""
        if self._service.draining:
            _log.warning('ended by a second signal; requests may be lost')
            os._exit(1)
        self._service.draining = True
        self._end = time.monotonic() + self._service.settings.drain_seconds
        _log.info('%s: not ready any more; ends when all is answered', signal.Signals(sig).name)

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; returns whether to end."""
        if time.monotonic() >= self._end:
            self.should_exit = True
        return await super().on_tick(counter)
