"""Waiting for processes that tests start, never without a deadline."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def deadline(*processes: subprocess.Popen, seconds: float = 120) -> Iterator[None]:
    """Fails where the block takes longer; kills the processes then, so that reading from them ends."""
    late = threading.Event()

    def kill() -> None:
        late.set()
        for process in processes:
            process.kill()

    timer = threading.Timer(seconds, kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        assert not late.is_set(), f'not within {seconds} seconds'


def wait_until(condition: Callable[[], bool], *processes: subprocess.Popen, seconds: float = 120) -> None:
    """Waits for a condition that processes which run meanwhile bring about."""
    until = time.monotonic() + seconds
    while not condition():
        ended = [process for process in processes if process.poll() is not None]
        assert not ended, [process.communicate(timeout=30) for process in ended]
        assert time.monotonic() < until, f'not within {seconds} seconds'
        time.sleep(0.02)


def wait_for_line(text: str, process: subprocess.Popen, seconds: float = 120) -> None:
    """Reads standard error up to the line that holds a text."""
    with deadline(process, seconds=seconds):
        assert any(text in line for line in process.stderr), f'no line with {text!r}'
