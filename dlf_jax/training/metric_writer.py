"""Metrics by step, as JSON lines and as TensorBoard events."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from dlf_jax.file_writing import to_json, writing
from dlf_jax.library_logs import without_modules
from dlf_jax.training import multihost

# Clients of stores, which take half a second to import; event files are local.
with without_modules('boto3', 'google.cloud.storage'):
    from tensorboardX import RecordWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.summary import scalar

# Seconds between two flushes of an event file: each waits for the disk.
_FLUSH_SECONDS = 30
_FILE_VERSION = 'brain.Event:2'
_files = itertools.count()


class MetricWriter:
    """Appends metrics by step to `metrics.jsonl` and to TensorBoard event files, in process 0 alone.

    Lines of steps after the one that training resumes from are removed first, so that an interrupted run
    leaves the same lines as an undisturbed one; TensorBoard is told to drop such events.

    Several runs share `metrics.jsonl`; each has event files of its own, in `seed-SEED/`.
    """

    def __init__(self, path: Path, tensorboard: Path, step: int, seeds: Sequence[int], evaluated: bool):
        """Opens the files.

        Args:
          path: path of `metrics.jsonl`.
          tensorboard: folder of the event files.
          step: step that training resumes from; 0: it starts.
          seeds: seeds of the runs.
          evaluated: whether the evaluation at that step, if there is one, has been done.

        Raises:
          UserError: the file system refuses to write.
        """
        self._path, self._writes = path, multihost.is_first()
        if not self._writes:
            return
        folders = {seed: tensorboard / f'seed-{seed}' if len(seeds) > 1 else tensorboard for seed in seeds}
        with contextlib.ExitStack() as opened, writing(str(path)):
            _remove_later_lines(path, step, evaluated)
            self._file = opened.enter_context(open(path, 'a'))
            self._events = {
                seed: opened.enter_context(contextlib.closing(_EventFile(folder, step + 1 if step else None)))
                for seed, folder in folders.items()
            }
            # Nothing failed: what is open stays open until `close`.
            self._opened = opened.pop_all()

    def write(self, kind: str, step: int, seed: int, **values: float | None) -> None:
        """Writes the line `{"kind": kind, "step": step, "seed": seed, **values}` and its events.

        Args:
          kind: `train` or `valid`.
          step: number of steps taken.
          seed: seed of the run.
          **values: metrics; None or not finite, a metric that is not defined, is null and no event.

        Raises:
          UserError: the file system refuses to write.
        """
        if not self._writes:
            return
        with writing(str(self._path)):
            line = {'kind': kind, 'step': step, 'seed': seed, **values}
            self._file.write(to_json(line, undefined_as_null=True) + '\n')
            self._file.flush()
            for name, value in values.items():
                if value is not None and math.isfinite(value):
                    self._events[seed].write(Event(summary=scalar(f'{kind}/{name}', value), step=step))

    def close(self) -> None:
        """Writes what is buffered and closes the files; they are closed even where it raises UserError."""
        if self._writes:
            with writing(str(self._path)):
                self._opened.close()


class _EventFile:
    """An event file of TensorBoard: records of one `Event` each."""

    def __init__(self, folder: Path, purge_step: int | None):
        """Creates the file.

        Args:
          folder: made where it is missing.
          purge_step: first step whose events in older files are to be dropped; None: none.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names.
        parts = f'{int(time.time()):010d}', socket.gethostname(), str(os.getpid()), f'{next(_files):06d}'
        self._records = RecordWriter(str(folder / f'events.out.tfevents.{".".join(parts)}'))
        self._flushed = float('-inf')
        with contextlib.ExitStack() as opened:
            opened.callback(self._records.close)
            self.write(Event(file_version=_FILE_VERSION))
            if purge_step is not None:
                self.write(Event(file_version=_FILE_VERSION, step=purge_step))
                self.write(Event(session_log=SessionLog(status=SessionLog.START), step=purge_step))
            opened.pop_all()

    def write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._records.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        try:
            self._records.flush()
        finally:
            self._records.close()


def _remove_later_lines(path: Path, step: int, evaluated: bool) -> None:
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
