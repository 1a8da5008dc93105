"""Devices to compile for that need not be there: kinds of TPUs and GPUs, and what they are capable of."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from dlf_jax.errors import UsageError, UserError, suggest

# TPUs by the name of their topologies.
_TPUS = ('v5e', 'v5p', 'v6e')
_THREE_DIMENSIONS = ('v5p',)
# GPUs of one host.
_GPUS_OF_A_HOST = 8
# What libtpu would ask a cloud's server for, where there is none.
_TPU_ENVIRONMENT = {
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    # No chip is touched, so that several processes do no harm.
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


@dataclasses.dataclass(frozen=True)
class _Gpu:
    """Numbers of a GPU that XLA's compiler asks for (makers' data sheets, and what the driver tells).

    Attributes:
      name: as the driver tells it.
      capability: compute capability, major and minor.
      cores: number of multiprocessors.
      units: float32 units of each.
      threads: that each holds.
      shared: bytes of shared memory of each; a block may take 1,024 fewer.
      cache: bytes of the level-2 cache.
      memory: bytes.
      bandwidth: of the memory, bytes/s.
      clock: GHz.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    units: int
    threads: int
    shared: int
    cache: int
    memory: int
    bandwidth: int
    clock: float

    def description(self) -> str:
        """The GPU as a text of XLA's GpuTargetConfigProto."""
        major, minor = self.capability
        limits = {
            'threads_per_block_limit': 1024,
            'threads_per_warp': 32,
            'shared_memory_per_block': 49152,
            'shared_memory_per_core': self.shared,
            'threads_per_core_limit': self.threads,
            'core_count': self.cores,
            'fpus_per_core': self.units,
            'block_dim_limit_x': 2**31 - 1,
            'block_dim_limit_y': 65535,
            'block_dim_limit_z': 65535,
            'memory_bandwidth': self.bandwidth,
            'l2_cache_size': self.cache,
            'clock_rate_ghz': self.clock,
            'device_memory_size': self.memory,
            'shared_memory_per_block_optin': self.shared - 1024,
            'registers_per_core_limit': 65536,
            'registers_per_block_limit': 65536,
        }
        told = ' '.join(f'{name}: {value}' for name, value in limits.items())
        return (
            f'gpu_device_info {{ {told} cuda_compute_capability {{ major: {major} minor: {minor} }} }} '
            'platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } '
            f'runtime_version {{ major: 13 }} device_description_str: "{self.name}"'
        )


