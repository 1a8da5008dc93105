"""Check that the loss stays finite, without waiting for the device at each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from dlf_jax.errors import UserError
from dlf_jax.training.seeds import unstack_runs
from dlf_jax.training.train_step import Metrics

# Maximum number of steps that the host may be ahead of the device.
AHEAD = 8


class LossGuard:
    """Keeps the metrics of steps on the device until someone reads them, and then checks every one."""

    def __init__(self, checkpoints: Path, config: ConfigDict):
        """Begins without metrics.

        Args:
          checkpoints: folder of the checkpoints, for the error.
          config: the whole config, for the error.
        """
        self._checkpoints, self._config = checkpoints, config
        self._last_finite: dict[int, tuple[int, float]] = {}
        self._waiting: list[tuple[int, Sequence[int], Metrics]] = []
        self._latest: dict[int, dict[str, float]] = {}
        # The latest step that the device is known to have done.
        self.done = 0

    def add(self, step: int, seeds: Sequence[int], metrics: Metrics) -> None:
        """Hands over a step's metrics; waits for the step that was handed over `AHEAD` steps before.

        Args:
          step: its number.
          seeds: of the runs in the stack.
          metrics: arrays [S], or scalars for one run, on the device.
        """
        self._waiting.append((step, tuple(seeds), metrics))
        if len(self._waiting) > AHEAD:
            self.done, _, metrics = self._waiting[-AHEAD - 1]
            jax.block_until_ready(metrics['loss'])

    def read(self, until: int | None = None) -> dict[int, dict[str, float]]:
        """Checks the steps since the last reading and returns the metrics of the latest of them, by seed.

        Args:
          until: number of the last step to read, one that is `done` where the device is not to be waited for;
            None: all.

        Raises:
          UserError: a loss or gradient norm is not finite; names the first such step.
        """
        count = sum(until is None or step <= until for step, _, _ in self._waiting)
        waiting, self._waiting = self._waiting[:count], self._waiting[count:]
        fetched = jax.device_get([metrics for _, _, metrics in waiting])
        for (step, seeds, _), metrics in zip(waiting, fetched, strict=True):
            by_seed = dict(zip(seeds, unstack_runs(metrics, len(seeds)), strict=True))
            self._latest = {
                seed: {name: float(value) for name, value in found.items()} for seed, found in by_seed.items()
            }
            for seed, found in self._latest.items():
                self._check(step, seed, found['loss'], found['gradient_norm'])
        return self._latest

    def _check(self, step: int, seed: int, loss: float, norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            self._last_finite[seed] = step, loss
            return
        what = f'the loss is {loss}' if not math.isfinite(loss) else f'the gradient norm is {norm}'
        last = (
            f'the last finite loss was {self._last_finite[seed][1]:.6g} at step {self._last_finite[seed][0]}'
            if seed in self._last_finite
            else 'no step since the start had a finite one'
        )
        which = f'seed {seed}, ' if self._config.seeds > 1 else ''
        raise UserError(
            f'{which}step {step}: {what}; {last}. Try a lower --config.optimizer.learning_rate '
            f'(now {self._config.optimizer.learning_rate:g}) or --config.optimizer.clip_norm (now '
            f'{self._config.optimizer.clip_norm:g}), or look for extreme numbers in the data. '
            f'The checkpoint before is kept in {self._checkpoints}'
        )
