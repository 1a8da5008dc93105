"""Liveness of the processes of one run, through a key-value store that all of them share.

A collective operation whose peer is gone may wait for ever. So each process writes a count into the store
once a second and compares the counts of the others with those that it read before.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Protocol

import jax

_PREFIX = 'dlf_jax/alive'
# Values that replace the count when a process ends; the second is followed by an exit code and a reason.
_DONE, _FAILED = 'done', 'failed: '


class Store(Protocol):
    """The methods of the coordination service's client that a heartbeat uses."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        """Writes a value."""

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """Keys and values below a key."""


@dataclasses.dataclass(frozen=True)
class Loss:
    """A process that the others cannot go on without.

    Attributes:
      reason: which process, and what happened to it.
      code: exit code for the processes that end because of it.
      store: whether the store went with it; nothing can be said to the other processes then.
    """

    reason: str
    code: int = 1
    store: bool = False


class Heartbeat:
    """Heartbeat of this process, and watch over those of the others.

    One thread exchanges counts with the store, in calls that block while process 0, which keeps the store,
    does not answer. Another thread, which never blocks, looks every `period` seconds for a lost process:
    one that ended with an error, whose count stood still for `timeout` seconds, or, for process 0, whose
    store gave no answer for `timeout` seconds.

    Seconds are counted only while this process runs: one that was suspended, or that held Python's global
    lock for long, does not take the others for lost.
    """

    def __init__(
        self,
        store: Store,
        process: int,
        processes: int,
        timeout: float,
        on_loss: Callable[[Loss], None],
        period: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Prepares a heartbeat; `start` starts it.

        Args:
          store: shared by all processes.
          process: number of this process.
          processes: number of processes.
          timeout: seconds without a sign of life after which a process is lost.
          on_loss: called once, in a thread of its own, with the first loss.
          period: seconds between two exchanges, and between two looks.
          clock: monotonic time in seconds.
        """
        self._store, self._process, self._processes = store, process, processes
        self._timeout, self._on_loss, self._period, self._clock = timeout, on_loss, period, clock
        self._lock = threading.Lock()
        self._last_time = clock()
        self._elapsed = 0.0
        # In seconds of `_elapsed`, as the moments of `_seen` are: the store's last answer.
        self._answered = 0.0
        self._seen = {i: ('', 0.0) for i in range(processes) if i != process}
        self._count = 0
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat_exchange, daemon=True, name='heartbeat'),
            threading.Thread(target=self._repeat_look, daemon=True, name='heartbeat watch'),
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, patience: float) -> None:
        """Ends the threads.

        Args:
          patience: seconds to wait for a thread that is inside a call of the store.
        """
        self._stopped.set()
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(timeout=patience)

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def exchange(self) -> None:
        """Writes this process's count and reads those of the others; blocks while the store is silent."""
        self._count += 1
        try:
            self._store.key_value_set(self._key(self._process), str(self._count), allow_overwrite=True)
            values = self._values()
        except jax.errors.JaxRuntimeError:
            # One failed call is no loss: `look` decides by the time since the last answer.
            return
        now = self._answered = self._advance()
        for process, (last, _) in self._seen.items():
            value = values.get(process, last)
            if value != last or value == _DONE:
                self._seen[process] = value, now

    def look(self) -> Loss | None:
        """The loss of a process, if there is one by now."""
        now = self._advance()
        if now - self._answered > self._timeout:
            return Loss(f'process 0 has not been reached for {self._timeout:g} seconds', store=True)
        for process, (value, moment) in self._seen.items():
            if value.startswith(_FAILED):
                code, reason = value.removeprefix(_FAILED).split(' ', 1)
                return Loss(f'process {process} stopped: {reason}', int(code))
            if value != _DONE and now - moment > self._timeout:
                return Loss(f'process {process} has given no sign of life for {self._timeout:g} seconds')
        return None

    def _advance(self) -> float:
        """Seconds that this process has run since it began; both threads call this about once a period."""
        with self._lock:
            now = self._clock()
            # A longer step means that this process itself stood still.
            self._elapsed += min(now - self._last_time, 2 * self._period)
            self._last_time = now
            return self._elapsed

    def announce_end(self, error: str = '', code: int = 1) -> None:
        """Writes this process's last value: done, or failed.

        Args:
          error: what it failed of; empty: it is done.
          code: exit code for all processes, with an error.
        """
        value = f'{_FAILED}{code} {error}' if error else _DONE
        self._store.key_value_set(self._key(self._process), value, allow_overwrite=True)

    def all_ended(self) -> bool:
        """Whether every process has written its last value."""
        values = self._values().values()
        ended = [value for value in values if value == _DONE or value.startswith(_FAILED)]
        return len(ended) == self._processes

    def _values(self) -> dict[int, str]:
        return {int(key.rsplit('/', 1)[1]): value for key, value in self._store.key_value_dir_get(_PREFIX)}

    def _key(self, process: int) -> str:
        return f'{_PREFIX}/{process}'

    def _repeat_exchange(self) -> None:
        while not self.stopped:
            self.exchange()
            self._stopped.wait(self._period)

    def _repeat_look(self) -> None:
        while not self._stopped.wait(self._period):
            loss = self.look()
            if loss is not None and not self.stopped:
                self._on_loss(loss)
                return
