"""Progress of each run beside its state: steps, evaluations, time spent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dlf_jax.training.schedules import Plateau


@dataclasses.dataclass(frozen=True)
class RunProgress:
    """Progress of one run.

    Attributes:
      steps: number of steps taken; fewer than the other runs' once it has stopped.
      evaluated: step of the latest evaluation.
      evaluations: number of evaluations.
      plateau: early stopping and learning rate after the evaluations so far.
      best: validation metrics at the best step: auc, logloss, rows.
      seconds: time spent so far, in all.
      training_seconds: time spent in steps after the first one, which compiles.
      training_samples: number of rows trained on in those steps.
    """

    steps: int = 0
    evaluated: int = 0
    evaluations: int = 0
    plateau: Plateau = dataclasses.field(default_factory=Plateau)
    best: dict[str, Any] | None = None
    seconds: float = 0.0
    training_seconds: float = 0.0
    training_samples: int = 0

    def to_json(self) -> dict[str, Any]:
        """The progress as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> RunProgress:
        """The inverse of `to_json`; also reads what earlier versions wrote."""
        plateau = Plateau(**{**saved['plateau'], 'top': tuple(map(tuple, saved['plateau'].get('top', ())))})
        # Checkpoints were once saved after their evaluation.
        return cls(**{'evaluated': saved['steps'], **saved, 'plateau': plateau})


# By seed, in the order of the stack.
Runs = dict[int, RunProgress]


def steps_taken(runs: Runs) -> int:
    """Steps of the runs that got furthest."""
    return max(run.steps for run in runs.values())


def in_stack(runs: Runs) -> Runs:
    """The runs whose states the stack at the latest step holds."""
    latest = steps_taken(runs)
    return {seed: run for seed, run in runs.items() if run.steps == latest}


def going_on(runs: Runs, config: ConfigDict) -> Runs:
    """The runs of the stack that early stopping has not ended."""
    return {seed: run for seed, run in in_stack(runs).items() if not run.plateau.exhausted(config)}


def best_seed(runs: Runs) -> int:
    """The seed whose best monitored value is the highest; the lowest such seed."""
    best = {seed: run.plateau.best for seed, run in runs.items()}
    values = {seed: -np.inf if value is None else value for seed, value in best.items()}
    return max(values, key=lambda seed: values[seed])
