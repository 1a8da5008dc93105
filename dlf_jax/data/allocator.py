"""The C library's memory: kept for the next array when an array is freed."""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_MOST = 1 << 30


def keep_freed_memory() -> None:
    """Lets glibc keep what large arrays leave behind; elsewhere it does nothing. To be called early.

    By default it gives memory back to the system, which hands it out again page by page, each one filled
    with zeros first: work that repeats the same arrays for every chunk or step spends an eighth of its
    time on that. One arena, since what one thread frees another one takes; its lock is held for
    nanoseconds, and what is allocated often is small and comes from the threads' own caches.
    """
    if not sys.platform.startswith('linux'):
        return
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:
        # Another C library.
        return
    mallopt(_MMAP_THRESHOLD, _MOST)
    mallopt(_TRIM_THRESHOLD, _MOST)
    mallopt(_TOP_PAD, 64 << 20)
    mallopt(_ARENA_MAX, 1)
