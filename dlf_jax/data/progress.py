"""What long work needs: one kind of progress bar, and reading ahead in a thread."""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import tqdm

_LOG_SECONDS = 10.0

T = TypeVar('T')
U = TypeVar('U')


class Progress(tqdm.tqdm):
    """Progress on standard error, with a rate and, where the total is known, the time left.

    On a terminal a bar that is redrawn; in a log file a line every ten seconds.
    """

    def __init__(self, what: str, unit: str, total: int | None = None, done: int = 0):
        self._terminal = sys.stderr.isatty()
        super().__init__(
            desc=what,
            unit=f' {unit}',
            total=total,
            initial=done,
            unit_scale=True,
            file=sys.stderr,
            mininterval=0.1 if self._terminal else _LOG_SECONDS,
            delay=0 if self._terminal else _LOG_SECONDS,
            dynamic_ncols=self._terminal,
            ncols=None if self._terminal else 100,
            ascii=not self._terminal,
            leave=False,
        )

    def advance(self, count: int) -> None:
        """Counts what has been done since."""
        self.update(count)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        if self._terminal:
            return super().display(msg, pos)
        if msg != '':  # '' would clear the bar
            print(str(self), file=sys.stderr, flush=True)
        return True

    def clear(self, nolock: bool = False) -> None:
        if self._terminal:
            super().clear(nolock)


@functools.cache
def threads() -> ThreadPoolExecutor:
    """Threads for the columns of a chunk, one fewer than there are cores: `ahead` keeps one busy, and more
    threads than cores only take the interpreter's lock from each other."""
    return ThreadPoolExecutor(max(1, min(8, (os.cpu_count() or 1) - 1)), 'columns')


@contextlib.contextmanager
def ahead(items: Iterable[T], depth: int = 2) -> Iterator[Iterator[T]]:
    """Iterates in a thread, up to `depth` items ahead; errors come out where the item would."""
    ready: queue.Queue = queue.Queue(depth)
    stop = threading.Event()
    end = object()

    def put(item: tuple) -> bool:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return True
        return False

    def run() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((end, None))
        except BaseException as error:
            put((end, error))

    def taken() -> Iterator[T]:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        stop.set()
        thread.join()


def side_by_side(function: Callable[[T], U], items: Iterable[T], workers: int = 2) -> Iterator[U]:
    """Like map, in so many threads, a few items ahead; the results come in the items' order.

    For functions that wait for the interpreter's lock at every step, while others hold it for long.
    """
    with ThreadPoolExecutor(workers) as pool:
        under_way: collections.deque = collections.deque()
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
