"""Start of a run from the weights of another: yesterday's model goes on with today's files.

The rows of embedding tables move to where the grown encoder has their values, with their moments; rows of
new values are drawn, or are those of the out-of-vocabulary id. All else stays as it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dlf_jax import config as configs
from dlf_jax.data.preprocess import growing
from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.preprocess.task import Ancestor
from dlf_jax.errors import UserError
from dlf_jax.models.embedding import rows_part
from dlf_jax.training import run_progress, train_state, weights_file
from dlf_jax.training.checkpoint import Checkpoints, Unreadable
from dlf_jax.training.model_setup import TrainingSetup
from dlf_jax.training.seeds import one_run, seeds_of, stacked_seeds
from dlf_jax.training.train_state import TrainState
from dlf_jax.workdir import Workdir

_KEY = 'config.training.warm_start'


class Changing(UserError):
    """The model to begin with is not the same from the start to the end of beginning from it."""

    def __init__(self, path: str):
        super().__init__(f'{path}: changes while this run begins from it; run the same command again')


@dataclasses.dataclass(frozen=True)
class Origin:
    """Identity of the weights that a run begins with.

    Attributes:
      path: workdir of a run, or folder of a saved model.
      seed: seed of its best run; None of a saved model.
      step: step of the weights, the run's best; None of a saved model.
      weights: hash of the files that hold them, 16 hexadecimal digits.
      encoder: hash of its encoder, see `growing.digest`.
      calibrator: hash of its calibrator, 16 hexadecimal digits; None where it has none.
    """

    path: str
    seed: int | None
    step: int | None
    weights: str
    encoder: str
    calibrator: str | None

    @classmethod
    def of(cls, path: str) -> Origin:
        """What `predict` would use of a folder.

        Raises:
          UserError: there is no trained model, or it cannot be read.
        """
        source = Workdir(path)
        encoder = growing.digest(source.path / 'encoder')
        calibrator = _digest(source.calibration) if source.calibration.is_file() else None
        if source.weights.is_file():
            return cls(path, None, None, _digest(source.weights), encoder, calibrator)
        if not source.checkpoints.is_dir():
            removed = 'its checkpoints were removed (--keep_days)' if source.result() else ''
            raise UserError(f'{_KEY}={path}: {removed or "no checkpoint there; train first"}')
        checkpoints = Checkpoints(source.checkpoints, seeds_of(source.config()), None, read_only=True)
        try:
            if checkpoints.latest is None:
                raise UserError(f'{_KEY}={path}: no whole checkpoint there; train first')
            runs = checkpoints.runs()
        finally:
            checkpoints.close()
        seed = run_progress.best_seed(runs)
        step = runs[seed].plateau.best_step or runs[seed].steps
        weights = _digest(source.checkpoints / str(step))
        return cls(path, seed, step, weights, encoder, calibrator)

    def check(self) -> None:
        """Raises UserError where the folder holds something else by now."""
        if Origin.of(self.path) != self:
            raise Changing(self.path)

    def to_json(self) -> dict[str, Any]:
        """The attributes as JSON values."""
        return dataclasses.asdict(self)


def _digest(place: Path) -> str:
    """Hash of a file, or of the names and bytes of a folder's files, 16 hexadecimal digits."""
    found = hashlib.sha256()
    files = [place] if place.is_file() else sorted(path for path in place.rglob('*') if path.is_file())
    for path in files:
        found.update(str(path.relative_to(place)).encode() + b'\0')
        with open(path, 'rb') as file:
            found.update(hashlib.file_digest(file, 'sha256').digest())
    return found.hexdigest()[:16]


def ancestor(config: ConfigDict, workdir: Workdir | None = None) -> Ancestor | None:
    """Encoder that the encoder of a config's data grows from; None for a run from scratch.

    Args:
      config: validated.
      workdir: of the run; one that has begun knows what from, and needs that no longer.

    Raises:
      UserError: there is no trained model to begin with, or the run in the workdir began with another.
    """
    path = config.training.warm_start
    if not path:
        return None
    began = workdir.began_from() if workdir else None
    if began is None:
        source = Workdir(path)
        source.config()  # raises where there is none
        return Ancestor(source.path / 'encoder', growing.digest(source.path / 'encoder'))
    if path != began['path']:
        _check_same(path, began, workdir)
    return Ancestor(Workdir(path).path / 'encoder', began['encoder'])


def _check_same(path: str, began: dict[str, Any], workdir: Workdir | None) -> None:
    """Raises UserError unless a folder holds, under another path, what a run began with."""
    source = Workdir(path)
    if growing.has_digest(source.path / 'encoder', began['encoder']):
        place = source.weights if began['step'] is None else source.checkpoints / str(began['step'])
        if not place.exists() or _digest(place) == began['weights']:
            return
    assert workdir is not None
    raise UserError(
        f'{workdir.path} holds a run that began from {began["path"]}, and {_KEY}={path} is not the same '
        'model; take another --workdir'
    )


def known_values(config: ConfigDict, keys: Iterable[str]) -> dict[str, Any]:
    """Values of config keys of the run to begin with, where it has them; none for a run from scratch."""
    path = config.training.warm_start
    values = dict(configs.flatten(Workdir(path).config())) if path else {}
    return {key: values[key] for key in keys if key in values}


