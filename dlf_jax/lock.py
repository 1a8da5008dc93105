"""File lock that lets one process at a time work in a folder."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from dlf_jax.errors import UserError


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Holds an advisory lock on the file; the system drops it when the process dies.

    Args:
      path: the lock file; made where it is missing, left in place.
      wait: whether to wait for another holder, or to raise UserError at once.
    """
    with open(path, 'a') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise UserError(
                f'{path.parent}: another process is working here; wait for it, or take another folder'
            ) from error
        yield
