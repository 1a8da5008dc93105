"""Local copy of a workdir in a store, whose changes go there in states that a run can go on from."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from dlf_jax.errors import UserError, show_as
from dlf_jax.lock import locked
from dlf_jax.storage import cache, manifest, urls
from dlf_jax.storage.store_lock import StoreLock

_log = logging.getLogger(__name__)

# Files that grow where they are, and so are copied; all others are replaced whole, and so are linked.
_GROWING = ('metrics.jsonl', 'tensorboard/')
# Folder of the checkpoints, one folder each, which never change but may be removed at any time.
_CHECKPOINTS = 'checkpoints'
# In the names of checkpoints that are being written.
_UNFINISHED = '.orbax-checkpoint-tmp'


class Keeper(Protocol):
    """Keeps what a run writes into its workdir where that is to be."""

    def keep(self) -> None:
        """Begins to keep what is finished now, in the background."""

    def check(self) -> None:
        """Raises UserError where something could not be kept."""

    def flush(self) -> None:
        """Returns when all that is finished is kept."""

    def close(self) -> None:
        """The same, and leaves the workdir to others."""


class InPlace:
    """A `Keeper` of a workdir on a file system, where all is kept once it is written."""

    def keep(self) -> None:
        """See `Keeper.keep`."""

    def check(self) -> None:
        """See `Keeper.check`."""

    def flush(self) -> None:
        """See `Keeper.flush`."""

    def close(self) -> None:
        """See `Keeper.close`."""


@contextlib.contextmanager
def opened(workdir: str | os.PathLike) -> Iterator[tuple[Path, Keeper]]:
    """A workdir to write: itself where it is a path, or a local copy of what is in a store.

    Args:
      workdir: path or URL.

    Yields:
      The folder, and what keeps its changes; at the end of the block they are.

    Raises:
      UserError: another process works there, or the store refuses.
    """
    if not urls.is_url(workdir):
        yield Path(urls.plain(workdir)), InPlace()
        return
    url = urls.check(workdir)
    entry = cache.use('work', cache.key(url))
    show_as(str(entry / 'run'), url)
    show_as(str(entry), url)
    # Two processes of one machine share the copy.
    with locked(entry / 'lock', wait=False):
        copy = WorkingCopy(url, entry)
        try:
            yield copy.path, copy
        except BaseException:
            with contextlib.suppress(UserError):
                copy.close()
            raise
        copy.close()


class WorkingCopy:
    """Local copy of a workdir in a store; a `Keeper`.

    Attributes:
      path: of the copy, which is what the store has at first.
    """

    def __init__(self, url: str, entry: Path):
        """Locks the workdir and brings the copy level with the store.

        Args:
          url: of the workdir.
          entry: folder of the local cache, locked.

        Raises:
          UserError: another process works there, there are files that no run has written, or the store
            refuses.
        """
        self._url, self.path, self._links = url, entry / 'run', entry / 'links'
        _check_ours(url)
        self._lock = StoreLock(url)
        self._lock.acquire()
        try:
            self._pusher = self._levelled()
        except BaseException:
            self._lock.release()
            raise
        # Files of each whole checkpoint, as long as it is whole.
        self._checkpoints: dict[str, list[str]] = {}
        self._flushing, self._seeing = threading.Lock(), threading.Lock()
        self._see_checkpoints()
        self._wanted, self._closed = threading.Event(), False
        self._failed: UserError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name='keeper of a workdir')
        self._thread.start()

    def _levelled(self) -> manifest.Pusher:
        pusher = manifest.Pusher(self._url, manifest.read(self._url))
        pusher.clean()
        try:
            fetched = manifest.pull(self._url, pusher.there, self.path)
        except FileNotFoundError as error:
            raise UserError(
                f'{self._url}: an object that its {manifest.NAME} names is not there ({error}); the store '
                'has lost it'
            ) from None
        if fetched:
            cache.tell(fetched, self._url)
        return pusher

    def keep(self) -> None:
        """See `Keeper.keep`; called when a checkpoint has just become whole."""
        self._see_checkpoints()
        self._wanted.set()

    def check(self) -> None:
        """See `Keeper.check`."""
        if self._failed:
            raise self._failed
        self._lock.check()

    def _see_checkpoints(self) -> None:
        """Remembers the files of checkpoints that are new, and so whole: none is removed when it comes."""
        top = self.path / _CHECKPOINTS
        with self._seeing:
            for step in top.glob('*'):
                if step.name.isdigit() and step.name not in self._checkpoints:
                    files = (path for path in sorted(step.rglob('*')) if path.is_file())
                    self._checkpoints[step.name] = [f.relative_to(self.path).as_posix() for f in files]

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            if self._closed:
                return
            self._wanted.clear()
            try:
                self.flush()
            except UserError as error:
                self._failed = error
                return

    def flush(self) -> None:
        """See `Keeper.flush`.

        Raises:
          UserError: the store refuses or does not answer, or another process has taken the workdir.
        """
        with self._flushing:
            self.check()
            self._see_checkpoints()
            try:
                names = self._link()
                self._pusher.push(self._links, names)
            finally:
                shutil.rmtree(self._links, ignore_errors=True)

    def _link(self) -> list[str]:
        """Puts what is finished at this moment where nobody changes it; returns the paths."""
        shutil.rmtree(self._links, ignore_errors=True)
        self._links.mkdir(parents=True)
        # What says how a checkpoint was evaluated comes before the checkpoints, so that it is of one of them.
        linked = [name for name in self._others() if self._linked(name)]
        for step, names in list(self._checkpoints.items()):
            if all(self._linked(name) for name in names):
                linked += names
            else:
                # It is being removed.
                self._checkpoints.pop(step)
        return linked

    def _others(self) -> Iterator[str]:
        """Yields the paths of all finished files but checkpoints."""
        for above, folders, files in os.walk(self.path):
            inside = Path(above).relative_to(self.path)
            folders[:] = [name for name in folders if not name.startswith('.') and _UNFINISHED not in name]
            if inside.as_posix() == _CHECKPOINTS:
                folders[:] = [name for name in folders if not name.isdigit()]
            yield from ((inside / name).as_posix() for name in files if not name.startswith('.'))

    def _linked(self, name: str) -> bool:
        source, target = self.path / name, self._links / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if name.startswith(_GROWING):
                shutil.copy2(source, target)
                return True
            try:
                os.link(source, target)
            except FileNotFoundError:
                raise
            except OSError:
                # A file system without links.
                shutil.copy2(source, target)
        except FileNotFoundError:
            return False
        return True

    def close(self) -> None:
        """See `Keeper.close`.

        Raises:
          UserError: see `flush`.
        """
        if self._closed:
            return
        try:
            self.flush()
        finally:
            self._closed = True
            self._wanted.set()
            self._lock.release()


def _check_ours(url: str) -> None:
    """Raises UserError where a folder holds something else than a run, or is a store's."""
    there = manifest.read(url)
    if there is not None and not there.whole:
        raise UserError(f'{url}: holds an export or a saved model that is not whole, not a run')
    if there is None:
        foreign = [name for name in manifest.objects_below(url) if not manifest.is_own(name)]
        if foreign:
            raise UserError(
                f'{url}: holds {foreign[0]} and no {manifest.NAME}, so no run has written it; take another '
                '--workdir'
            )
