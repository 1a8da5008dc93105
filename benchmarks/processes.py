"""Runs a command to its end, with the most memory that it and its children held."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SAMPLE_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class Done:
    """A finished command.

    Attributes:
      result: its last line of standard output, one JSON object.
      seconds: from start to end, starting Python included.
      peak_bytes: memory of the whole tree of processes, pages that they share counted once.
    """

    result: dict[str, Any]
    seconds: float
    peak_bytes: int


def run(*command: str | Path, env: dict[str, str] | None = None) -> Done:
    """Runs a command in the root of the project. Exits, with what it said, where it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    peak, ended = [0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, ended))
    watcher.start()
    out, err = process.communicate()
    seconds = time.perf_counter() - start
    ended.set()
    watcher.join()
    if process.returncode:
        sys.exit(f'{command}: exit code {process.returncode}\n{out[-2000:]}\n{err[-4000:]}')
    # What ended between two samples.
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return Done(json.loads(out.splitlines()[-1]), seconds, peak[0] or largest)


def machine() -> str:
    """What the figures were taken on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith('model name')]
        model = names[0].split(':')[1].strip() if names else model
    return f'{os.cpu_count()} x {model}'


def _watch(pid: int, peak: list[int], ended: threading.Event) -> None:
    while not ended.wait(SAMPLE_SECONDS):
        peak[0] = max(peak[0], sum(map(_memory, _tree(pid))))


def _tree(pid: int) -> list[int]:
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
    try:
        lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('Pss:'))
    except (OSError, StopIteration):
        return 0
