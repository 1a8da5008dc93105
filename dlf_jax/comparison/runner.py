"""Carries runs out as processes of `dlf_jax.main`, several at once; a failed one does not stop the others."""

from __future__ import annotations

import collections
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dlf_jax.comparison.run_list import Run
from dlf_jax.data import builders
from dlf_jax.data.builders.base import Builder
from dlf_jax.errors import UserError
from dlf_jax.file_writing import writing
from dlf_jax.lock import locked
from dlf_jax.storage import data_folder
from dlf_jax.training import metrics, warm_start

_log = logging.getLogger(__name__)

# Name of the file in a run's workdir that its standard error goes to.
LOG = 'log.txt'
_POLL_SECONDS = 0.1
# Time between two log lines about the runs that are active.
_STATUS_SECONDS = 30.0

# Content of a run's result.json.
Result = dict[str, Any]


class Outcome:
    """Results and errors of runs so far.

    Attributes:
      results: results of finished runs.
      errors: errors of failed runs, one line each.
      stopped: runs that were ended early.
    """

    def __init__(self, results: Mapping[Run, Result] | None = None):
        self.results: dict[Run, Result] = dict(results or {})
        self.errors: dict[Run, str] = {}
        self.stopped: set[Run] = set()


def finished_results(runs: Sequence[Run]) -> dict[Run, Result]:
    """Results of the runs that are finished already.

    Raises:
      UserError: the workdir of a run holds a run of another config, or on other data than the files of today.
    """
    found = {run: run.workdir.finished(run.config) for run in runs}
    finished = {run: result for run, result in found.items() if result is not None}
    opened: dict[str, Builder] = {}
    for run in finished:
        # The runs of one dataset share its files, which are summed once.
        key = run.config.training.warm_start + run.config.dataset.to_json(sort_keys=True)
        if key not in opened:
            opened[key] = _opened(run)
        run.workdir.check_data(opened[key])
    return finished


def _opened(run: Run) -> Builder:
    ancestor = warm_start.ancestor(run.config, run.workdir)
    return builders.build(run.config.dataset, data_folder.local(run.data_dir), ancestor)


def carry_out(
    runs: Sequence[Run],
    outcome: Outcome,
    slots: Sequence[Mapping[str, str]],
    on_change: Callable[[], object] = lambda: None,
    should_stop: Callable[[Run], bool] = lambda run: False,
) -> None:
    """Trains the runs that have no result yet.

    Args:
      runs: in the order to start them.
      outcome: changed in place.
      slots: environment variables of each of the concurrent runs.
      on_change: called after each change of `outcome`.
      should_stop: asked again and again whether an active run is to be ended early.
    """
    waiting = collections.deque(run for run in runs if run not in outcome.results)
    free, clock = list(slots), _Clock(runs, len(slots), outcome)
    active: list[_Process] = []
    held: set[Run] = set()
    last_status = time.monotonic()
    try:
        while waiting or active:
            for _ in range(len(waiting) if free else 0):
                run = waiting.popleft()
                if is_busy(run):
                    # A run of a comparison that was killed, on a system where runs cannot be ended with it.
                    if run not in held:
                        _log.info('%s: another process is working there; waiting for it', run.workdir.path)
                        held.add(run)
                    waiting.append(run)
                    continue
                result = run.workdir.finished(run.config) if run in held else None
                if result is not None:
                    outcome.results[run] = result
                    clock.count(run)
                    on_change()
                elif free:
                    active.append(_Process(run, free.pop(0)))
                    _log.info('%s: begins', run.name)
                else:
                    waiting.appendleft(run)
                    break
            for process in active:
                if not process.poll() and should_stop(process.run):
                    process.kill()
                    outcome.stopped.add(process.run)
            for process in [process for process in active if process.poll()]:
                active.remove(process)
                free.insert(0, process.slot)
                ending = _settle(process, outcome)
                clock.count(process.run)
                on_change()
                _log.info('%s: %s; %s', process.run.name, ending, clock.remaining(waiting, active))
            if time.monotonic() - last_status > _STATUS_SECONDS:
                last_status = time.monotonic()
                for process in active:
                    _log.info('%s: %s', process.run.name, process.last_line())
            time.sleep(_POLL_SECONDS)
    finally:
        # Nothing is lost: the same command goes on from the last checkpoint.
        for process in active:
            process.kill()


