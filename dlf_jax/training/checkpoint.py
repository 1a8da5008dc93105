"""Orbax checkpoints: the latest, and the best by the monitored value."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from dlf_jax.errors import UserError, writing
from dlf_jax.training.schedules import Plateau
from dlf_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a run knows beside its state.

    Attributes:
      plateau: of the evaluations so far.
      best: validation metrics at the best step: auc, logloss, rows.
      seconds: spent so far, all told.
      training_seconds: of these, in steps after the first (which compiles).
      training_samples: rows trained on in those.
    """

    plateau: Plateau = dataclasses.field(default_factory=Plateau)
    best: dict[str, Any] | None = None
    seconds: float = 0.0
    training_seconds: float = 0.0
    training_samples: int = 0

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Progress:
        return cls(**{**saved, 'plateau': Plateau(**saved['plateau'])})


def _value(metrics: dict[str, float]) -> float:
    return metrics['monitored']


class Checkpoints:
    """The checkpoints of a workdir.

    A checkpoint carries a monitored value only if it was the best when it was saved, so "the best
    by value" is the one that training calls the best, ties and `plateau.min_gain` included.
    Saving goes on in the background, under a temporary name until it is whole.
    """

    def __init__(self, folder: Path, read_only: bool = False):
        self._folder = folder
        with writing(f'checkpoints in {folder}'):
            self._manager = ocp.CheckpointManager(
                folder.absolute(),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=policies.AnyPreservationPolicy(
                        [
                            policies.LatestN(1),
                            policies.BestN(get_metric_fn=_value, n=1, keep_checkpoints_without_metrics=False),
                        ]
                    ),
                    best_fn=_value,
                    cleanup_tmp_directories=not read_only,
                    read_only=read_only,
                ),
            )

    @property
    def latest(self) -> int | None:
        """The step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def save(self, state: TrainState, progress: Progress, value: float | None = None) -> None:
        """Saves in the background; waits for the save before, so that its failure is not lost.

        Args:
          state: copied before this returns.
          progress: saved as JSON.
          value: the monitored value, if this is the best so far.
        """
        self.wait()
        with writing(f'checkpoints in {self._folder}'):
            self._check_room(state)
            self._manager.save(
                int(state.step),
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    progress=ocp.args.JsonSave(progress.to_json()),
                ),
                metrics=None if value is None else {'monitored': value},
            )

    def _check_room(self, state: TrainState) -> None:
        """Asks before a save whether it will fit, rather than after half of it."""
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        if shutil.disk_usage(self._folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))

    def progress(self) -> Progress:
        """The progress of the latest checkpoint."""
        args = ocp.args.Composite(progress=ocp.args.JsonRestore())
        with self._readable(self.latest):
            return Progress.from_json(self._manager.restore(self.latest, args=args).progress)

    def restore(
        self, template: TrainState, sharding: jax.sharding.Sharding, step: int | None = None
    ) -> tuple[TrainState, Progress]:
        """Reads a checkpoint onto devices.

        Args:
          template: shapes and types, from `jax.eval_shape`.
          sharding: of every leaf.
          step: which; None: the latest.

        Raises:
          UserError: it cannot be read, or holds another model's state.
        """
        step = self.latest if step is None else step
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), template)
        with self._readable(step):
            found = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(target), progress=ocp.args.JsonRestore()
                ),
            )
        return found.state, Progress.from_json(found.progress)

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
