"""Programs that are compiled ahead of their first call, and the compiler options they take."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from dlf_jax import allocator

_log = logging.getLogger(__name__)

# Maximum bytes of temporary arrays that a step on a CPU takes in one piece. Of single arrays that are larger
# the compiler warns, in lines of its heap_simulator.cc; they do no harm.
_PIECE = allocator.LARGEST // 2


class Compiled:
    """Function that is compiled ahead of its first call, and never again: other shapes are errors."""

    def __init__(self, name: str, jitted: Callable[..., Any]):
        """Keeps what is needed to compile.

        Args:
          name: for the log.
          jitted: gives the function under `jit` for the arguments of its first call.
        """
        self._name, self._jitted = name, jitted
        self.executable: jax.stages.Compiled | None = None

    def __call__(self, *args: Any) -> Any:
        return (self.executable or self.compile(*args))(*args)

    def compile(self, *args: Any) -> jax.stages.Compiled:
        """Compiles for arguments like these, arrays or shapes with shardings."""
        start = time.perf_counter()
        self.executable = executable = self._jitted(*args).lower(*args).compile()
        seconds = time.perf_counter() - start
        _log.info('%s compiled in %.1f s; %s', self._name, seconds, _memory(executable))
        return executable


def _memory(executable: jax.stages.Compiled) -> str:
    """Memory of a program on each device, in words."""
    found = executable.memory_analysis()
    if found is None:
        return 'memory not known'
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return f'{(held + found.temp_size_in_bytes) / 1e6:,.0f} MB a device, {held / 1e6:,.0f} of them held'


def step_options(platform: str, state: Any, deterministic: bool) -> dict[str, Any] | None:
    """Compiler options of a training step; None where there are none.

    Args:
      platform: of the devices: 'cpu', 'gpu', 'cuda', 'tpu'.
      state: arrays or shapes.
      deterministic: whether a step must give the same bits each time it runs, which on a GPU costs speed.
    """
    if platform == 'cpu':
        # Temporary arrays come in pieces that the allocator keeps. Otherwise they are one piece, and a
        # gigabyte goes back to the system at the end of every step. A piece must hold the gradient of any
        # array.
        largest = max(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        return known({'xla_multiheap_size_constraint_per_heap': max(largest, _PIECE)})
    if platform in ('gpu', 'cuda') and deterministic:
        return known({'xla_gpu_deterministic_ops': True})
    return None


def known(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options that the installed XLA has, with a warning of the others; None where none are left."""
    kept = {name: value for name, value in options.items() if _is_known(name, value)}
    for name in options.keys() - kept.keys():
        _log.warning('this version of XLA has no option %s; going on without', name)
    return kept or None


@functools.cache
def _is_known(name: str, value: Any) -> bool:
    """Whether the installed XLA takes an option: a program of one addition tells, in milliseconds."""
    try:
        jax.jit(lambda x: x + 1, compiler_options={name: value}).lower(0.0).compile()
    except Exception:
        return False
    return True