_GPUS = {
    'a100': _Gpu(
        'NVIDIA A100-SXM4-80GB', (8, 0), 108, 64, 2048, 167_936, 40 << 20, 85_100_068_864,
        2_039_040_000_000, 1.41,
    ),
    'l4': _Gpu('NVIDIA L4', (8, 9), 58, 128, 1536, 102_400, 48 << 20, 23_600_000_000, 300_096_000_000, 2.04),
    'h100': _Gpu(
        'NVIDIA H100 80GB HBM3', (9, 0), 132, 128, 2048, 233_472, 50 << 20, 84_929_347_584,
        3_352_320_000_000, 1.98,
    ),
    'h200': _Gpu(
        'NVIDIA H200', (9, 0), 132, 128, 2048, 233_472, 50 << 20, 151_397_597_184, 4_800_000_000_000, 1.98
    ),
    'b200': _Gpu(
        'NVIDIA B200', (10, 0), 148, 128, 2048, 233_472, 126 << 20, 191_514_411_008, 7_672_320_000_000, 1.965
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Rates:
    """What a device is capable of at the most (makers' data sheets).

    Attributes:
      bfloat16: operations/s of products of bfloat16.
      float32: of float32 at JAX's default precision: TF32 on GPUs, bfloat16 passes on TPUs.
      bandwidth: bytes/s of its memory.
    """

    bfloat16: float
    float32: float
    bandwidth: float


# By the beginning of `device_kind`.
_RATES = {
    'TPU v5 lite': Rates(197e12, 197e12, 0.819e12),
    'TPU v5': Rates(459e12, 459e12, 2.765e12),
    'TPU v6 lite': Rates(918e12, 918e12, 1.640e12),
    'NVIDIA A100': Rates(312e12, 156e12, 2.039e12),
    'NVIDIA L4': Rates(121e12, 60e12, 0.300e12),
    'NVIDIA H100': Rates(989e12, 494e12, 3.352e12),
    'NVIDIA H200': Rates(989e12, 494e12, 4.800e12),
    'NVIDIA B200': Rates(2250e12, 1125e12, 7.672e12),
}


def rates_of(device: jax.Device) -> Rates | None:
    """What a device is capable of; None where that is not known."""
    return next((rates for kind, rates in _RATES.items() if device.device_kind.startswith(kind)), None)


def leave_devices_alone() -> None:
    """Sets this process up to compile for devices that are absent: none is looked for, or asked.

    For a command, before JAX is first used; from Python, set the same.
    """
    jax.config.update('jax_platforms', 'cpu')
    for key, value in _TPU_ENVIRONMENT.items():
        os.environ.setdefault(key, value)


def devices_of(target: str) -> Sequence[jax.Device]:
    """Devices that programs can be compiled for.

    Args:
      target: a TPU and its topology, such as `v5e:4x4` or `v5p:2x2x2`; a GPU and how many, such as `h100:8`;
        either alone for one chip; '' for the devices that are here.

    Raises:
      UsageError: there is no such target.
      UserError: the compiler for it is not installed.
    """
    if not target:
        return jax.devices()
    name, _, shape = target.partition(':')
    known = (*_TPUS, *_GPUS)
    if name not in known:
        raise UsageError(f'config.compile.target={target!r}: no such kind of device{suggest(name, known)}')
    return _tpus(target, name, shape) if name in _TPUS else _gpus(target, name, shape)


def _tpus(target: str, name: str, shape: str) -> Sequence[jax.Device]:
    shape = shape or '1x1'
    if not re.fullmatch(r'\d+(x\d+){1,2}', shape):
        raise UsageError(f"config.compile.target={target!r}: expected a topology, such as '{name}:4x4'")
    lengths = [int(length) for length in shape.split('x')]
    # A host has four chips, but for the smallest of all.
    alone = {'chips_per_host_bounds': [1, 1, 1]} if math.prod(lengths) == 1 else {}
    if name in _THREE_DIMENSIONS and len(lengths) == 2:
        shape += 'x1'
    try:
        return topologies.get_topology_desc(f'{name}:{shape}', platform='tpu', **alone).devices
    except RuntimeError as error:
        raise _explained(target, error, 'tpu') from error


def _gpus(target: str, name: str, shape: str) -> Sequence[jax.Device]:
    count = int(shape or 1) if re.fullmatch(r'[1-9]\d*|', shape) else 0
    hosts = -(-count // _GPUS_OF_A_HOST)
    if not count or count % hosts:
        raise UsageError(
            f'config.compile.target={target!r}: expected a number of GPUs, 1 to {_GPUS_OF_A_HOST} or as '
            f"many for each host, such as '{name}:8'"
        )
    try:
        return topologies.get_topology_desc(
            platform='cuda',
            topology_name=name,
            target_config=_GPUS[name].description(),
            topology=f'1x{hosts}x{count // hosts}',
        ).devices
    except RuntimeError as error:
        raise _explained(target, error, 'cuda13') from error


def _explained(target: str, error: RuntimeError, extra: str) -> UserError:
    """The error for people: a compiler that is not installed, or a topology that cannot be."""
    told = ' '.join(str(error).split())
    if isinstance(error, jax.errors.JaxRuntimeError):
        return UsageError(f'config.compile.target={target!r}: {told}')
    return UserError(
        f'config.compile.target={target!r}: the compiler for it is not installed; '
        f"pip install 'dlf_jax[{extra}]' ({told})"
    )
