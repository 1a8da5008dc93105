"""Programs that are compiled ahead of their first call, and the compiler options they take."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from dlf_jax import allocator
from dlf_jax.training.device_memory import GPU_PLATFORMS

_log = logging.getLogger(__name__)

# Maximum bytes of temporary arrays that a step on a CPU takes in one piece: what the allocator keeps, less a
# little of its own. Of single arrays that are larger the compiler warns, in lines of its heap_simulator.cc
# (which the command does not show); they do no harm.
_PIECE = allocator.LARGEST - (1 << 20)
# JAX's event of a program that was compiled by an earlier process.
_HIT = '/jax/compilation_cache/cache_hits'
# Of every program for a GPU. Products by Triton are tuned one tile after another: on an H100 (jax 0.11.2) no
# step of DLF's released model within 75 s, but after 45 s with cuBLAS alone, whose algorithms are tuned too.
_ON_GPUS = {'xla_gpu_enable_triton_gemm': False}


class Compiled:
    """Function that is compiled ahead of its first call, and never again: other shapes are errors."""

    def __init__(
        self, name: str, jitted: Callable[..., Any], before_first: Callable[[], None] = lambda: None
    ):
        """Keeps what is needed to compile.

        Args:
          name: for the log.
          jitted: gives the function under `jit` for the arguments of its first call.
          before_first: called before the first call.
        """
        self._name, self._jitted, self._before_first = name, jitted, before_first
        self._begun: Future[jax.stages.Compiled] | None = None
        self._called = False
        self.executable: jax.stages.Compiled | None = None

    def __call__(self, *args: Any) -> Any:
        if not self._called:
            self._called = True
            self._before_first()
        return (self.executable or self.compile(*args))(*args)

    def begin(self, *args: Any) -> None:
        """Begins to compile in a thread of its own, as `compile` does, which then waits for it."""
        thread = ThreadPoolExecutor(1, 'compile')
        self._begun = thread.submit(self._compile, *args)
        thread.shutdown(wait=False)

    def compile(self, *args: Any) -> jax.stages.Compiled:
        """Compiles for arguments like these, arrays or shapes with shardings."""
        begun, self._begun = self._begun, None
        self.executable = executable = begun.result() if begun else self._compile(*args)
        return executable

    def lower(self, *args: Any) -> jax.stages.Lowered:
        """Traces for arguments like these, arrays or shapes with shardings; compiles nothing."""
        lowered: jax.stages.Lowered = self._jitted(*args).lower(*args)
        return lowered

    def _compile(self, *args: Any) -> jax.stages.Compiled:
        start = time.perf_counter()
        with _counting(_HIT) as hits:
            executable = self.lower(*args).compile()
        seconds = time.perf_counter() - start
        done = 'compiled by an earlier run, read' if hits else 'compiled'
        _log.info('%s %s in %.1f s; %s', self._name, done, seconds, _memory(executable))
        return executable


@contextlib.contextmanager
def _counting(name: str) -> Iterator[list[str]]:
    """A list that gets an entry for each of JAX's events of a name in this thread."""
    found: list[str] = []
    thread = threading.get_ident()

    def listen(event: str, **_: str | int) -> None:
        if event == name and threading.get_ident() == thread:
            found.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_listener(listen)


def memory(executable: jax.stages.Compiled) -> tuple[int, int] | None:
    """Bytes that a program takes of each device; None where that is not known.

    Returns:
      Those of its arguments and results, what it reuses counted once; and those of all else, temporary arrays
      and code.
    """
    found = executable.memory_analysis()
    if found is None:
        return None
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return held, found.temp_size_in_bytes + found.generated_code_size_in_bytes


def _memory(executable: jax.stages.Compiled) -> str:
    """The same in words."""
    found = memory(executable)
    if found is None:
        return 'memory not known'
    return f'{sum(found) / 1e6:,.0f} MB a device, {found[0] / 1e6:,.0f} of them held'


def common_options(platform: str) -> dict[str, Any] | None:
    """Compiler options of every program; None where there are none.

    Args:
      platform: of the devices: 'cpu', 'gpu', 'cuda', 'tpu'.
    """
    return known(_ON_GPUS) if platform in GPU_PLATFORMS else None


def step_options(platform: str, state: Any, deterministic: bool) -> dict[str, Any] | None:
    """Compiler options of a training step; None where there are none.

    Args:
      platform: as for `common_options`.
      state: arrays or shapes.
      deterministic: whether a step must give the same bits each time it runs, which on a GPU costs speed.
    """
    if platform == 'cpu':
        # Temporary arrays come in pieces that the allocator keeps. Otherwise they are one piece, and a
        # gigabyte goes back to the system at the end of every step. A piece must hold the gradient of any
        # array. A program of several pieces is one that XLA cannot write down, so JAX cannot keep it for the
        # next run, which compiles it again.
        largest = max(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        return known({'xla_multiheap_size_constraint_per_heap': max(largest, _PIECE)})
    if platform in GPU_PLATFORMS and deterministic:
        return known(_ON_GPUS | {'xla_gpu_deterministic_ops': True})
    return common_options(platform)


def once_options(platform: str) -> dict[str, Any] | None:
    """Compiler options of a program that runs once; None where there are none.

    On a CPU it is compiled in two thirds of the time, and gives the same bits.

    Args:
      platform: as for `common_options`.
    """
    if platform == 'cpu':
        return known({'xla_backend_optimization_level': 1})
    return common_options(platform)


def known(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options to compile with: none that the environment's XLA_FLAGS set, which win, and none that the
    installed XLA lacks, of which a warning tells; None where none are left."""
    given = {flag.split('=')[0].lstrip('-') for flag in os.environ.get('XLA_FLAGS', '').split()}
    wanted = {name: value for name, value in options.items() if name not in given}
    kept = {name: value for name, value in wanted.items() if _is_known(name, value)}
    for name in wanted.keys() - kept.keys():
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
