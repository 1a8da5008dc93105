"""Time spent on training: seconds of all, and of steps without their compilation."""

from __future__ import annotations

import dataclasses
import time

from dlf_jax.training.loss_guard import AHEAD
from dlf_jax.training.run_progress import Runs


class StepTimer:
    """Time spent on a stack of runs, on top of what they had spent before."""

    def __init__(self, before: Runs):
        """Starts.

        Args:
          before: progress of the stack's runs so far.
        """
        self._before = before
        self._start = time.monotonic()
        self._since: float | None = None  # start of the stretch of steps that is going on
        self._seconds = 0.0
        self._samples = 0
        self._steps = 0
        self._unfinished = 0  # number of counted steps that the device may still be at
        self._warm = False

    def count(self, rows: int) -> None:
        """Counts a step; the first one compiles and does not count.

        Args:
          rows: number of rows of the global batch.
        """
        if self._warm:
            self._samples += rows
            self._steps += 1
            self._unfinished = min(self._unfinished + 1, AHEAD)
        else:
            self._warm = True
            self.resume()

    def pause(self) -> None:
        """Stops the clock of steps, all of which are done."""
        self._unfinished = 0
        if self._since is not None:
            self._seconds += time.monotonic() - self._since
            self._since = None

    def resume(self) -> None:
        """Starts the clock of steps again."""
        self._since = time.monotonic()

    @property
    def seconds_per_step(self) -> float | None:
        """Mean over the steps that are done, without compiling and evaluating; None before the first.

        The host runs ahead of the device, so the latest steps that it counted may still go on.
        """
        done = self._steps - self._unfinished
        return self._stretch() / done if done else None

    def _stretch(self) -> float:
        """Seconds of all stretches of steps, the one that goes on among them."""
        return self._seconds + (0.0 if self._since is None else time.monotonic() - self._since)

    def restart(self, runs: Runs) -> None:
        """Takes over the seconds that the runs have spent, an evaluation included, as the time before."""
        self._before = {
            seed: dataclasses.replace(before, seconds=runs[seed].seconds)
            for seed, before in self._before.items()
        }
        self._start = time.monotonic()

    def progress(self, runs: Runs, step: int) -> Runs:
        """Progress of the stack's runs with the steps that they took and the time spent until now."""
        now, training = time.monotonic(), self._stretch()
        return {
            seed: dataclasses.replace(
                runs[seed],
                steps=step,
                seconds=before.seconds + now - self._start,
                training_seconds=before.training_seconds + training,
                training_samples=before.training_samples + self._samples,
            )
            for seed, before in self._before.items()
        }
