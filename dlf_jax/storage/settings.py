"""Settings of the local cache and of the patience with stores, from the environment or a program."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlf_jax.errors import UsageError


def _positive(name: str, default: float) -> float:
    text = os.environ.get(name, '')
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f'{name}={text!r}: expected a number above 0')
    return value


def _variable(name: str, default: float) -> Callable[[], float]:
    return lambda: _positive(name, default)


def _folder() -> Path:
    found = os.environ.get('DLF_JAX_CACHE') or os.path.join(
        os.environ.get('XDG_CACHE_HOME') or '~/.cache', 'dlf_jax_stores'
    )
    return Path(found).expanduser().absolute()


@dataclasses.dataclass(frozen=True)
class Settings:
    """How stores are used.

    Attributes:
      cache: folder of local copies; `DLF_JAX_CACHE`.
      cache_gb: its size at most, in 1e9 bytes; `DLF_JAX_CACHE_GB`.
      patience: seconds for which an operation that fails is tried again; `DLF_JAX_STORE_PATIENCE`.
      lock_seconds: seconds without a sign of life after which the lock of a workdir is another's to take;
        `DLF_JAX_LOCK_SECONDS`.
    """

    cache: Path = dataclasses.field(default_factory=_folder)
    cache_gb: float = dataclasses.field(default_factory=_variable('DLF_JAX_CACHE_GB', 100.0))
    patience: float = dataclasses.field(default_factory=_variable('DLF_JAX_STORE_PATIENCE', 120.0))
    lock_seconds: float = dataclasses.field(default_factory=_variable('DLF_JAX_LOCK_SECONDS', 60.0))


_chosen: dict[str, Any] = {}


def current() -> Settings:
    """The settings of this process: those chosen here, then the environment's, then the defaults."""
    return Settings(**_chosen)


def choose(**values: Any) -> None:
    """Sets settings of this process by their names, see `Settings`; None takes one back.

    Raises:
      UsageError: a number is not above 0.
    """
    for name, value in values.items():
        if value is None:
            _chosen.pop(name, None)
            continue
        if name != 'cache' and not 0 < value < math.inf:
            raise UsageError(f'{name}={value!r}: expected a number above 0')
        _chosen[name] = Path(value).expanduser().absolute() if name == 'cache' else value
