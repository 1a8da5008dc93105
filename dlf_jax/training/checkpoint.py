"""Checkpoints in Orbax: the latest ones, and the best of each run by the monitored value."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from dlf_jax.errors import UserError
from dlf_jax.file_writing import to_json, write_atomically, writing
from dlf_jax.library_logs import without_chatter
from dlf_jax.storage.working_copy import InPlace, Keeper
from dlf_jax.training import legacy_layout, multihost, run_progress, runtime_errors, train_state
from dlf_jax.training.optimizers import Optimizer
from dlf_jax.training.run_progress import RunProgress, Runs
from dlf_jax.training.seeds import one_run
from dlf_jax.training.train_state import TrainState

_log = logging.getLogger(__name__)

# From the number of runs in a stack to the shapes and shardings of their state.
AbstractState = Callable[[int], TrainState]
# File with the evaluation of the latest checkpoint, which is saved before it is evaluated.
_EVALUATED = 'evaluated.json'


class Unreadable(UserError):
    """A checkpoint that cannot be read, or holds another model's state."""

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


class _Steps(policies.PreservationPolicy):
    """Keeps the checkpoints of given steps."""

    def __init__(self) -> None:
        self.kept: frozenset[int] = frozenset()

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: policies.PreservationContext
    ) -> Sequence[bool]:
        del context
        return [checkpoint.step in self.kept for checkpoint in checkpoints]


class Checkpoints:
    """Checkpoints of a workdir.

    A checkpoint holds the state of the runs that took its step, and the progress of all runs. Kept are the
    latest, the one before it, and those at the best steps of each run. Saving goes on in the background,
    under a temporary name until it is whole; only then are others removed.
    """

    def __init__(
        self,
        folder: Path,
        seeds: Sequence[int],
        abstract: AbstractState | None,
        optimizer: Optimizer | None = None,
        read_only: bool = False,
        keeper: Keeper | None = None,
    ):
        """Opens the folder, or makes it.

        Args:
          folder: of the checkpoints.
          seeds: of the runs, in their order.
          abstract: shapes and shardings of the state of a number of runs; None: no state is restored, only
            the progress of the runs is read.
          optimizer: whose state is part of those; None: they are weights alone.
          read_only: nothing is written or removed.
          keeper: keeps each checkpoint that is whole; None: nobody need.
        """
        self._folder, self._seeds = folder, seeds
        self._abstract, self._optimizer = abstract, optimizer
        self._best_steps = _Steps()
        self._keeper = keeper or InPlace()
        kept = ocp.AsyncOptions(post_finalization_callback=keeper.keep) if keeper else None
        if not read_only:
            multihost.run_on_first(self._make_folder)
        with writing(f'checkpoints in {folder}'), without_chatter():
            self._manager = ocp.CheckpointManager(
                folder.absolute(),
                # Named, so that what is saved can be asked for its shapes before anything is read.
                item_handlers={
                    'state': ocp.PyTreeCheckpointHandler(),
                    'progress': ocp.JsonCheckpointHandler(),
                },
                options=ocp.CheckpointManagerOptions(
                    # The one before the latest too, in case the latest is damaged.
                    preservation_policy=policies.AnyPreservationPolicy(
                        [policies.LatestN(2), self._best_steps]
                    ),
                    cleanup_tmp_directories=not read_only,
                    read_only=read_only,
                    async_options=kept,
                ),
            )

    def _make_folder(self) -> None:
        with writing(f'checkpoints in {self._folder}'):
            self._folder.mkdir(parents=True, exist_ok=True)

    @property
    def latest(self) -> int | None:
        """The step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def save(self, state: TrainState, runs: Runs) -> None:
        """Saves in the background; waits for the save before, so that its failure is not lost.

        Args:
          state: of the runs `in_stack`; copied before this returns.
          runs: all of them, saved as JSON.
        """
        self.wait()
        self._keeper.check()
        with writing(f'checkpoints in {self._folder}'), jax.transfer_guard('allow'):
            saved = _saved(state)
            self._check_room(saved)
            self._best_steps.kept = frozenset(s for run in runs.values() for s in run.plateau.best_steps)
            self._manager.save(
                run_progress.steps_taken(runs),
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(saved),
                    progress=ocp.args.JsonSave(_to_json(runs)),
                ),
            )

    def note(self, runs: Runs) -> None:
        """Writes the progress after the evaluation of the latest checkpoint beside the checkpoints, so that
        a state is safe before it is evaluated."""
        if multihost.is_first():
            found = {'step': run_progress.steps_taken(runs), **_to_json(runs)}
            write_atomically(self._folder / _EVALUATED, to_json(found, undefined_as_null=True) + '\n')

    def _check_room(self, saved: dict[str, Any]) -> None:
        """Raises OSError before a save that will not fit, rather than after half of it."""
        shards = [leaf.addressable_shards for leaf in jax.tree.leaves(saved)]
        needed = sum(s.data.nbytes for found in shards for s in found if s.replica_id == 0)
        if shutil.disk_usage(self._folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))

    def runs(self, step: int | None = None) -> Runs:
        """The progress of each run in a checkpoint; None: the latest."""
        step = self._given_or_latest(step)
        args = ocp.args.Composite(progress=ocp.args.JsonRestore())
        with self._readable(step):
            saved = self._manager.restore(step, args=args).progress
            if (evaluated := self._evaluated()).get('step') == step:
                saved = evaluated
            # Before there could be several runs, the one was not in a list and left out its steps.
            found = [RunProgress.from_json({'steps': step, **run}) for run in saved.get('runs', [saved])]
            return dict(zip(self._seeds, found, strict=True))

    def _given_or_latest(self, step: int | None) -> int:
        step = self.latest if step is None else step
        if step is None:
            raise UserError(f'{self._folder}: no whole checkpoint; train first')
        return step

    def _evaluated(self) -> dict[str, Any]:
        try:
            return json.loads((self._folder / _EVALUATED).read_text())
        except FileNotFoundError:
            return {}

    def restore(self, step: int | None = None, weights: bool = False) -> tuple[TrainState, Runs]:
        """Reads a checkpoint onto the present devices, however many there are.

        Args:
          step: number of the checkpoint; None: the latest.
          weights: whether to read the weights alone, which is all that predictions need.

        Returns:
          The stack of the runs that are `in_stack`, and the progress of all.

        Raises:
          Unreadable: it cannot be read, or holds another model's state.
          UserError: it was written before version 0.2, and more than the weights is wanted.
        """
        step = self._given_or_latest(step)
        runs = self.runs(step)
        assert self._abstract is not None
        target = self._abstract(len(run_progress.in_stack(runs)))
        target = target.weights() if weights else target
        with self._readable(step):
            saved = self._manager.item_metadata(step).state.tree
        before = legacy_layout.is_legacy(saved)
        if before and target.opt_state:
            raise UserError(
                f'{self._folder / str(step)}: was written before version 0.2, which keeps the optimizer '
                'state in another form: finish the run with the version that began it (versions.json '
                'names it), or take another --workdir; --mode=evaluate and predict read it'
            )
        rows = _saved(train_state.row_leaves(target, self._optimizer))
        wanted = _saved(target)
        if before:
            wanted, rows = map(legacy_layout.to_legacy, (wanted, rows))
        # Not strict: tables that are cut over devices are padded to a multiple of their number.
        leaves = jax.tree.map(
            lambda x: ocp.ArrayRestoreArgs(
                sharding=x.sharding, global_shape=x.shape, dtype=x.dtype, strict=False
            ),
            wanted,
        )
        with self._readable(step):
            _compare(saved, wanted, rows)
            restore = ocp.args.PyTreeRestore(wanted, restore_args=leaves, partial_restore=True)
            found = self._manager.restore(step, args=ocp.args.Composite(state=restore)).state
        found = legacy_layout.from_legacy(found) if before else found
        scratch = {
            part: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding) for part, x in target.scratch.items()
        }
        return TrainState(**{'opt_state': {}, **found}, scratch=scratch), runs

    def set_aside(self, step: int, reason: str) -> None:
        """Moves a damaged checkpoint out of the way, so that the one before is the latest."""
        target = self._folder.parent / 'damaged' / str(step)
        _log.warning('%s; it is set aside in %s', reason, target)

        def move() -> None:
            with writing(str(target)):
                target.parent.mkdir(exist_ok=True)
                shutil.rmtree(target, ignore_errors=True)
                os.replace(self._folder / str(step), target)

        multihost.run_on_first(move)
        self._manager.reload()

    def best(self, runs: Runs) -> dict[int, TrainState]:
        """Weights of each run at its best step, or at its latest before its first evaluation.

        Args:
          runs: of the latest checkpoint, all or some.

        Returns:
          States of single runs, by seed.
        """
        steps = {seed: run.plateau.best_step or run.steps for seed, run in runs.items()}
        found: dict[int, TrainState] = {}
        for step in sorted(set(steps.values())):
            stack, there = self.restore(step, weights=True)
            places = {seed: place for place, seed in enumerate(run_progress.in_stack(there))}
            found |= {seed: one_run(stack, places[seed], len(places)) for seed in runs if steps[seed] == step}
        return {seed: found[seed] for seed in runs}

    @contextlib.contextmanager
    def _readable(self, step: int) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, OSError, TypeError, AttributeError) as error:
            if runtime_errors.is_lost_process(error):
                raise
            reason = (str(error).strip() or repr(error)).splitlines()[0][:300]
            raise Unreadable(
                f'{self._folder / str(step)}: this checkpoint cannot be restored ({reason})', step
            ) from error

    def wait(self) -> None:
        """Waits for what is being saved. Raises UserError where it could not be."""
        with writing(f'checkpoints in {self._folder}'):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for what is being saved, and closes."""
        self._manager.close()


