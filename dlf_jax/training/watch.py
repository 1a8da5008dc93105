"""What looks at training from outside: the time spent, and whether the loss is finite."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from dlf_jax.errors import UserError
from dlf_jax.training import run_progress
from dlf_jax.training.seeds import unstack_runs
from dlf_jax.training.train_step import Metrics
from dlf_jax.workdir import Workdir


class Clock:
    """Time spent on a stack of runs, on top of what they had spent before."""

    def __init__(self, before: run_progress.Runs):
        self._before = before
        self._start = time.monotonic()
        self._since: float | None = None  # start of the stretch of steps that is going on
        self._seconds = 0.0
        self._samples = np.zeros(len(before), np.int64)
        self._warm = False

    def trained(self, rows: int) -> None:
        """Counts a step; the first compiles and does not count.

        Args:
          rows: of the global batch.
        """
        if self._warm:
            self._samples += rows
        else:
            self._warm = True
            self.resume()

    def pause(self) -> None:
        if self._since is not None:
            self._seconds += time.monotonic() - self._since
            self._since = None

    def resume(self) -> None:
        self._since = time.monotonic()

    def evaluated(self, stack: run_progress.Runs) -> None:
        """Takes over what the runs have spent, an evaluation included, as the time before."""
        self._before = {
            seed: dataclasses.replace(before, seconds=stack[seed].seconds)
            for seed, before in self._before.items()
        }
        self._start = time.monotonic()

    def told(self, runs: run_progress.Runs, step: int) -> run_progress.Runs:
        """The stack's runs with the steps that they took and what was spent until now."""
        now = time.monotonic()
        going_on = 0.0 if self._since is None else now - self._since
        return {
            seed: dataclasses.replace(
                runs[seed],
                steps=step,
                seconds=before.seconds + now - self._start,
                training_seconds=before.training_seconds + self._seconds + going_on,
                training_samples=before.training_samples + int(samples),
            )
            for (seed, before), samples in zip(self._before.items(), self._samples, strict=True)
        }


class LossWatch:
    """Looks at every step's loss, one step late so that the device never waits."""

    def __init__(self, workdir: Workdir, config: ConfigDict):
        self._workdir, self._config = workdir, config
        self._last_finite: dict[int, tuple[int, float]] = {}
        self._step, self._seeds, self._found = 0, (), {}

    def look(self, step: int, seeds: Sequence[int], found: Metrics) -> None:
        """Hands over a step's metrics, and checks those of the step before.

        Args:
          step: its number.
          seeds: of the runs in the stack.
          found: arrays [S], or scalars for one run.
        """
        self.settle()
        self._step, self._seeds, self._found = step, tuple(seeds), found

    def settle(self) -> dict[int, dict[str, float]]:
        """Checks what was handed over last, and returns it, by seed.

        Raises:
          UserError: it is not finite.
        """
        found = unstack_runs(jax.device_get(self._found), len(self._seeds)) if self._seeds else []
        values = {
            seed: {name: float(value) for name, value in metrics.items()}
            for seed, metrics in zip(self._seeds, found, strict=True)
        }
        for seed, metrics in values.items():
            self._check(seed, metrics['loss'], metrics['gradient_norm'])
        return values

    def _check(self, seed: int, loss: float, norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            self._last_finite[seed] = self._step, loss
            return
        what = f'the loss is {loss}' if not math.isfinite(loss) else f'the gradient norm is {norm}'
        last = (
            f'the last finite loss was {self._last_finite[seed][1]:.6g} at step {self._last_finite[seed][0]}'
            if seed in self._last_finite
            else 'no step since the start had a finite one'
        )
        which = f'seed {seed}, ' if self._config.seeds > 1 else ''
        raise UserError(
            f'{which}step {self._step}: {what}; {last}. Try a lower --config.optimizer.learning_rate '
            f'(now {self._config.optimizer.learning_rate:g}) or --config.optimizer.clip_norm (now '
            f'{self._config.optimizer.clip_norm:g}), or look for extreme numbers in the data. '
            f'The checkpoint before is kept in {self._workdir.checkpoints}'
        )
