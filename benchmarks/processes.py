"""Runs commands to their end and measures their time and peak memory, children included."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SAMPLE_SECONDS = 0.1
# Seconds that a command may take: more than any comparison of whole trainings does.
TIMEOUT = 24 * 3600


@dataclasses.dataclass(frozen=True)
class Done:
    """A finished command.

    Attributes:
      result: the JSON object on its last line of standard output; {} where it was stopped.
      seconds: wall time from start to end, the start of Python included.
      peak_bytes: highest memory of the whole tree of processes, pages that they share counted once.
    """

    result: dict[str, Any]
    seconds: float
    peak_bytes: int


def run(
    *command: str | Path,
    env: dict[str, str] | None = None,
    timeout: float = TIMEOUT,
    stop: Callable[[int], bool] | None = None,
) -> Done:
    """Runs a command in the root of the project.

    Args:
      command: program and arguments.
      env: variables on top of this process's environment.
      timeout: seconds after which the command is killed.
      stop: called with the highest memory so far, ten times a second; where it returns True, the command and
        its descendants are killed (SIGKILL), which is no failure.

    Raises:
      SystemExit: the command failed or took too long; holds the end of its output.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    peak, ended, stopped = [0], threading.Event(), threading.Event()

    def look() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            peak[0] = max(peak[0], sum(map(_memory, _tree(process.pid))))
            if stop and stop(peak[0]) and not ended.is_set():
                stopped.set()
                _kill(process.pid)
                return

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _kill(process.pid)
        sys.exit(f'{command}: killed after {timeout:g} seconds')
    finally:
        ended.set()
    seconds = time.perf_counter() - start
    # One sample of the whole tree at most.
    watcher.join(timeout=60)
    if stopped.is_set():
        return Done({}, seconds, peak[0])
    if process.returncode:
        sys.exit(f'{command}: exit code {process.returncode}\n{out[-2000:]}\n{err[-4000:]}')
    # A command that ended before the first sample.
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return Done(json.loads(out.splitlines()[-1]), seconds, peak[0] or largest)


def machine() -> str:
    """Number and model of this machine's CPU cores, for a benchmark's report."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith('model name')]
        model = names[0].split(':')[1].strip() if names else model
    return f'{os.cpu_count()} x {model}'


def _kill(pid: int) -> None:
    for member in _tree(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


def _tree(pid: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for status in Path('/proc').glob('[0-9]*/stat'):
        try:
            # "pid (name) state parent ...", and the name may hold anything.
            parent = int(status.read_text().rsplit(')', 1)[1].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(int(status.parent.name))
    tree = [pid]
    for member in tree:
        tree.extend(children.get(member, []))
    return tree


def _memory(pid: int) -> int:
    """Bytes of a process, shared pages divided by the number that share them; 0 where it has ended."""
    try:
        lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('Pss:'))
    except (OSError, StopIteration):
        return 0
