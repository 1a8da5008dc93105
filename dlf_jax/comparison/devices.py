"""What each of several runs at once has of the machine."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence


def visible_gpus() -> list[str]:
    """Names, for CUDA_VISIBLE_DEVICES, of the GPUs that a run would use; none on a CPU or a TPU.

    JAX is not asked: it would take the GPUs' memory for this process.
    """
    platforms = os.environ.get('JAX_PLATFORMS', '')
    if platforms and not {'cuda', 'gpu'}.intersection(platforms.split(',')):
        return []
    if not any(importlib.util.find_spec(f'jax_cuda{version}_plugin') for version in (12, 13)):
        return []
    chosen = os.environ.get('CUDA_VISIBLE_DEVICES')
    if chosen is not None:
        return [name.strip() for name in chosen.split(',') if name.strip() not in ('', '-1')]
    program = shutil.which('nvidia-smi')
    if program is None:
        return []
    told = subprocess.run([program, '-L'], capture_output=True, text=True, check=False)
    return [str(i) for i in range(sum(line.startswith('GPU ') for line in told.stdout.splitlines()))]


def visible_cores() -> list[int]:
    """The processor's cores that a run would use; none where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []


@dataclasses.dataclass(frozen=True)
class Slot:
    """What one of several runs at once has of the machine.

    Attributes:
      environment: variables beside those of this process.
      cores: of the processor; empty: all.
    """

    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cores: tuple[int, ...] = ()


def slots_here(jobs: int) -> list[Slot]:
    """The `slots` of this machine."""
    return slots(jobs, visible_gpus(), visible_cores())


def slots(jobs: int, gpus: Sequence[str], cores: Sequence[int]) -> list[Slot]:
    """What each of the runs that go on at once has.

    On a CPU, cores of its own: threads of two runs on the same cores wait for each other.

    Args:
      jobs: how many; 0: one per GPU, and one on a CPU.
      gpus: as `visible_gpus` gives them.
      cores: as `visible_cores` gives them.
    """
    jobs = jobs or max(1, len(gpus))
    # One run at a time has all devices, as the command by hand has.
    if jobs == 1:
        return [Slot()]
    if not gpus:
        return [Slot(cores=_share(cores, i, jobs)) for i in range(jobs)]
    # Two on one GPU must not each take most of its memory at the start.
    sharing = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'} if jobs > len(gpus) else {}
    return [Slot({'CUDA_VISIBLE_DEVICES': gpus[i % len(gpus)], **sharing}) for i in range(jobs)]


def _share(cores: Sequence[int], job: int, jobs: int) -> tuple[int, ...]:
    """Neighbours, which share caches and memory; one core where there are not enough."""
    count = len(cores)
    if 0 < count < jobs:
        return (cores[job % count],)
    return tuple(cores[job * count // jobs : (job + 1) * count // jobs])