def weights_of_before(
    config: ConfigDict, setup: TrainingSetup, encoder: Encoder, origin: Origin
) -> TrainState:
    """Weights that score rows as the other run's model does, to which new values are out of vocabulary; their
    seed and step are the other run's.

    The arguments and errors are those of `initial_state`.
    """
    config = config.copy_and_resolve_references()
    config.training.new_rows, config.training.keep_moments = 'out_of_vocabulary', False
    return _grown(config, setup, encoder, origin, weights=True)


def initial_state(config: ConfigDict, setup: TrainingSetup, encoder: Encoder, origin: Origin) -> TrainState:
    """State before the first step of a run that begins with another's weights, on the devices.

    Args:
      config: of the new run.
      setup: of the new run.
      encoder: of its data, grown from that of the other.
      origin: what to begin with.

    Raises:
      UserError: it is no longer there, has no moments, or is of another model or optimizer.
    """
    return _grown(config, setup, encoder, origin, weights=False)


def _grown(
    config: ConfigDict, setup: TrainingSetup, encoder: Encoder, origin: Origin, weights: bool
) -> TrainState:
    """`initial_state`, or its weights alone."""
    before = Workdir(origin.path).encoder()
    old = _restored(config, setup, before, origin)
    sources = _sources(growing.row_sources(before, encoder), setup, config.training.new_rows)
    optimizer, keep = setup.optimizer, config.training.keep_moments
    fresh_shapes = jax.eval_shape(setup.create, stacked_seeds([config.seed]))
    are_rows = train_state.row_leaves(fresh_shapes, optimizer)

    def grown(
        seed: jax.Array, old: TrainState, sources: dict[str, tuple[jax.Array, jax.Array]]
    ) -> TrainState:
        fresh = setup.create(seed)
        params = _moved(are_rows.params, fresh.params, old.params, sources, 1)
        state = fresh.replace(params=params, batch_stats=old.batch_stats)
        if not keep:
            return state.weights().replace(seed=old.seed, step=old.step) if weights else state
        opt_state = _moved(are_rows.opt_state, fresh.opt_state, old.opt_state, sources, 0)
        return state.replace(opt_state=opt_state, step=old.step)

    return setup.make(grown, 1, stacked_seeds([config.seed]), old, sources)


def _sources(
    by_size: dict[int, np.ndarray], setup: TrainingSetup, new_rows: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rows of before for the rows of each part of the tables, int32, -1 where a row stays as it is drawn: for
    moments, and for weights."""
    found = {}
    for size, rows in by_size.items():
        padded = np.pad(rows, (0, -len(rows) % setup.partitioner.multiple), constant_values=-1)
        moments = np.maximum(padded, -1)
        weights = moments.copy()
        if new_rows == 'out_of_vocabulary':
            fresh = np.flatnonzero(rows < 0)
            weights[fresh] = -1 - rows[fresh]
        found[rows_part(size)] = moments, weights
    return found


def _moved(
    are_rows: Any, fresh: Any, old: Any, sources: dict[str, tuple[jax.Array, jax.Array]], kind: int
) -> Any:
    """A tree of before with the rows of tables where they are now.

    Args:
      are_rows: whether a leaf has an entry for each row of the part of the tables that is in its path.
      fresh: the tree of a run from scratch, for rows that come from none.
      old: the tree of before.
      sources: of `_sources`.
      kind: which of the two sources.
    """

    def moved(path: tuple, is_row: bool, drawn: jax.Array, was: jax.Array) -> jax.Array:
        if not is_row:
            return was
        names = (train_state.leaf_name((entry,)) for entry in path)
        rows = sources[next(name for name in names if name in sources)][kind]
        taken = jnp.take(was, jnp.maximum(rows, 0), axis=0)
        return jnp.where((rows >= 0).reshape(-1, *(1,) * (drawn.ndim - 1)), taken, drawn)

    return jax.tree_util.tree_map_with_path(moved, are_rows, fresh, old)


def _restored(config: ConfigDict, setup: TrainingSetup, before: Encoder, origin: Origin) -> TrainState:
    """The state of before, with the optimizer's where that is kept."""
    source, keep = Workdir(origin.path), config.training.keep_moments
    there = TrainingSetup(
        config, before.schema, 1, config.training.batch_size, list(setup.partitioner.devices)
    )
    if origin.step is None:
        if keep:
            raise UserError(
                f'{_KEY}={origin.path}: a saved model, which has no moments of the optimizer; begin with the '
                'workdir of its run, or with --config.training.keep_moments=False'
            )
        try:
            return weights_file.load(source.weights, there.abstract_state(1))
        except UserError as error:
            raise UserError(f'{error}{_differing(config, source)}') from error
    seeds = seeds_of(source.config())
    checkpoints = Checkpoints(
        source.checkpoints, seeds, there.abstract_state, there.optimizer, read_only=True
    )
    try:
        state, runs = checkpoints.restore(origin.step, weights=not keep)
    except Unreadable as error:
        raise UserError(f'{_KEY}: {error}{_differing(config, source)}') from error
    finally:
        checkpoints.close()
    stack = list(run_progress.in_stack(runs))
    place = next(i for i, seed in enumerate(stack) if seed == origin.seed)
    return one_run(state, place, len(stack))


def _differing(config: ConfigDict, source: Workdir) -> str:
    """Keys of model and optimizer that differ from those of before, as the end of an error."""
    old, new = (dict(configs.flatten(of)) for of in (source.config(), config))
    found = [
        f'config.{key} {old.get(key)!r} there, {new[key]!r} now'
        for key in new
        if key.startswith(('model.', 'optimizer.')) and old.get(key) != new[key]
    ]
    return f'; what differs: {"; ".join(found)}' if found else ''
