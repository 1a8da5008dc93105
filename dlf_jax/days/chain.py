"""The folder of a walk over days: in a file system, or in a store."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from dlf_jax.file_writing import write_atomically, writing
from dlf_jax.lock import locked
from dlf_jax.storage import manifest, outputs, snapshot, urls
from dlf_jax.storage.store import Store, each
from dlf_jax.storage.store_lock import StoreLock

TABLE = 'daily.csv'
_RESULT = 'result.json'


class Chain(Protocol):
    """The days that are there, each the workdir of a run.

    Attributes:
      name: path or URL of the folder.
    """

    name: str

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keeps other walks out for as long as the context is open; raises UserError where one is at work."""

    def place(self, day: str) -> str:
        """Path or URL of the workdir of a day."""

    def finished(self) -> list[str]:
        """Names of the finished days, in their order."""

    def read(self, day: str) -> Path:
        """A folder with the small files of a finished day: its config, encoder and result."""

    def latest(self, newest: str) -> str:
        """Path or URL by which the newest finished day is asked for.

        Args:
          newest: its name.
        """

    def is_recorded(self, day: str) -> bool:
        """Whether `record` was called for this day as the newest."""

    def record(self, newest: str, table: str) -> None:
        """Keeps the table of the finished days, and which one is the newest.

        Args:
          newest: name of a day.
          table: CSV.
        """

    def drop_checkpoints(self, day: str) -> None:
        """Removes the checkpoints of a finished day."""


class Folder:
    """A chain in a file system; `latest` in it is a link to the newest day."""

    def __init__(self, path: Path):
        self.name = str(path)
        self._path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """See `Chain.locked`; makes the folder."""
        with writing(self.name):
            (self._path / 'days').mkdir(parents=True, exist_ok=True)
        with locked(self._path / '.lock', wait=False):
            yield

    def place(self, day: str) -> str:
        """See `Chain.place`."""
        return str(self._path / 'days' / day)

    def finished(self) -> list[str]:
        """See `Chain.finished`."""
        return sorted(path.parent.name for path in (self._path / 'days').glob(f'*/{_RESULT}'))

    def read(self, day: str) -> Path:
        """See `Chain.read`."""
        return self._path / 'days' / day

    @property
    def _link(self) -> Path:
        return self._path / 'latest'

    def latest(self, newest: str) -> str:
        """See `Chain.latest`."""
        del newest
        return str(self._link)

    def is_recorded(self, day: str) -> bool:
        """See `Chain.is_recorded`."""
        return self._link.is_symlink() and Path(os.readlink(self._link)).name == day

    def record(self, newest: str, table: str) -> None:
        """See `Chain.record`."""
        write_atomically(self._path / TABLE, table)
        with writing(str(self._link)):
            temporary = self._path / '.latest.tmp'
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(Path('days', newest))
            os.replace(temporary, self._link)

    def drop_checkpoints(self, day: str) -> None:
        """See `Chain.drop_checkpoints`."""
        shutil.rmtree(self._path / 'days' / day / 'checkpoints', ignore_errors=True)


class Stored:
    """A chain in a store, which has no links: the last line of the table is the newest day."""

    def __init__(self, url: str):
        self.name = url

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """See `Chain.locked`."""
        lock = StoreLock(self.name)
        lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def place(self, day: str) -> str:
        """See `Chain.place`."""
        return urls.join(self.name, 'days', day)

    def finished(self) -> list[str]:
        """See `Chain.finished`."""
        below = manifest.objects_below(urls.join(self.name, 'days'))
        days = sorted({place.partition('/')[0] for place in below if place.endswith(f'/{manifest.NAME}')})
        found = each(lambda day: manifest.read(self.place(day)), days)
        return [
            day for day, run in zip(days, found, strict=True) if run and run.whole and _RESULT in run.files
        ]

    def read(self, day: str) -> Path:
        """See `Chain.read`."""
        return snapshot.local(self.place(day), small=True)

    def latest(self, newest: str) -> str:
        """See `Chain.latest`."""
        return self.place(newest)

    def is_recorded(self, day: str) -> bool:
        """See `Chain.is_recorded`."""
        found = Store.of(self.name).read(urls.join(self.name, TABLE))
        return found is not None and found[0].decode().splitlines()[-1].partition(',')[0] == day

    def record(self, newest: str, table: str) -> None:
        """See `Chain.record`."""
        del newest
        with outputs.file(urls.join(self.name, TABLE)) as path:
            path.write_text(table)

    def drop_checkpoints(self, day: str) -> None:
        """See `Chain.drop_checkpoints`."""
        place = self.place(day)
        manifest.Pusher(place, manifest.read(place)).drop('checkpoints/')


def of(workdir: str) -> Chain:
    """The chain in a folder.

    Args:
      workdir: path or URL.
    """
    if urls.is_url(workdir):
        return Stored(urls.check(workdir))
    return Folder(Path(urls.plain(workdir)).absolute())
