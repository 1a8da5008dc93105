"""Threads of the data pipeline: prefetching of an iterator, ordered parallel map, a pool for columns."""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar('T')
U = TypeVar('U')


@functools.cache
def column_pool() -> ThreadPoolExecutor:
    """Shared thread pool for the columns of a chunk, with one thread fewer than there are cores.

    `prefetch` keeps one core busy, and more threads than cores only contend for the interpreter lock.
    """
    return ThreadPoolExecutor(max(1, min(8, (os.cpu_count() or 1) - 1)), 'columns')


@contextlib.contextmanager
def prefetch(items: Iterable[T], depth: int = 2) -> Iterator[Iterator[T]]:
    """Iterates over items in a background thread, which stops when the block is left.

    Args:
      items: consumed by the thread.
      depth: maximum number of items that are ready and not yet taken.

    Yields:
      An iterator over the items. An exception of `items` is raised in place of the item.
    """
    ready: queue.Queue = queue.Queue(depth)
    stop = threading.Event()
    end = object()

    def put(entry: tuple) -> bool:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(entry, timeout=0.1)
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


def parallel_map(function: Callable[[T], U], items: Iterable[T], workers: int = 2) -> Iterator[U]:
    """Maps a function over items in threads, a few items ahead, with results in the items' order.

    It pays for functions that wait for the interpreter lock often while other threads hold it for long.
    """
    with ThreadPoolExecutor(workers) as pool:
        pending: collections.deque = collections.deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
