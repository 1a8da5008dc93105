"""Free disk space, compared with what is about to be written."""

from __future__ import annotations

import shutil
from pathlib import Path

from dlf_jax.errors import UserError


def check_free_space(folder: Path, needed: int, what: str) -> None:
    """Refuses work that the disk has no room for, before it starts.

    Args:
      folder: existing folder that is about to be written to.
      needed: number of bytes about to be written.
      what: file or address that the bytes come from, named in the error.

    Raises:
      UserError: fewer than `needed` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f'{what}: needs {needed / 1e9:.2f} GB more in {folder}, of which {free / 1e9:.2f} GB are free; '
            'make room or choose another place, then run the same command again'
        )
