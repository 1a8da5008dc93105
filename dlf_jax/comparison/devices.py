"""Devices that each of several concurrent runs may see."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess


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
    listing = subprocess.run([program, '-L'], capture_output=True, text=True, check=False)
    return [str(i) for i in range(sum(line.startswith('GPU ') for line in listing.stdout.splitlines()))]


def slots(jobs: int, gpus: list[str]) -> list[dict[str, str]]:
    """Environment variables of each of the concurrent runs.

    Args:
      jobs: number of runs at once; 0: one per GPU, one on a CPU.
      gpus: names, as `visible_gpus` returns them.
    """
    jobs = jobs or max(1, len(gpus))
    # One run at a time has all devices, as the command by hand has.
    if jobs == 1 or not gpus:
        return [{} for _ in range(jobs)]
    # Two on one GPU must not each take most of its memory at the start.
    sharing = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'} if jobs > len(gpus) else {}
    return [{'CUDA_VISIBLE_DEVICES': gpus[i % len(gpus)], **sharing} for i in range(jobs)]
