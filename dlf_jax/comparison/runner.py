"""Carries runs out as processes of `dlf_jax.main`, several at once, failures apart."""

from __future__ import annotations

import collections
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dlf_jax.comparison.plan import Run
from dlf_jax.errors import UserError, writing
from dlf_jax.lock import locked

_log = logging.getLogger(__name__)

LOG = 'log.txt'
_POLL_SECONDS = 0.1
_STATUS_SECONDS = 30.0

Result = dict[str, Any]


class Outcome:
    """What became of the runs so far.

    Attributes:
      results: of finished runs.
      errors: of failed runs, one line each.
      stopped: runs that were ended early.
    """

    def __init__(self, results: Mapping[Run, Result] | None = None):
        self.results: dict[Run, Result] = dict(results or {})
        self.errors: dict[Run, str] = {}
        self.stopped: set[Run] = set()


def standing(runs: Sequence[Run]) -> dict[Run, Result]:
    """Results of the runs that are finished. Raises UserError where a folder holds another config."""
    found = {run: run.workdir.finished(run.config) for run in runs}
    return {run: result for run, result in found.items() if result is not None}


def carry_out(
    runs: Sequence[Run],
    outcome: Outcome,
    slots: Sequence[Mapping[str, str]],
    told: Callable[[], None] = lambda: None,
    stop: Callable[[Run], bool] = lambda run: False,
) -> None:
    """Trains what has no result yet; a failure does not stop the rest.

    Args:
      runs: in the order to start them.
      outcome: changed in place.
      slots: environment variables of each of the runs that go on at once.
      told: called whenever `outcome` has changed.
      stop: asked again and again whether a run that goes on is to be ended early.
    """
    waiting = collections.deque(run for run in runs if run not in outcome.results)
    free, going, clock = list(slots), [], _Clock(runs, len(slots), outcome)
    held: set[Run] = set()
    spoke = time.monotonic()
    try:
        while waiting or going:
            for _ in range(len(waiting) if free else 0):
                run = waiting.popleft()
                if _busy(run):
                    # Of a comparison that was killed where runs cannot be told to end with it.
                    if run not in held:
                        _log.info('%s: another process works there; waiting for it', run.workdir.path)
                        held.add(run)
                    waiting.append(run)
                    continue
                result = run.workdir.finished(run.config) if run in held else None
                if result is not None:
                    outcome.results[run] = result
                    clock.count(run)
                    told()
                elif free:
                    going.append(_Process(run, free.pop(0)))
                    _log.info('%s: begins', run.name)
                else:
                    waiting.appendleft(run)
                    break
            for process in going:
                if not process.poll() and stop(process.run):
                    process.kill()
                    outcome.stopped.add(process.run)
            for process in [process for process in going if process.poll()]:
                going.remove(process)
                free.insert(0, process.slot)
                became = _settle(process, outcome)
                clock.count(process.run)
                told()
                _log.info('%s: %s; %s', process.run.name, became, clock.left(waiting, going))
            if time.monotonic() - spoke > _STATUS_SECONDS:
                spoke = time.monotonic()
                for process in going:
                    _log.info('%s: %s', process.run.name, process.last_line())
            time.sleep(_POLL_SECONDS)
    finally:
        # A run loses nothing that the same command would not do again from its last checkpoint.
        for process in going:
            process.kill()


class _Process:
    """A run that is going on."""

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
    def code(self) -> int | None:
        return self._process.returncode

    def poll(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def lines(self) -> list[str]:
        """What it has said since this start."""
        with open(self.log, errors='replace') as log:
            log.seek(self._before)
            return [line.strip() for line in log.read().splitlines() if line.strip()]

    def last_line(self) -> str:
        return (self.lines() or ['starting'])[-1]


def _settle(process: _Process, outcome: Outcome) -> str:
    """Notes the result or the error of a process that has ended; returns it in words."""
    run = process.run
    # One that was stopped may have come to its end just before.
    result = run.workdir.result() if process.code == 0 or run in outcome.stopped else None
    if result is None and run in outcome.stopped:
        return 'stopped early'
    if result is None:
        outcome.errors[run] = _error(process)
        return f'failed: {outcome.errors[run]}'
    outcome.results[run] = result
    scores = (f'{part} AUC {result[part]["auc"]:.5f}' for part in ('valid', 'test') if result.get(part))
    return f'finished, {", ".join(scores)}'


def _error(process: _Process) -> str:
    lines = process.lines()
    told = [line.removeprefix('error: ') for line in lines if line.startswith('error: ')]
    if told:
        return told[-1]
    last = f'; its last line: {lines[-1]}' if lines else ''
    how = f'ended by signal {-process.code}' if process.code < 0 else f'exit code {process.code}'
    return f'{how}{last} (all of them: {process.log})'


def _busy(run: Run) -> bool:
    if not run.workdir.lock.exists():
        return False
    try:
        with locked(run.workdir.lock, wait=False):
            return False
    except UserError:
        return True


class _Clock:
    """How long the rest will take, judged by what runs took."""

    def __init__(self, runs: Sequence[Run], jobs: int, outcome: Outcome):
        self._jobs, self._total, self._outcome = jobs, len(runs), outcome
        self._ended = len(outcome.results)
        self._taken: dict[tuple[str, ...], list[float]] = collections.defaultdict(list)
        for run in outcome.results:
            self._note(run)

    def _note(self, run: Run) -> None:
        for like in ((run.dataset, run.folder), (run.dataset,), ()):
            self._taken[like].append(self._outcome.results[run]['seconds'])

    def count(self, run: Run) -> None:
        """A run has ended."""
        self._ended += 1
        if run in self._outcome.results:
            self._note(run)

    def _expected(self, run: Run) -> float:
        for like in ((run.dataset, run.folder), (run.dataset,), ()):
            if self._taken[like]:
                return sum(self._taken[like]) / len(self._taken[like])
        return 0.0

    def left(self, waiting: Sequence[Run], going: Sequence[_Process]) -> str:
        """`12 of 80 runs done, about 2 h 10 min left`."""
        text = f'{self._ended} of {self._total} runs done'
        if not self._taken[()] or not (waiting or going):
            return text
        now = time.monotonic()
        rest = sum(self._expected(run) for run in waiting) / self._jobs
        rest += sum(max(0.0, self._expected(p.run) - (now - p.start)) for p in going) / self._jobs
        return f'{text}, about {duration(rest)} left'


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `2 h 10 min`."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60} min'
