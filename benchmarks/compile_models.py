"""Every model, and DLF's variants, compiled for devices that are not there: seconds and memory.

    python -m benchmarks.compile_models                                  # eight v5e chips, one H100
    python -m benchmarks.compile_models --targets=v5p:2x2x2 --models=dlf,dlf:released

Each is `--mode=compile` in a process of its own, on the shape of Criteo, or of the synthetic histories for
models that need some, with a small vocabulary and small batches, which decide neither what compiles nor how
long it takes. It needs the compilers for the targets (the extras `tpu` and `cuda13`). Standard error shows a
table as it grows: seconds to compile the training step, and what a device needs for it.

The last line is one JSON object: by model and target `seconds`, `megabytes`, `kernels`, or `error`.
"""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks import processes
from dlf_jax.models import MODELS
from dlf_jax.models.dlf import DLF

TARGETS = 'v5e:2x4,h100'
# Settings of `--mode=compile` that keep it quick.
SMALL = ('--config.compile.vocabulary=100000', '--config.training.batch_size=1024')


def everything() -> list[str]:
    """Every model, then the variants of DLF."""
    return [*MODELS, *(f'dlf:{variant}' for variant in DLF.variants if variant != 'full')]


def compiled(name: str, target: str, flags: list[str]) -> dict[str, float | str]:
    """What compiling a model for a target takes; `error` where it does not compile.

    Args:
      name: MODEL or MODEL:VARIANT.
      target: see `config.compile.target`.
      flags: further flags of the command.
    """
    model, _, variant = name.partition(':')
    data = 'synthetic_histories' if MODELS[model].needs_histories else 'criteo'
    command = [
        sys.executable, '-m', 'dlf_jax.main', f'--config=configs/{data}.py:{model}', '--mode=compile',
        f'--variant={variant or "full"}', f'--config.compile.target={target}', *SMALL, *flags,
    ]  # fmt: skip
    try:
        step = processes.run(*command).result['step']
    except SystemExit as error:
        return {'error': str(error).splitlines()[-1]}
    return {
        'seconds': step['compiling_seconds'],
        'megabytes': round(1e3 * step['total_gb'], 1),
        'kernels': step['kernels'],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--models', default=','.join(everything()), help='MODEL or MODEL:VARIANT, by commas')
    parser.add_argument('--targets', default=TARGETS, help='by commas')
    options, flags = parser.parse_known_args()
    targets = options.targets.split(',')
    print(f'| | {" | ".join(targets)} |\n|{"---|" * (len(targets) + 1)}', file=sys.stderr)
    found: dict[str, dict[str, dict[str, float | str]]] = {}
    for name in options.models.split(','):
        found[name] = {target: compiled(name, target, flags) for target in targets}
        cells = [
            one.get('error') or f'{one["seconds"]:.0f} s, {one["megabytes"]:,.0f} MB'
            for one in found[name].values()
        ]
        print(f'| {name} | {" | ".join(map(str, cells))} |', file=sys.stderr, flush=True)
    print(json.dumps({'models': found, 'machine': processes.machine()}))


if __name__ == '__main__':
    main()
