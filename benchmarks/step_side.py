"""What both sides of `step.py` share: clocks, and answering its orders. The standard library alone, since the
peer's environment holds nothing of dlf_jax's."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any


def clocks() -> tuple[float, float]:
    """Seconds on the wall, and of processor time in all threads of this process."""
    return time.perf_counter(), time.process_time()


def age() -> float:
    """Seconds since this process was started, Python's own start included."""
    with open('/proc/self/stat') as file:
        # "pid (name) state parent ...", and the name may hold anything.
        ticks = int(file.read().rsplit(')', 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf('SC_CLK_TCK')


def since(start: tuple[float, float]) -> dict[str, float]:
    wall, processor = clocks()
    return {'seconds': wall - start[0], 'processor_seconds': processor - start[1]}


def gflops(multiply: Callable[[], Any], size: int, repeats: int = 5) -> dict[str, float]:
    """GFLOP/s of a product of two matrices [size, size], the best of some; `multiply` waits for its end."""
    best = float('inf')
    for _ in range(repeats):
        start = time.perf_counter()
        multiply()
        best = min(best, time.perf_counter() - start)
    return {'gflops': 2 * size**3 / best / 1e9}


def serve(started: dict[str, Any], does: dict[str, Callable[..., dict[str, Any]]], version: str) -> None:
    """Tells that it has started, then reads a command a line ("steps 10", "parts 5", "product", "end") and
    answers each with a line of JSON, the last one with the most memory that it held.

    Args:
      started: the first line.
      does: what answers, by command; called with the numbers after it.
      version: of the library that trains.
    """
    print(json.dumps(started), flush=True)
    for line in sys.stdin:
        command, *count = line.split()
        if command == 'end':
            break
        print(json.dumps(does[command](*map(int, count))), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({'peak_bytes': peak, 'version': version}), flush=True)
