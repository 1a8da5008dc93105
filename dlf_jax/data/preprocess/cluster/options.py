"""Options of the Dask engine: the flags in `config.dataset.beam_options`."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from dlf_jax.errors import UsageError, suggest

RUNNER = 'dask'
KEY = 'config.dataset.beam_options'


@dataclasses.dataclass(frozen=True)
class Options:
    """Which cluster.

    Attributes:
      address: address of a running scheduler, such as tcp://host:8786; '': a cluster of processes on this
        machine, for as long as the work takes.
      workers: number of those processes.
      memory: bytes that each of them may hold, such as 4GB; '': its share of the machine.
      timeout: seconds to wait for the scheduler and a first worker.
    """

    address: str = ''
    workers: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    memory: str = ''
    timeout: float = 60.0

    @classmethod
    def parse(cls, flags: Sequence[str]) -> Options:
        """Reads flags such as `--workers=4`.

        Raises:
          UsageError: names the flag, and what it may be.
        """
        types: dict[str, Callable[[str], Any]] = {
            'address': str, 'workers': _count, 'memory': _memory, 'timeout': _seconds
        }  # fmt: skip
        found = {}
        for flag in flags:
            name, sign, value = flag.removeprefix('--').partition('=')
            if name not in types:
                raise UsageError(f'{KEY}: unknown flag {flag!r} of dask{suggest(name, types)}')
            if not sign or not flag.startswith('--') or not value:
                raise UsageError(f'{KEY}: expected --{name}=VALUE, found {flag!r}')
            found[name] = types[name](value)
        if 'address' in found and {'workers', 'memory'} & found.keys():
            raise UsageError(
                f'{KEY}: --workers and --memory are for a cluster on this machine, not for one at an '
                'address, whose workers are there already; leave them out'
            )
        return cls(**found)


def _count(value: str) -> int:
    if not re.fullmatch(r'[1-9]\d{0,3}', value):
        raise UsageError(f'{KEY}: --workers={value}: expected a number of processes, such as 4')
    return int(value)


def _memory(value: str) -> str:
    if not re.fullmatch(r'\d+(\.\d+)? ?([kMGT]i?B)', value):
        raise UsageError(f'{KEY}: --memory={value}: expected bytes with a unit, such as 4GB')
    return value


def _seconds(value: str) -> float:
    if not re.fullmatch(r'\d+(\.\d+)?', value) or not float(value):
        raise UsageError(f'{KEY}: --timeout={value}: expected seconds, such as 60')
    return float(value)
