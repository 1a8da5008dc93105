"""The folder in which JAX keeps what it compiled for the next run of the same program."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import filelock
import jax

_log = logging.getLogger(__name__)

# Bytes of all programs, beyond which JAX removes those that were not used for longest. A program takes some
# 0.05 to 3 MB.
_MAX_BYTES = 1 << 30
# Seconds that another run may hold the folder's lock, which it does for milliseconds.
_PATIENCE = 10.0


def keep_programs(folder: Path) -> None:
    """Has JAX keep in a folder all that it compiles; a folder that cannot be used is one line in the log.

    Where JAX's own setting (`JAX_COMPILATION_CACHE_DIR`) names a folder, that and its other settings hold.
    """
    if jax.config.values['jax_compilation_cache_dir']:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The lock that JAX takes for each program.
        with filelock.FileLock(folder / '.lockfile', timeout=_PATIENCE):
            _remove_unfinished(folder)
    except (OSError, NotImplementedError) as error:
        _log.warning('what is compiled is not kept for the next run: %s: %s', folder, error)
        return
    jax.config.update('jax_compilation_cache_dir', str(folder))
    jax.config.update('jax_compilation_cache_max_size', _MAX_BYTES)
    # Many programs of a fraction of a second take seconds, too.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


def _remove_unfinished(folder: Path) -> None:
    """Removes programs whose writing was cut short, by a full disk or the end of the process: JAX would try
    to read them in every run, and write none in their place.

    They are known by what JAX writes after a program, the time of its use.
    """
    for program in folder.glob('*-cache'):
        if not program.with_name(program.name.removesuffix('-cache') + '-atime').exists():
            with contextlib.suppress(FileNotFoundError):
                program.unlink()
