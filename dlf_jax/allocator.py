"""Settings of glibc's allocator with which the memory of a freed array is kept for the next one.

By default glibc gives the memory of large arrays back to the system, which hands it out again page by page,
each
one filled with zeros first: work that repeats the same arrays for every chunk or step spends much of its
time on that (benchmarks/RESULTS.md). With another C library the functions do nothing.
"""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
# Larger arrays still go back to the system: when they were kept, a process came to hold two and a half times
# what it needs. Steps take theirs in smaller pieces.
LARGEST = 512 << 20
# glibc takes no more before version 2.35.
_LARGEST_BEFORE = 32 << 20


# Whether the process is the command's own, and not one that merely calls the library.
_taken_over = False


def take_over() -> None:
    """Says that the process is the command's own, so that the allocator may be set; see `one_arena`."""
    global _taken_over
    _taken_over = True
    one_arena()


def one_arena() -> None:
    """Makes all threads allocate from one arena, since one thread frees what another one needs, and other
    arenas keep nothing large. To be called before anything starts threads, imports included: a thread keeps
    its arena.

    The arena's lock is held for nanoseconds, and what is allocated often is small and comes from the threads'
    own caches.
    """
    _set(_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """Lets glibc keep what arrays of up to 512 MiB leave behind (before version 2.35: 32 MiB).

    Of the free end of its memory it keeps 2 GiB; what is free below arrays in use stays. Does nothing in a
    process that is not the command's own.
    """
    if not _taken_over:
        return
    if _set(_MMAP_THRESHOLD, LARGEST) or _set(_MMAP_THRESHOLD, _LARGEST_BEFORE):
        _set(_TRIM_THRESHOLD, 2**31 - 1)
        _set(_TOP_PAD, 64 << 20)


def give_back() -> None:
    """Gives the system back what glibc keeps of freed memory, as loading a model leaves it behind."""
    if sys.platform.startswith('linux'):
        trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
        if trim is not None:
            trim(0)


def _set(option: int, value: int) -> bool:
    """Whether the C library took it."""
    if not sys.platform.startswith('linux'):
        return False
    # Another C library than glibc may lack it.
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    return mallopt is not None and bool(mallopt(option, value))
