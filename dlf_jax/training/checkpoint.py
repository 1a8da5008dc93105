"""Orbax checkpoints: the latest, and the best of each run by the monitored value."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from dlf_jax.errors import UserError, writing
from dlf_jax.training import replicas
from dlf_jax.training.replicas import Progress, Runs
from dlf_jax.training.state import TrainState

# From the seed, or [S] seeds, to a state: what a checkpoint is read as.
Create = Callable[[jax.Array], TrainState]


class _Steps(policies.PreservationPolicy):
    """Keeps the checkpoints of given steps."""

    def __init__(self) -> None:
        self.kept: frozenset[int] = frozenset()

    def should_preserve(self, checkpoints, *, context):
        del context
        return [checkpoint.step in self.kept for checkpoint in checkpoints]


class Checkpoints:
    """The checkpoints of a workdir.

    A checkpoint holds the stack of the runs that took its step, and the progress of all. Kept are
    the latest and those at the best step of a run. Saving goes on in the background, under a
    temporary name until it is whole; only then are others removed.
    """

    def __init__(self, folder: Path, seeds: Sequence[int], read_only: bool = False):
        """Opens the folder, or makes it.

        Args:
          folder: of the checkpoints.
          seeds: of the runs, in their order.
          read_only: nothing is written or removed.
        """
        self._folder, self._seeds = folder, seeds
        self._best_steps = _Steps()
        with writing(f'checkpoints in {folder}'):
            self._manager = ocp.CheckpointManager(
                folder.absolute(),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=policies.AnyPreservationPolicy(
                        [policies.LatestN(1), self._best_steps]
                    ),
                    cleanup_tmp_directories=not read_only,
                    read_only=read_only,
                ),
            )

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
        with writing(f'checkpoints in {self._folder}'):
            self._check_room(state)
            self._best_steps.kept = frozenset(run.plateau.best_step for run in runs.values())
            self._manager.save(
                replicas.steps_taken(runs),
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    progress=ocp.args.JsonSave({'runs': [run.to_json() for run in runs.values()]}),
                ),
            )

    def _check_room(self, state: TrainState) -> None:
        """Asks before a save whether it will fit, rather than after half of it."""
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        if shutil.disk_usage(self._folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))

    def runs(self, step: int | None = None) -> Runs:
        """The progress of each run in a checkpoint; None: the latest."""
        step = self.latest if step is None else step
        args = ocp.args.Composite(progress=ocp.args.JsonRestore())
        with self._readable(step):
            saved = self._manager.restore(step, args=args).progress
            # Before there could be several runs, the one was not in a list and left out its steps.
            found = [Progress.from_json({'steps': step, **run}) for run in saved.get('runs', [saved])]
            return dict(zip(self._seeds, found, strict=True))

    def restore(
        self, create: Create, sharding: jax.sharding.Sharding, step: int | None = None
    ) -> tuple[TrainState, Runs]:
        """Reads a checkpoint onto devices.

        Args:
          create: makes a single run's state; only its shapes are used.
          sharding: of every leaf.
          step: which; None: the latest.

        Returns:
          The stack of the runs that are `in_stack`, and the progress of all.

        Raises:
          UserError: it cannot be read, or holds another model's state.
        """
        step = self.latest if step is None else step
        runs = self.runs(step)
        stack = list(replicas.in_stack(runs))
        shapes = jax.eval_shape(replicas.together(create, len(stack)), replicas.stacked_seeds(stack))
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
        with self._readable(step):
            found = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))
            )
        return found.state, runs

    def best(self, runs: Runs, create: Create, sharding: jax.sharding.Sharding) -> dict[int, TrainState]:
        """The state of each run at its best step, or the latest before its first evaluation.

        Args:
          runs: of the latest checkpoint, all or some.
          create: as in `restore`.
          sharding: of every leaf.

        Returns:
          States of single runs, by seed.
        """
        steps = {seed: run.plateau.best_step or run.steps for seed, run in runs.items()}
        found = {}
        for step in sorted(set(steps.values())):
            stack, there = self.restore(create, sharding, step)
            states = replicas.unstack(stack, len(replicas.in_stack(there)))
            by_seed = dict(zip(replicas.in_stack(there), states, strict=True))
            found |= {seed: by_seed[seed] for seed in runs if steps[seed] == step}
        return {seed: found[seed] for seed in runs}

    @contextlib.contextmanager
    def _readable(self, step: int) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, OSError, TypeError) as error:
            reason = (str(error).strip() or repr(error)).splitlines()[0][:300]
            raise UserError(
                f'{self._folder / str(step)}: this checkpoint cannot be restored ({reason}); '
                'remove its folder to go on from the one before, or start in a new --workdir'
            ) from error

    def wait(self) -> None:
        """Waits for what is being saved. Raises UserError where it could not be."""
        with writing(f'checkpoints in {self._folder}'):
            self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()
