"""Check that workers can do the work: the same packages, and the same files at the same paths."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from dlf_jax.data.preprocess.cluster.work import Work
from dlf_jax.errors import UserError
from dlf_jax.file_writing import write_atomically

# Packages whose version decides about bytes or about what workers understand.
_PACKAGES = ('dlf_jax', 'polars', 'numpy', 'distributed')
# Files that a worker tries to open: enough to see that a folder is not there.
_TRIED = 50
_ADVICE = 'install the same on all machines'


def check(client: Any, work: Work) -> None:
    """Checks all workers that are there.

    Args:
      client: `distributed.Client`.
      work: the task, whose files must be readable, and the staging folder, which must be the same one.

    Raises:
      UserError: names the worker, and what it lacks.
    """
    here = _reporter()()
    for worker, found in client.run(_reporter(), on_error='return').items():
        if isinstance(found, BaseException):
            raise _unfit(worker, found)
        for name, version in here.items():
            if found[name] != version:
                has = f'{name} {found[name]}' if found[name] else f'no package {name}'
                raise UserError(f'worker {worker} has {has}, this process {version}; {_ADVICE}')
    marker = Path(work.staging) / 'seen-by-workers'
    write_atomically(marker, work.sources)
    for worker, found in client.run(_unreadable, work, str(marker), on_error='return').items():
        if isinstance(found, BaseException):
            raise _unfit(worker, found)
        if found:
            raise UserError(
                f'worker {worker} on {found[0]}: {found[1]}; input files and --data_dir must be at the same '
                'paths for all workers, on storage that they share'
            )


def _unfit(worker: str, found: BaseException) -> UserError:
    if isinstance(found, OSError):
        return UserError(
            f'worker {worker} was lost before it began ({found}); has it too little memory (--memory, or '
            "the worker's --memory-limit)? See its log"
        )
    return UserError(f'worker {worker} cannot run the code of this process ({found}); {_ADVICE}')


def _reporter() -> Callable[[], dict[str, str]]:
    """A function that travels with its code, because a worker may lack this package."""
    packages = _PACKAGES

    def report() -> dict[str, str]:
        found = {'Python': '.'.join(platform.python_version_tuple()[:2])}
        for name in packages:
            found[name] = ''
            with contextlib.suppress(metadata.PackageNotFoundError):
                found[name] = metadata.version(name)
        return found

    return report


def _unreadable(work: Work, marker: str) -> tuple[str, str] | None:
    """The machine's name and what cannot be read there; None where all is well."""
    paths = list(dict.fromkeys(path for table in work.task.tables.values() for path in table.paths))
    for path in [marker, *paths[:: max(1, len(paths) // _TRIED)]]:
        try:
            with open(path, 'rb') as file:
                file.read(1)
        except OSError as error:
            return platform.node(), f'{path}: cannot be opened: {error.strerror}'
    return None
