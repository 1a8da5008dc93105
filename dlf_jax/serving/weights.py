"""The weights of a trained model: those of a run's best checkpoint, or of the file of a saved model."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from ml_collections import ConfigDict

from dlf_jax.errors import UsageError, UserError
from dlf_jax.training import run_progress, weights_file
from dlf_jax.training.checkpoint import AbstractState, Checkpoints
from dlf_jax.training.model_setup import ModelSetup
from dlf_jax.training.seeds import seeds_of
from dlf_jax.training.train_state import TrainState
from dlf_jax.workdir import Workdir

_log = logging.getLogger(__name__)


def restore(workdir: Workdir, config: ConfigDict, setup: ModelSetup) -> TrainState:
    """Weights of one run at its best step, on the devices.

    Args:
      workdir: of a run with at least one evaluation, or of a saved model.
      config: its config; `predict.seed` chooses among the runs of several seeds.
      setup: of the model.

    Raises:
      UserError: there are no weights, or they cannot be read.
      UsageError: no run has that seed.
    """
    if workdir.weights.is_file():
        if config.predict.seed != -1:
            raise UsageError(f'config.predict.seed={config.predict.seed}: a saved model is that of one seed')
        return weights_file.load(workdir.weights, setup.abstract_state(1))
    if not workdir.checkpoints.is_dir():
        raise UserError(f'{workdir.path}: no checkpoint here; train first')
    with _opened(workdir, config, setup.abstract_state) as checkpoints:
        runs = checkpoints.runs()
        seed = _seed(config, runs)
        return checkpoints.best({seed: runs[seed]})[seed]


def best_step(workdir: Workdir, config: ConfigDict) -> tuple[int, int]:
    """Seed and step of the weights that `restore` reads of a run, without reading them.

    Args:
      workdir: of a run with at least one checkpoint.
      config: its config.

    Raises:
      UserError: there is no checkpoint, or it cannot be read.
      UsageError: no run has the seed of `predict.seed`.
    """
    with _opened(workdir, config, None) as checkpoints:
        runs = checkpoints.runs()
        seed = _seed(config, runs)
        return seed, runs[seed].plateau.best_step or runs[seed].steps


@contextlib.contextmanager
def _opened(workdir: Workdir, config: ConfigDict, abstract: AbstractState | None) -> Iterator[Checkpoints]:
    checkpoints = Checkpoints(workdir.checkpoints, seeds_of(config), abstract, read_only=True)
    try:
        if checkpoints.latest is None:
            raise UserError(f'{workdir.checkpoints}: no whole checkpoint; train first')
        yield checkpoints
    finally:
        checkpoints.close()


def _seed(config: ConfigDict, runs: run_progress.Runs) -> int:
    """Seed of the run to use: `config.predict.seed`, or the best."""
    wanted = config.predict.seed
    if wanted not in (-1, *runs):
        known = ', '.join(map(str, runs))
        raise UsageError(f'config.predict.seed={wanted}: no such run here; there are seeds {known}')
    seed = run_progress.best_seed(runs) if wanted == -1 else wanted
    if len(runs) > 1:
        _log.info('using seed %d%s of %d', seed, ', the best' if wanted == -1 else '', len(runs))
    return seed
