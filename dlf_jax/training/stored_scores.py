"""Scores of a run on its validation and test part, as files in its workdir.

Written when training has ended, at the best step, so that what is asked later about a run's probabilities
(calibration, intervals, a comparison with another run) needs neither the data nor the model:
`scores/valid.parquet` and `scores/test.parquet`. A file has the rows of its part whose weight is above 0, in
file order: `logit` (float32), `label` (float32), `weight` (float32) and, where the data names a group,
`group` (int64). Of several seeds, `logit` is that of the run that prediction uses, whose seed the file's
metadata names, and `logit_SEED` those of the others. The metadata has the step of each seed's weights, too.
While a run goes on, what its end of before has left is not read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dlf_jax.errors import UsageError, UserError
from dlf_jax.file_writing import to_json, writing
from dlf_jax.training import results
from dlf_jax.training.evaluation import COLUMNS
from dlf_jax.workdir import Workdir

# Columns of the scored rows, [rows] each, by name.
Scores = dict[str, np.ndarray]
_KINDS = {'label': np.float32, 'weight': np.float32, 'group': np.int64}
_SEED, _STEPS = b'dlf_jax_seed', b'dlf_jax_steps'


def write(
    workdir: Workdir,
    part: str,
    scores: Mapping[str, np.ndarray],
    logits: Mapping[int, np.ndarray],
    seed: int,
    steps: Mapping[int, int] | None = None,
) -> None:
    """Writes the scores of a part, under a temporary name that is renamed when the file is whole.

    Args:
      workdir: of the run.
      part: `valid` or `test`.
      scores: `label`, `weight` and perhaps `group` of the part, [rows], in file order.
      logits: by seed, float32 [rows].
      seed: of the run that prediction uses.
      steps: of the weights that gave the logits, by seed; None: they are not those of a step.
    """
    names = {seed: 'logit', **{other: f'logit_{other}' for other in logits if other != seed}}
    columns = {names[own]: np.asarray(logits[own], np.float32) for own in names}
    columns |= {name: np.asarray(scores[name], _KINDS[name]) for name in COLUMNS if name in scores}
    # Logits hardly repeat, so a dictionary of them would be as large as they are.
    repeating = [name for name in COLUMNS if name in columns]
    table = pa.table(columns).replace_schema_metadata(
        {
            _SEED: str(seed).encode(),
            _STEPS: to_json({own: int(step) for own, step in (steps or {}).items()}).encode(),
        }
    )
    path = workdir.scores / f'{part}.parquet'
    with writing(str(path)):
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f'.{path.name}.tmp')
        with open(temporary, 'wb') as file:
            pq.write_table(table, file, compression='zstd', use_dictionary=repeating)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def parts(workdir: Workdir) -> list[str]:
    """The parts that a finished run has stored scores of: of `valid` and `test`, in this order."""
    if workdir.result() is None:
        return []
    return [part for part in ('valid', 'test') if (workdir.scores / f'{part}.parquet').is_file()]


def read(workdir: Workdir, part: str, seed: int | None = None) -> Scores:
    """Reads the scores of a part.

    Args:
      workdir: of a finished run.
      part: `valid` or `test`.
      seed: of the run, where there are several; None: the one that prediction uses.

    Returns:
      `logit`, `label`, `weight`, float32 [rows], and, where the data names a group, `group`, int64 [rows].

    Raises:
      UserError: there are no such scores, or they cannot be read; says what to do.
      UsageError: no run has that seed.
    """
    table = _table(workdir, part)
    column = _column(workdir, table, seed)
    names = {'logit': column, **{name: name for name in COLUMNS if name in table.column_names}}
    return {name: table.column(own).to_numpy() for name, own in names.items()}


def weights_of(workdir: Workdir, seed: int | None = None) -> tuple[int, int]:
    """Seed and step of the weights whose scores of the validation part `read` gives.

    Args:
      workdir: of a finished run.
      seed: as of `read`.

    Raises:
      UserError: as `read` does; or the scores are those of no step, as of a baseline.
      UsageError: no run has that seed.
    """
    table = _table(workdir, 'valid')
    seed = _seed(table) if seed is None else seed
    _column(workdir, table, seed)
    steps = json.loads((table.schema.metadata or {}).get(_STEPS, b'{}'))
    if str(seed) in steps:
        return seed, steps[str(seed)]
    # Stored by an earlier version.
    if found := results.weights_of(workdir.result() or {}, seed):
        return found
    raise UserError(f'{workdir.path}: its scores are not those of the weights of a step')


def _column(workdir: Workdir, table: pa.Table, seed: int | None) -> str:
    """Name of the column of a seed's logits."""
    best = _seed(table)
    column = 'logit' if seed in (None, best) else f'logit_{seed}'
    if column not in table.column_names:
        others = [name.removeprefix('logit_') for name in table.column_names if name.startswith('logit_')]
        raise UsageError(
            f'{workdir.path}: no run of seed {seed}; there are {", ".join([str(best), *others])}'
        )
    return column


def _seed(table: pa.Table) -> int:
    return int((table.schema.metadata or {}).get(_SEED, b'0'))


def _table(workdir: Workdir, part: str) -> pa.Table:
    path = workdir.scores / f'{part}.parquet'
    if workdir.weights.is_file():
        raise UserError(f'{workdir.path}: a saved model has no stored scores; name the workdir of its run')
    if workdir.result() is None:
        # Scores that are there are those of the run before it was extended, or of one part alone.
        raise UserError(f'{workdir.path}: no finished run here; its scores are stored when training ends')
    if not path.is_file():
        if part == 'test' and (workdir.scores / 'valid.parquet').is_file():
            raise UserError(f'{workdir.path}: its data has no test part')
        raise UserError(
            f'{workdir.path}: no stored scores: an earlier version finished this run, or they were removed; '
            f'remove {workdir.path / "result.json"} and train again with the same command, which scores the '
            'best step and trains no more'
        )
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f'{path}: cannot be read: {error}') from error
