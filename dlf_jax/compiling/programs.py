"""A program of a run, compiled for devices that need not be there: what it takes of them."""

from __future__ import annotations

import collections
import dataclasses
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from dlf_jax.compiling import program_text
from dlf_jax.compiling.program_text import Kernel
from dlf_jax.compiling.targets import rates_of
from dlf_jax.training.compilation import memory

# What the compiler of TPUs says where memory is too small: the temporary arrays, or all that a program takes.
_TEMPORARY = re.compile(r'HLO temporaries \(([\d.]+)([KMG])\)')
_USED = re.compile(r'Used ([\d.]+)([KMG]) of [\d.]+[KMG] hbm')
_UNITS = {'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30}
# Number of parts that are told one by one, the largest.
_PARTS = 20


@dataclasses.dataclass(frozen=True)
class Program:
    """A program that was compiled, or that takes more memory than there is.

    Attributes:
      lowering: seconds of tracing it.
      compiling: seconds.
      held: bytes of its arguments and results on each device, what it reuses counted once.
      temporary: bytes of all else.
      text: HLO; '' where the compiler gave up.
    """

    lowering: float
    compiling: float
    held: float
    temporary: float
    text: str

    @property
    def memory(self) -> float:
        """Bytes that it takes of each device."""
        return self.held + self.temporary


def compiled(lower: Callable[[], jax.stages.Lowered], state: float) -> Program:
    """Compiles a program.

    Args:
      lower: traces it, for arguments that need not be there.
      state: bytes that it holds of each device at the least, for a compiler that gives up without telling.

    Raises:
      jax.errors.JaxRuntimeError: the compiler fails for another reason than too little memory.
    """
    start = time.perf_counter()
    lowered = lower()
    lowering, start = time.perf_counter() - start, time.perf_counter()
    try:
        executable = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        temporary = _temporary(str(error), state)
        if temporary is None:
            raise
        return Program(lowering, time.perf_counter() - start, state, temporary, '')
    compiling, found = time.perf_counter() - start, memory(executable)
    # The compilers of CPUs, GPUs and TPUs all tell.
    assert found is not None
    return Program(lowering, compiling, *found, executable.as_text() or '')


def _temporary(message: str, state: float) -> float | None:
    """Bytes of temporary arrays of a program that takes more memory than there is; None for other errors."""
    if 'RESOURCE_EXHAUSTED' not in message:
        return None
    for pattern, others in ((_TEMPORARY, 0.0), (_USED, state)):
        if found := pattern.search(message):
            return float(found[1]) * _UNITS[found[2]] - others
    return None


def report(
    program: Program,
    devices: Sequence[jax.Device],
    limit: float,
    operations: float = 0.0,
    rate: float = 0.0,
) -> dict[str, Any]:
    """What a program takes, as JSON.

    Args:
      program: compiled.
      devices: that it was compiled for, all of one kind.
      limit: bytes that each may hold.
      operations: floating-point operations that each device does; 0: not told.
      rate: of each device, operations/s; 0: not known.

    Returns:
      `lowering_seconds`, `compiling_seconds`; gigabytes of a device, `held_gb`, `temporary_gb`, `total_gb`,
      and whether it `fits`. Where it could be compiled: the numbers of `kernels` and of the `products` among
      them, `collectives`, each with how often it runs and the megabytes that a device sends, `traffic_gb`,
      the bytes that the kernels move, and of them those by part. With operations: `gigaflops`, and
      milliseconds at the device's rate, `bound_ms`. `traffic_ms` at its bandwidth, and `estimated_cycles`
      where the compiler tells them.
    """
    rates = rates_of(devices[0])
    found: dict[str, Any] = {
        'lowering_seconds': round(program.lowering, 2),
        'compiling_seconds': round(program.compiling, 2),
        'held_gb': _giga(program.held),
        'temporary_gb': _giga(program.temporary),
        'total_gb': _giga(program.memory),
        'fits': program.memory <= limit,
    }
    if operations:
        found['gigaflops'] = _giga(operations)
        found['bound_ms'] = round(1e3 * operations / rate, 6) if rate else None
    if program.text:
        kernels = list(program_text.kernels(program.text))
        found |= _kernels(kernels, len(devices))
        moved = sum(kernel.times * kernel.moved for kernel in kernels)
        found['traffic_gb'] = _giga(moved)
        found['traffic_ms'] = round(1e3 * moved / rates.bandwidth, 6) if rates else None
        found['parts'] = _parts(kernels)
    return found


def _kernels(kernels: Iterable[Kernel], devices: int) -> dict[str, Any]:
    """Numbers of kernels of each kind."""
    own = [kernel for kernel in kernels if not kernel.collective]
    found: dict[str, Any] = {
        'kernels': sum(kernel.times for kernel in own),
        'products': sum(kernel.times for kernel in own if kernel.product),
        'collectives': {
            name: {'count': count, 'megabytes': round(size / 1e6, 3)}
            for name, (count, size) in program_text.sent(kernels, devices).items()
        },
    }
    cycles = sum(kernel.times * kernel.cycles for kernel in kernels)
    return {**found, 'estimated_cycles': cycles} if cycles else found


def _parts(kernels: Iterable[Kernel]) -> dict[str, dict[str, Any]]:
    """Gigabytes and kernels by part, those with most bytes first; small ones together."""
    sizes: collections.Counter[str] = collections.Counter()
    counts: collections.Counter[str] = collections.Counter()
    for kernel in kernels:
        sizes[kernel.part] += kernel.times * kernel.moved
        counts[kernel.part] += kernel.times
    for part, _ in sizes.most_common()[_PARTS:]:
        sizes['all others'] += sizes.pop(part)
        counts['all others'] += counts.pop(part)
    return {part: {'gb': _giga(size), 'kernels': counts[part]} for part, size in sizes.most_common()}


def _giga(count: float) -> float:
    return round(count / 1e9, 6)
