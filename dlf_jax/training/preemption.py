"""SIGTERM, as schedulers send it before they take a machine away: save, then stop."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

from dlf_jax.errors import UserError

_log = logging.getLogger(__name__)

EXIT_CODE = 128 + signal.SIGTERM


class Preempted(UserError):
    """Saved, and stopped because of SIGTERM."""


class Preemption:
    """Notices SIGTERM, in whichever process it arrives, and lets all of them stop at the same step."""

    def __init__(self) -> None:
        self._noticed = False
        self._calls = 0
        self._idle = threading.Lock()
        self._in_idle: Callable[[], None] | None = None

    def due(self) -> bool:
        """Whether to save and stop now; the same answer in all processes.

        All of them call this at the same points: between steps, and between batches of evaluations.
        """
        if jax.process_count() == 1:
            return self._noticed
        self._calls += 1
        return multihost_utils.reached_preemption_sync_point(self._calls)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Listens, until the end of the block.

        Several processes leave it to JAX's coordination service, which tells the others.
        """
        if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
            yield
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        # The handler in Python runs when the main thread gets to it, which a compilation keeps it from for
        # long; the byte in the pipe comes at once.
        before = signal.signal(signal.SIGTERM, lambda *_: None)
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        listener = threading.Thread(target=self._listen, args=(reader,), daemon=True)
        listener.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            signal.signal(signal.SIGTERM, before)
            os.close(writer)
            listener.join()
            os.close(reader)

    def _listen(self, reader: int) -> None:
        while received := os.read(reader, 64):
            if signal.SIGTERM not in received:
                continue
            self._noticed = True
            _log.info('SIGTERM: saving and stopping')
            with self._idle:
                if self._in_idle is not None:
                    self._in_idle()
                    print('error: stopped by SIGTERM; the same command goes on', file=sys.stderr, flush=True)
                    os._exit(EXIT_CODE)

    @contextlib.contextmanager
    def nothing_to_lose(self, settle: Callable[[], None]) -> Iterator[None]:
        """A block, such as a compilation, that may be left at any moment: there is no step that a
        checkpoint, finished or on its way, does not hold.

        Args:
          settle: waits for the checkpoint that is on its way.
        """
        with self._idle:
            self._in_idle = settle
        try:
            yield
        finally:
            with self._idle:
                self._in_idle = None
