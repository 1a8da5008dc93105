"""SIGTERM, as schedulers send it before they take a machine away: save, then stop."""

from __future__ import annotations

import collections
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from dlf_jax.errors import UserError
from dlf_jax.training import multihost

_log = logging.getLogger(__name__)

EXIT_CODE = 128 + signal.SIGTERM
# In the store of several processes: which have got the signal; what the first has said at which call.
_RECEIVED, _DECISIONS = 'dlf_jax/sigterm', 'dlf_jax/decisions'
# Between two questions: about so many seconds, so many calls at most.
_SECONDS, _MOST_CALLS = 0.5, 16
# Decisions that are kept for processes that lag behind.
_KEPT = 1000


class Preempted(UserError):
    """Saved, and stopped because of SIGTERM."""


class Preemption:
    """Notices SIGTERM, in whichever process it arrives, and lets all of them stop at the same step.

    Several processes agree through the coordination service's store: at some of their calls, the same in
    all, the others take the first one's word whether to stop, and which call is the next to ask at. (JAX's
    own service for this misses signals where steps are short.)
    """

    def __init__(self) -> None:
        self._noticed = False
        self._calls = 0
        self._ask_at = 1
        self._asked = (0, time.monotonic())
        self._decisions: collections.deque[str] = collections.deque()
        self._idle = threading.Lock()
        self._in_idle: Callable[[], None] | None = None

    def due(self) -> bool:
        """Whether to save and stop now; the same answer in all processes.

        All of them call this at the same points: between steps, and between batches of evaluations.
        """
        if jax.process_count() == 1:
            return self._noticed
        self._calls += 1
        if self._calls < self._ask_at:
            return False
        key = f'{_DECISIONS}/{self._calls}'
        if multihost.is_first():
            said = self._decision()
            multihost.tell(key, json.dumps(said))
            self._decisions.append(key)
            if len(self._decisions) > _KEPT:
                multihost.forget(self._decisions.popleft())
        else:
            said = json.loads(multihost.wait_for(key))
        self._ask_at = said['next']
        return said['stop']

    def _decision(self) -> dict[str, Any]:
        """What the first process says: whether to stop, and after how many calls the others ask again."""
        calls, moment = self._asked
        self._asked = self._calls, time.monotonic()
        rate = (self._calls - calls) / max(self._asked[1] - moment, 1e-6)
        after = min(max(int(rate * _SECONDS), 1), _MOST_CALLS)
        return {'stop': multihost.any_told(_RECEIVED), 'next': self._calls + after}

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Listens, until the end of the block."""
        if threading.current_thread() is not threading.main_thread():
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
            if jax.process_count() > 1:
                multihost.tell(f'{_RECEIVED}/{jax.process_index()}', 'SIGTERM')
            with self._idle:
                if self._in_idle is not None:
                    self._in_idle()
                    print('error: stopped by SIGTERM; the same command goes on', file=sys.stderr, flush=True)
                    multihost.leave('SIGTERM', EXIT_CODE)
                    os._exit(EXIT_CODE)

    @contextlib.contextmanager
    def nothing_to_lose(self, settle: Callable[[], None]) -> Iterator[None]:
        """A block, such as a compilation, that a process may leave at any moment: there is no step that a
        checkpoint, finished or on its way, does not hold. The other processes, which can take no step without
        it, hear of it and end too.

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
