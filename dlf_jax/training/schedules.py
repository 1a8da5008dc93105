"""Learning rate over steps, and its drop after evaluations without gain."""

from __future__ import annotations

import dataclasses
import math

import optax
from ml_collections import ConfigDict


def learning_rate(config: ConfigDict, total_steps: int) -> optax.Schedule:
    """Learning rate schedule of `config.optimizer`: constant or cosine, after a linear warm-up.

    Args:
      config: the whole config.
      total_steps: number of the step at which the cosine reaches 0.
    """
    peak, warmup = config.optimizer.learning_rate, config.optimizer.warmup_steps
    if config.optimizer.schedule == 'cosine':
        return optax.warmup_cosine_decay_schedule(
            0.0 if warmup else peak, peak, warmup, max(total_steps, warmup + 1)
        )
    if not warmup:
        return optax.constant_schedule(peak)
    return optax.linear_schedule(0.0, peak, warmup)


@dataclasses.dataclass(frozen=True)
class Plateau:
    """State of early stopping and of the learning rate's drops; saved with every checkpoint.

    Attributes:
      best: highest monitored value; None before the first evaluation.
      best_step: step of that evaluation.
      without_gain: number of evaluations in a row without gain that counted, see `config.plateau.steps`.
      counted_step: step of the last evaluation that was a gain or counted.
      scale: factor of the learning rate.
      top: (value, step) of the best few evaluations, whose checkpoints are kept.
    """

    best: float | None = None
    best_step: int = 0
    without_gain: int = 0
    counted_step: int = 0
    scale: float = 1.0
    top: tuple[tuple[float, int], ...] = ()

    @property
    def best_steps(self) -> set[int]:
        """The steps whose checkpoints are kept."""
        return {self.best_step, *(step for _, step in self.top)}

    def observe(self, value: float, step: int, config: ConfigDict) -> Plateau:
        """The plateau after an evaluation: gain resets the count, no gain drops the learning rate (FuxiCTR's
        rule, behind the leaderboards' numbers), if `config.plateau.steps` have passed.

        Args:
          value: the monitored value, higher being better.
          step: number of the step.
          config: the whole config.
        """
        if math.isfinite(value):
            ranked = sorted([*self.top, (value, step)], key=lambda found: (-found[0], found[1]))
            self = dataclasses.replace(self, top=tuple(ranked[: config.training.keep_best]))
        if math.isfinite(value) and (self.best is None or value > self.best + config.plateau.min_gain):
            return dataclasses.replace(self, best=value, best_step=step, without_gain=0, counted_step=step)
        if step - self.counted_step < config.plateau.steps:
            return self
        floor = config.plateau.min_learning_rate / config.optimizer.learning_rate
        scale = max(self.scale * config.plateau.factor, min(floor, self.scale))
        count = self.without_gain + 1
        return dataclasses.replace(self, without_gain=count, scale=scale, counted_step=step)

    def exhausted(self, config: ConfigDict) -> bool:
        """Whether training should stop."""
        return 0 < config.plateau.patience <= self.without_gain
