"""The course of training as JSON lines and TensorBoard events."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from tensorboardX import SummaryWriter

from dlf_jax.errors import writing
from dlf_jax.training import multihost

# It warns about a missing optional package on import of each writer.
logging.getLogger('tensorboardX').setLevel(logging.ERROR)


class MetricLog:
    """Appends numbers by step to `metrics.jsonl` and to TensorBoard event files.

    Lines of steps after the one that a run goes on from are cut off, so that an interrupted run
    leaves the same lines as an undisturbed one.

    Several runs share `metrics.jsonl`; in TensorBoard each is one of its own, in `seed-SEED/`.
    """

    def __init__(self, path: Path, tensorboard: Path, step: int, seeds: Sequence[int], evaluated: bool):
        """Args:
        path: of `metrics.jsonl`.
        tensorboard: folder of the event files.
        step: that the run goes on from.
        seeds: of the runs.
        evaluated: whether the evaluation at that step, if there is one, is done.
        """
        self._path, self._writes = path, multihost.is_first()
        if not self._writes:
            return
        folders = {seed: tensorboard / f'seed-{seed}' if len(seeds) > 1 else tensorboard for seed in seeds}
        with writing(str(path)):
            _keep_until(path, step, evaluated)
            self._file = open(path, 'a')  # noqa: SIM115 - closed by close()
            purge = step + 1 if step else None
            self._events = {
                seed: SummaryWriter(str(folder), purge_step=purge) for seed, folder in folders.items()
            }

    def write(self, kind: str, step: int, seed: int, **values: float) -> None:
        """Writes one line, `{"kind": kind, "step": step, "seed": seed, **values}`, in the first process."""
        if not self._writes:
            return
        with writing(str(self._path)):
            self._file.write(json.dumps({'kind': kind, 'step': step, 'seed': seed, **values}) + '\n')
            self._file.flush()
            for name, value in values.items():
                self._events[seed].add_scalar(f'{kind}/{name}', value, step)

    def close(self) -> None:
        if not self._writes:
            return
        with contextlib.ExitStack() as stack, writing(str(self._path)):
            for events in self._events.values():
                stack.callback(_abandon, events)
            self._file.close()
            for events in self._events.values():
                events.close()


def _abandon(events: SummaryWriter) -> None:
    """Keeps a writer that could not be closed, the disk being full, from trying again when Python
    exits, which would print a traceback."""
    writer = events.file_writer and events.file_writer.event_writer
    if writer and not writer._closed:
        writer._worker.stop()
        writer._closed = True


def _keep_until(path: Path, step: int, evaluated: bool) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            found = json.loads(line)
            if found['step'] < step or (found['step'] == step and (evaluated or found['kind'] == 'train')):
                kept.append(line + '\n')
        except (ValueError, KeyError):
            # The line that a killed process was writing.
            break
    temporary = path.with_name(f'.{path.name}.tmp')
    temporary.write_text(''.join(kept))
    os.replace(temporary, path)
