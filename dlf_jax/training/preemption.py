"""Stopping on request: save a checkpoint, then stop, at the same step in all processes.

Schedulers send SIGTERM before they take a machine away.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
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
from dlf_jax.file_writing import to_json
from dlf_jax.training import multihost

_log = logging.getLogger(__name__)

EXIT_CODE = 128 + signal.SIGTERM
# Keys in the store of several processes: requests by process, and decisions of process 0 by number of calls.
_REQUESTS, _DECISIONS = 'dlf_jax/preemption/{}/requests', 'dlf_jax/preemption/{}/decisions'
# Seconds between two decisions, about, and calls between them, at most.
_SECONDS, _MAX_CALLS = 0.5, 16
# Seconds that the end of `watched` waits for the thread that listens.
_PATIENCE = 5.0
# Decisions that stay in the store for processes that lag behind.
_KEPT = 1000
# Each object has keys of its own in the store.
_instances = itertools.count()


class Preempted(UserError):
    """Training stopped on request, after the step that it took last was saved."""


class Preemption:
    """A request to stop, from any process, that all processes follow at the same step.

    A request comes from `request_stop`, which any thread may call, and with `listen=True` from SIGTERM.

    Several processes agree through the store of `multihost`: at some of their calls of `due`, the same calls
    in all processes, process 0 decides whether to stop and at which call to decide next, and the others read
    its decision. (JAX's own preemption service misses signals where steps are short.) All processes make
    their objects in the same order.

    Attributes:
      reason: why `due` returned True; empty before.
    """

    def __init__(self, listen: bool = False):
        """Prepares an object for one run of training.

        Args:
          listen: handle SIGTERM inside `watched`, and let it end the process inside `interruptible`. This
            sets the process's signal handler: for a program of its own, not for a library.
        """
        self.reason = ''
        self._listens = listen
        self._requested = ''
        number = next(_instances)
        self._requests, self._decisions = _REQUESTS.format(number), _DECISIONS.format(number)
        self._calls = 0
        self._next_decision = 1
        self._last_decision = (0, time.monotonic())
        self._kept: collections.deque[str] = collections.deque()
        self._lock = threading.Lock()
        self._finish_saving: Callable[[], None] | None = None

    def request_stop(self, reason: str = 'request_stop') -> None:
        """Asks for a checkpoint and a stop after the current step; in several processes, of all of them.

        Args:
          reason: what the message of `Preempted` names.
        """
        self._requested = reason
        if jax.process_count() > 1:
            multihost.store_set(f'{self._requests}/{jax.process_index()}', reason)

    def due(self) -> bool:
        """Whether to save and stop now; the same answer in all processes.

        All processes call this at the same points: between steps, and between batches of evaluations.

        Raises:
          LostProcess: a process was lost.
        """
        if jax.process_count() == 1:
            self.reason = self._requested
            return bool(self.reason)
        multihost.raise_if_lost()
        self._calls += 1
        if self._calls < self._next_decision:
            return False
        key = f'{self._decisions}/{self._calls}'
        if multihost.is_first():
            decision = self._decide()
            multihost.store_set(key, to_json(decision))
            self._kept.append(key)
            if len(self._kept) > _KEPT:
                multihost.store_delete(self._kept.popleft())
        else:
            decision = json.loads(multihost.store_get(key))
        self._next_decision = decision['next']
        self.reason = decision['reason']
        return bool(self.reason)

    def _decide(self) -> dict[str, Any]:
        """The decision of process 0: why to stop, if at all, and the number of the call that decides next."""
        calls, moment = self._last_decision
        self._last_decision = self._calls, time.monotonic()
        rate = (self._calls - calls) / max(self._last_decision[1] - moment, 1e-6)
        after = min(max(int(rate * _SECONDS), 1), _MAX_CALLS)
        requests = multihost.store_list(self._requests)
        return {'reason': requests[0] if requests else '', 'next': self._calls + after}

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Handles SIGTERM inside the block, with `listen=True`; in the main thread only, as Python has it."""
        if not self._listens:
            yield
            return
        # The handler in Python runs when the main thread gets to it, which a compilation keeps it from for
        # long; the byte in the pipe comes at once.
        before = signal.signal(signal.SIGTERM, lambda *_: None)
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        listener = threading.Thread(target=self._listen, args=(reader,), daemon=True, name='SIGTERM')
        listener.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            signal.signal(signal.SIGTERM, before)
            # The listener then reads the end of the file, and ends, unless the store does not answer it.
            os.close(writer)
            listener.join(timeout=_PATIENCE)
            if not listener.is_alive():
                os.close(reader)

    def _listen(self, reader: int) -> None:
        while received := os.read(reader, 64):
            if signal.SIGTERM not in received:
                continue
            _log.info('SIGTERM: saving and stopping')
            self.request_stop('SIGTERM')
            with self._lock:
                if self._finish_saving is not None:
                    self._finish_saving()
                    print('error: stopped by SIGTERM; the same command goes on', file=sys.stderr, flush=True)
                    multihost.leave('SIGTERM', EXIT_CODE)
                    os._exit(EXIT_CODE)

    @contextlib.contextmanager
    def interruptible(self, finish_saving: Callable[[], None]) -> Iterator[None]:
        """A block, such as a compilation, in which SIGTERM ends the process at once, with `listen=True`.

        There must be no step that a checkpoint, finished or on its way, does not hold. The other processes,
        which can take no step without this one, hear of it and end too.

        Args:
          finish_saving: waits for the checkpoint that is on its way.
        """
        with self._lock:
            self._finish_saving = finish_saving
        try:
            yield
        finally:
            with self._lock:
                self._finish_saving = None