def _compare(saved: Any, wanted: dict[str, Any], rows: dict[str, Any]) -> None:
    """Raises ValueError where the saved arrays differ from the wanted ones in more than the rows that pad a
    table, or the optimizer's state, where it is not wanted.

    Args:
      saved: description of the saved arrays.
      wanted: shapes.
      rows: booleans: whether a leaf has an entry for each embedding row.
    """
    there = {
        train_state.leaf_name(path): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(saved)
    }
    leaves = jax.tree_util.tree_leaves_with_path(wanted)
    for (path, leaf), is_row in zip(leaves, jax.tree.leaves(rows), strict=True):
        name, shape = train_state.leaf_name(path), leaf.shape
        found = there.pop(name, None)
        if found is not None and is_row and len(found) == len(shape):
            # Rows are the last axis but one.
            found = (*found[:-2], shape[-2], found[-1])
        if found != shape:
            raise ValueError(f'{name}: expected shape {shape}, found {found}')
    left_out = () if 'opt_state' in wanted else ('opt_state',)
    foreign = [name for name in there if name.partition('.')[0] not in left_out]
    if foreign:
        raise ValueError(f'{foreign[0]}: not part of this model')


def _saved(state: TrainState) -> dict[str, Any]:
    """The part of a state, or of weights, that a checkpoint holds."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    left_out = {'scratch', *(() if jax.tree.leaves(state.opt_state) else ('opt_state',))}
    return {name: value for name, value in fields.items() if name not in left_out}


def _to_json(runs: Runs) -> dict[str, Any]:
    return {'runs': [run.to_json() for run in runs.values()]}
