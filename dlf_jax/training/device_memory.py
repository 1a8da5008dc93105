"""Memory of devices: what is there, and whether a state fits."""

from __future__ import annotations

import os
from collections.abc import Sequence

import jax

GIB = 1 << 30
# Names of a GPU's platform, of JAX and of single makers.
GPU_PLATFORMS = ('gpu', 'cuda', 'rocm')
# Share of a GPU's memory that JAX takes, unless its variable XLA_PYTHON_CLIENT_MEM_FRACTION says another.
_GPU_SHARE = 0.75
# Bytes of devices that only describe themselves, for which programs are compiled without owning one: by the
# beginning of `device_kind`, the most specific first (makers' data sheets; TPU figures are a chip's).
KINDS = {
    'TPU v2': 16 * GIB,
    'TPU v3': 32 * GIB,
    'TPU v4 lite': 8 * GIB,
    'TPU v4': 32 * GIB,
    'TPU v5 lite': 16 * GIB,
    'TPU v5e': 16 * GIB,
    'TPU v5': 95 * GIB,
    'TPU v6 lite': 32 * GIB,
    'TPU v6e': 32 * GIB,
    'TPU7x': 192 * GIB,
    'NVIDIA A100-SXM4-40GB': 40 * GIB,
    'NVIDIA A100': 80 * GIB,
    'NVIDIA H100': 80 * GIB,
    'NVIDIA H200': 141 * GIB,
    'NVIDIA B200': 180 * GIB,
    'NVIDIA L4': 24 * GIB,
    'Tesla V100-SXM2-16GB': 16 * GIB,
    'Tesla V100': 32 * GIB,
    'Tesla T4': 16 * GIB,
}


def device_memory(devices: Sequence[jax.Device]) -> float:
    """Bytes that each device may hold; of CPU devices, their share of the machine's memory.

    A device of this process is asked: another host's tells nothing, nor does one that only describes itself,
    which has the memory that its kind is known for, of a GPU the share that JAX takes. Infinite where nothing
    is known.

    Args:
      devices: of all hosts, all of one kind.
    """
    local = [device for device in devices if device.process_index == jax.process_index()]
    if devices[0].platform == 'cpu':
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / max(len(local), 1)
    for device in local:
        try:
            found = device.memory_stats()
        except jax.errors.JaxRuntimeError:
            continue
        if found and 'bytes_limit' in found:
            return found['bytes_limit']
    kind, share = devices[0].device_kind, 1.0
    if devices[0].platform in GPU_PLATFORMS:
        share = float(os.environ.get('XLA_PYTHON_CLIENT_MEM_FRACTION', _GPU_SHARE))
    return next((share * size for name, size in KINDS.items() if kind.startswith(name)), float('inf'))
