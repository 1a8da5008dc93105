"""The watch over the model's folder: a better checkpoint or a replaced model takes the old one's place.

The new version is read and compiled beside the old one, which scores meanwhile; both are in memory then.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlf_jax import allocator
from dlf_jax.errors import UserError
from dlf_jax.exporting import folder as exports
from dlf_jax.server.scorer import Scorer, load
from dlf_jax.serving import weights
from dlf_jax.storage import snapshot
from dlf_jax.workdir import Workdir

_log = logging.getLogger(__name__)

# Seconds in which what is being replaced changes.
_SETTLE = 0.5
# Identity of what a folder holds; compared with others, and nothing else.
Identity = tuple[Any, ...]


class Watcher:
    """Thread that looks at a folder again and again."""

    def __init__(
        self,
        folder: str | Path,
        current: Callable[[], Scorer],
        swap: Callable[[Scorer], None],
        refuse: Callable[[], None] = lambda: None,
        seconds: float = 10.0,
        seed: int = -1,
    ):
        """Starts nothing yet.

        Args:
          folder: workdir of a run, a saved model, or an export.
          current: gives the version that scores now.
          swap: takes a version that is to score from now on; called in the thread.
          refuse: called where a version cannot be had; in the thread.
          seconds: between two looks.
          seed: see `scorer.load`.
        """
        self._named, self._folder, self._seed = folder, snapshot.local(folder), seed
        self._current, self._swap, self._refuse, self._seconds = current, swap, refuse, seconds
        self._seen = self._looked_at = _Nothing
        self._told = ''
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name='watcher', daemon=True)

    def note(self) -> None:
        """Takes what is there now as seen; to be called before it is loaded, so that nothing is missed."""
        self._folder = snapshot.local(self._named)
        self._looked_at = signature(self._folder)
        self._seen = self._identity() or _Nothing

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> bool:
        """Ends the thread; returns whether it has ended, and is not in the middle of loading a model."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(_SETTLE)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._end.wait(self._seconds):
            try:
                self.look()
            except Exception:
                # A mistake of ours; the old version goes on, and so does the watch.
                _log.exception('the watch over %s failed', self._folder)

    def look(self) -> None:
        """Looks once, and swaps where there is another version."""
        try:
            self._folder = snapshot.local(self._named)
        except UserError as error:
            self._tell(f'{error}')
            return
        found = signature(self._folder)
        if found == self._looked_at:
            return
        identity = self._identity()
        if identity is None:
            # Between two models, or half written.
            return
        if identity == self._seen:
            self._looked_at = found
            return
        try:
            scorer = load(self._folder, self._current().sizes, self._seed)
        except Exception as error:
            # Whatever it is: it would be the same at each look.
            self._end.wait(_SETTLE)
            if signature(self._folder) == found:
                # Nobody is writing or removing it: it stays as bad as it is.
                self._seen, self._looked_at = identity, found
                self._refuse()
                self._tell(f'the new model is not taken, {self._current().version} goes on: {error}')
            return
        if self._identity() != identity:
            # It was replaced meanwhile, and may be made of both.
            return
        self._seen, self._looked_at, self._told = identity, found, ''
        old = self._current().version
        if scorer.version == old:
            return
        self._swap(scorer)
        allocator.give_back()
        _log.info('version %s takes over from %s', scorer.version, old)

    def _identity(self) -> Identity | None:
        """What the folder holds; None where that cannot be said now."""
        try:
            if exports.is_export(self._folder):
                return (signature(self._folder),)
            workdir = Workdir(self._folder)
            small = signature(self._folder / 'config.json', self._folder / 'encoder', workdir.calibration)
            if workdir.weights.is_file():
                return small, signature(workdir.weights)
            config = workdir.config()
            config.predict.seed = self._seed
            seed, step = weights.best_step(workdir, config)
            return small, seed, step, os.stat(workdir.checkpoints / str(step)).st_ino
        except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._tell(f'{self._folder} cannot be read now: {error}')
            return None

    def _tell(self, line: str) -> None:
        """Logs a line, once until another comes."""
        if line != self._told:
            _log.warning('%s', line)
        self._told = line


_Nothing: Identity = ()


def signature(*paths: Path) -> Identity:
    """Sizes, times and places of files, and of the entries of folders two levels down; () for nothing."""
    found: list[tuple[str, int, int, int]] = []
    for path in paths:
        for pattern in ('', '*', '*/*'):
            for entry in sorted(path.glob(pattern)) if pattern else [path]:
                try:
                    stat = os.stat(entry)
                except OSError:
                    continue
                found.append((str(entry), stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(found)
