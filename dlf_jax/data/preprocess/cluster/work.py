"""What every job of a preparation knows, and where it puts what it hands over."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pickle
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dlf_jax
from dlf_jax.data.preprocess.task import Task
from dlf_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Work:
    """A preparation, as it is sent to workers.

    Attributes:
      packed: the `Task`, pickled.
      staging: folder for what workers hand over; the same for all.
      sources: `sources()` of the process that asks for the work.
      token: another one for every preparation.
    """

    packed: bytes
    staging: str
    sources: str
    token: str

    @classmethod
    def of(cls, task: Task, staging: Path) -> Work:
        """Packs a task; classes of the user's own files travel with it."""
        import cloudpickle

        # Importable in this process alone.
        own = [
            module
            for table in task.tables.values()
            for kind in _classes(table)
            if (module := sys.modules[kind.__module__]).__name__.partition('.')[0]
            not in ('dlf_jax', 'builtins', 'abc', 'typing')
        ]
        for module in own:
            cloudpickle.register_pickle_by_value(module)
        try:
            return cls(cloudpickle.dumps(task), str(staging), sources(), uuid.uuid4().hex)
        finally:
            for module in set(own):
                cloudpickle.unregister_pickle_by_value(module)

    @property
    def task(self) -> Task:
        """What is to be prepared."""
        return _unpacked(self.packed)

    def new_place(self, name: str) -> Path:
        """A path in the staging folder that no other attempt at any job has."""
        return Path(self.staging) / f'{name}-{uuid.uuid4().hex}'


def _classes(table: Any) -> list[type]:
    found = [*type(table).__mro__]
    return [*found, *_classes(table.table)] if hasattr(table, 'table') else found


# A worker process does the jobs of one preparation at a time.
@functools.lru_cache(maxsize=2)
def _unpacked(packed: bytes) -> Task:
    # Of the scheduler, from which workers take the code that they run as well.
    task = pickle.loads(packed)
    assert isinstance(task, Task)
    return task


@functools.cache
def sources() -> str:
    """Hash of this package's version and of the files that make records, 16 hexadecimal digits."""
    found = hashlib.sha256(dlf_jax.__version__.encode())
    folder = Path(dlf_jax.__file__).parent / 'data'
    for path in sorted(folder.rglob('*.py')):
        found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:16]


def do(work: Work, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """Does a job on a worker.

    Raises:
      UserError: the worker has other code than the process that asks.
    """
    if work.sources != sources():
        import platform

        raise UserError(
            f'a worker on {platform.node()} has another version of dlf_jax ({dlf_jax.__version__}, '
            f'{Path(dlf_jax.__file__).parent}) than this process; install the same on all machines'
        )
    return function(work, *arguments)