class _Process:
    """The process of an active run."""

    def __init__(self, run: Run, slot: Mapping[str, str]):
        self.run, self.slot, self.start = run, slot, time.monotonic()
        run.workdir.create()
        self.log = run.workdir.path / LOG
        self._before = self.log.stat().st_size if self.log.exists() else 0
        command = [
            sys.executable, '-m', 'dlf_jax.comparison.child', str(os.getpid()), *run.arguments,
            f'--workdir={run.workdir.path}',
        ]  # fmt: skip
        with writing(str(self.log)), open(self.log, 'a') as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **slot},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def code(self) -> int:
        """Exit code; waits for the end."""
        return self._process.wait()

    def poll(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def lines(self) -> list[str]:
        """Lines of its log since this start."""
        with open(self.log, errors='replace') as log:
            log.seek(self._before)
            return [line.strip() for line in log.read().splitlines() if line.strip()]

    def last_line(self) -> str:
        return (self.lines() or ['starting'])[-1]


def _settle(process: _Process, outcome: Outcome) -> str:
    """Takes the result or the error of a process that has ended; returns its ending in words."""
    run = process.run
    # A run that was stopped may have finished just before.
    result = run.workdir.result() if process.code == 0 or run in outcome.stopped else None
    if result is None and run in outcome.stopped:
        return 'stopped early'
    if result is None:
        outcome.errors[run] = _error(process)
        return f'failed: {outcome.errors[run]}'
    outcome.results[run] = result
    shown = metrics.shown(run.config)
    parts = [part for part in ('valid', 'test') if result.get(part)]
    return f'finished, {"; ".join(f"{part} {metrics.describe(result[part], shown, 5)}" for part in parts)}'


def _error(process: _Process) -> str:
    lines = process.lines()
    errors = [line.removeprefix('error: ') for line in lines if line.startswith('error: ')]
    if errors:
        return errors[-1]
    last = f'; its last line: {lines[-1]}' if lines else ''
    how = f'ended by signal {-process.code}' if process.code < 0 else f'exit code {process.code}'
    return f'{how}{last} (all lines: {process.log})'


def is_busy(run: Run) -> bool:
    """Whether a process is working in the run's workdir."""
    if not run.workdir.lock.exists():
        return False
    try:
        with locked(run.workdir.lock, wait=False):
            return False
    except UserError:
        return True


class _Clock:
    """Estimate of the time that the remaining runs will take, from the time that others took."""

    def __init__(self, runs: Sequence[Run], jobs: int, outcome: Outcome):
        self._jobs, self._total, self._outcome = jobs, len(runs), outcome
        self._ended = len(outcome.results)
        # Seconds of finished runs of the same setting, of the same dataset, and of all.
        self._seconds: dict[tuple[str, ...], list[float]] = collections.defaultdict(list)
        for run in outcome.results:
            self._add(run)

    def _add(self, run: Run) -> None:
        for like in ((run.dataset, run.folder), (run.dataset,), ()):
            self._seconds[like].append(self._outcome.results[run]['seconds'])

    def count(self, run: Run) -> None:
        """Counts a run that has ended."""
        self._ended += 1
        if run in self._outcome.results:
            self._add(run)

    def _expected(self, run: Run) -> float:
        for like in ((run.dataset, run.folder), (run.dataset,), ()):
            if self._seconds[like]:
                return sum(self._seconds[like]) / len(self._seconds[like])
        return 0.0

    def remaining(self, waiting: Sequence[Run], active: Sequence[_Process]) -> str:
        """Progress in words: `12 of 80 runs done, about 2 h 10 min left`."""
        text = f'{self._ended} of {self._total} runs done'
        if not self._seconds[()] or not (waiting or active):
            return text
        now = time.monotonic()
        rest = sum(self._expected(run) for run in waiting) / self._jobs
        rest += sum(max(0.0, self._expected(p.run) - (now - p.start)) for p in active) / self._jobs
        return f'{text}, about {duration(rest)} left'


def duration(seconds: float) -> str:
    """A duration in words: `40 s`, `12 min`, `2 h 10 min`."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60} min'
