"""What `result.json` holds."""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dlf_jax.training import run_progress

# What is averaged over seeds.
_SCORES = ('auc', 'logloss')


def of_run(
    config: ConfigDict,
    seed: int,
    run: run_progress.RunProgress,
    parameters: dict[str, int],
    test: dict[str, Any] | None,
) -> dict[str, Any]:
    """The result of one run.

    Args:
      config: the whole config.
      seed: of the run.
      run: finished.
      parameters: their numbers.
      test: metrics of the test part at the best step; None where there is no such part.
    """
    return {
        'model': config.model.name,
        'variant': config.variant,
        'dataset': config.dataset.name,
        'seed': seed,
        'steps': run.steps,
        'best_step': run.plateau.best_step,
        'parameters': parameters,
        'seconds': round(run.seconds, 1),
        'samples_per_second': _rate(run.training_samples, run.training_seconds),
        'valid': run.best,
        'test': test,
    }


def of_runs(
    config: ConfigDict,
    runs: run_progress.Runs,
    parameters: dict[str, int],
    tests: dict[int, dict[str, Any] | None],
) -> dict[str, Any]:
    """The result of runs trained together; of a single one, its own.

    `runs` holds the result of each, `mean` and `std` the mean and the sample standard deviation
    (over n - 1) of auc and logloss, null where a run has none; `best_seed` is the run that
    prediction uses. `seconds` of a run is the time until it stopped, shared with the others.

    Args:
      config: the whole config.
      runs: finished.
      parameters: numbers of a single run's.
      tests: metrics of the test part, by seed.
    """
    found = [of_run(config, seed, run, parameters, tests[seed]) for seed, run in runs.items()]
    if len(found) == 1:
        return found[0]
    samples = sum(run.training_samples for run in runs.values())
    spent = max(run.training_seconds for run in runs.values())
    return {
        **{key: found[0][key] for key in ('model', 'variant', 'dataset')},
        'seeds': list(runs),
        'best_seed': run_progress.best_seed(runs),
        'steps': run_progress.steps_taken(runs),
        'parameters': parameters,
        'seconds': max(run['seconds'] for run in found),
        'samples_per_second': _rate(samples, spent),
        'mean': {part: _over([run[part] for run in found], np.mean) for part in ('valid', 'test')},
        'std': {part: _over([run[part] for run in found], _deviation) for part in ('valid', 'test')},
        'runs': found,
    }


def _over(parts: list[dict[str, Any] | None], reduce: Any) -> dict[str, float | None] | None:
    if any(part is None for part in parts):
        return None
    columns = {name: [part[name] for part in parts] for name in _SCORES}
    return {name: None if None in values else float(reduce(values)) for name, values in columns.items()}


def _deviation(values: list[float]) -> float:
    return np.std(values, ddof=1)


def _rate(samples: int, seconds: float) -> float:
    return round(samples / max(seconds, 1e-9), 1)
