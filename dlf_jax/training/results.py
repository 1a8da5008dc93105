"""Results of finished training, as `result.json` holds them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dlf_jax.data.preprocess.encoder import load_growth
from dlf_jax.training import metrics, run_progress
from dlf_jax.training.diagnosis import Diagnosis
from dlf_jax.workdir import Workdir


def of_run(
    config: ConfigDict,
    seed: int,
    run: run_progress.RunProgress,
    parameters: dict[str, int],
    rows: int,
    test: dict[str, Any] | None,
    base_rates: dict[str, float],
    found: Diagnosis,
) -> dict[str, Any]:
    """Result of one run.

    Args:
      config: the whole config.
      seed: seed of the run.
      run: progress of the finished run.
      parameters: number of parameters, `table` and `dense`.
      rows: number of rows of the training part.
      test: metrics of the test part at the best step; None where there is no such part.
      base_rates: logloss of predicting the training part's mean label, by part.
      found: what the course of the run says about it.

    Returns:
      A JSON object. `valid` and `test` are the metrics of the parts at the best step, `base_rate_logloss`
      the logloss of predicting the training part's mean label there; `learnt` is whether the best step beats
      that and chance, `warnings` are sentences of what to try. `seconds` is the time of training and
      evaluation, `samples_per_second` the rate of training alone.
    """
    return {
        'model': config.model.name,
        'variant': config.variant,
        'dataset': config.dataset.name,
        'seed': seed,
        'steps': run.steps,
        'best_step': run.plateau.best_step,
        'parameters': parameters,
        'training_rows': rows,
        'seconds': round(run.seconds, 1),
        'samples_per_second': _rate(run.training_samples, run.training_seconds),
        'valid': run.best,
        'test': test,
        'base_rate_logloss': base_rates,
        'learnt': found.learnt,
        'warnings': list(found.warnings),
    }


def of_runs(
    config: ConfigDict,
    runs: run_progress.Runs,
    parameters: dict[str, int],
    rows: int,
    tests: dict[int, dict[str, Any] | None],
    base_rates: dict[str, float],
    diagnoses: dict[int, Diagnosis],
) -> dict[str, Any]:
    """Result of the runs, one per seed, that one program trained together; of a single run, `of_run`.

    Args:
      config: the whole config.
      runs: progress of the finished runs, by seed.
      parameters: number of parameters of a single run, `table` and `dense`.
      rows: number of rows of the training part.
      tests: metrics of the test part at the best step, by seed; None where there is no such part.
      base_rates: logloss of predicting the training part's mean label, by part.
      diagnoses: what the course of each run says about it, by seed.

    Returns:
      A JSON object. `runs` holds the result of each run; its `seconds` is the time until it stopped, shared
      with the others. `mean` and `std` are the mean and the sample standard deviation (over n - 1) of each
      metric, null where a run has none; `best_seed` is the run that prediction uses.
    """
    found = [
        of_run(config, seed, run, parameters, rows, tests[seed], base_rates, diagnoses[seed])
        for seed, run in runs.items()
    ]
    if len(found) == 1:
        return found[0]
    samples = sum(run.training_samples for run in runs.values())
    spent = max(run.training_seconds for run in runs.values())
    names = list(metrics.selected(config))
    by_part = {part: [run[part] for run in found] for part in ('valid', 'test')}
    return {
        **{key: found[0][key] for key in ('model', 'variant', 'dataset')},
        'seeds': list(runs),
        'best_seed': run_progress.best_seed(runs),
        'steps': run_progress.steps_taken(runs),
        'parameters': parameters,
        'training_rows': rows,
        'seconds': max(run['seconds'] for run in found),
        'samples_per_second': _rate(samples, spent),
        'mean': {part: _over_runs(evaluations, names, np.mean) for part, evaluations in by_part.items()},
        'std': {part: _over_runs(evaluations, names, _deviation) for part, evaluations in by_part.items()},
        'runs': found,
    }


def of_warm_start(workdir: Workdir) -> dict[str, Any]:
    """What the result of a warm start has beside that of a run from scratch, which has none of it.

    Args:
      workdir: of the run.

    Returns:
      `began_from`; `progressive`, the metrics of the training part before training on it; and `growth`, the
      numbers of values kept, new and forgotten by field with a vocabulary.
    """
    began_from = workdir.began_from()
    if began_from is None:
        return {}
    progressive = json.loads(workdir.progressive.read_text('utf-8'))
    return {
        'began_from': began_from,
        'progressive': progressive,
        'growth': load_growth(workdir.path / 'encoder'),
    }


def _over_runs(
    evaluations: list[dict[str, Any] | None], names: Iterable[str], reduce: Callable[[list[float]], Any]
) -> dict[str, float | None] | None:
    """Each metric that any of the runs has, reduced over runs; None where one of them lacks it.

    Args:
      evaluations: metrics of each run; None where there is no such part, which makes the result None.
      names: metrics in order. A run that goes on from before one was named may lack it.
      reduce: from values to a number.
    """
    found = [evaluation for evaluation in evaluations if evaluation is not None]
    if len(found) < len(evaluations):
        return None
    known = [name for name in names if any(name in evaluation for evaluation in found)]
    columns: dict[str, list[Any]] = {name: [evaluation.get(name) for evaluation in found] for name in known}
    return {name: None if None in values else float(reduce(values)) for name, values in columns.items()}


def _deviation(values: list[float]) -> float:
    return float(np.std(values, ddof=1))


def _rate(samples: int, seconds: float) -> float:
    return round(samples / max(seconds, 1e-9), 1)
