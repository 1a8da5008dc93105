"""All that is worth knowing of this project on the accelerator that is here, in one command.

    python -m benchmarks.accelerator --output=/tmp/accelerator
    python -m benchmarks.accelerator --cases=dlf-released,quickstart

One after another, each in a process of its own with a limit of its own: the training step of DLF (its
authors' model and the paper's setting) and DCNv2 on Criteo's shape, and of MLPerf's DLRM-DCNv2, in bfloat16,
with no program kept and with all of them; DLF's attention as one kernel; the same steps in PyTorch where that
is installed; the quickstart; training from records, under `jit` and `pmap`; tables of 10^6 and 10^8 rows;
five seeds in one program; the tests of the models and the step. It needs no network. A case that fails or
takes too long is a row with its error.

FOLDER has `accelerator.json` and the table `accelerator.md`, both written anew after each case; the last line
on standard output is the same JSON object. On a CPU the shapes are small (`--small`), to see that all of it
runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import processes, step
from dlf_jax.file_writing import to_json, write_atomically

# Presets of `benchmarks.step`, with what makes them small.
STEPS = {
    'dlf-released': ('dlf-criteo', {'layers': 1, 'tokens': 4, 'embedding_size': 8}),
    'dlf-paper': ('dlf-paper-criteo', {'layers': 1, 'tokens': 4, 'embedding_size': 8}),
    'dcnv2': ('dcnv2-criteo', {'cross_layers': 1, 'embedding_size': 4}),
    'dlrm-mlperf': (
        'dlrm-mlperf',
        {'embedding_size': 4, 'cross_layers': 1, 'bottom_hidden': [8], 'hidden': [8]},
    ),
}
# MLPerf's tables, capped so that one card holds them: 54 million rows, 28 GB with an accumulator a row.
MLPERF = ('--cap=10000000', '--batch_size=32768', '--batches=4')
PEER_WAYS = ('eager', 'eager-bfloat16', 'compile', 'compile-bfloat16')
TESTS = ('tests/models', 'tests/training/test_train_step.py', 'tests/training/test_row_optimizers.py')
# Memory is taken as it is needed, so that several processes share a device, and products have the precision
# that the tests' tolerances are made for.
TEST_ENVIRONMENT = {'JAX_DEFAULT_MATMUL_PRECISION': 'highest', 'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
DEVICE = """
import jax, json
first, *_ = devices = jax.devices()
print(json.dumps({'kind': first.device_kind, 'platform': first.platform, 'count': len(devices),
                  'jax': jax.__version__}))
"""


@dataclasses.dataclass(frozen=True)
class Case:
    """Something to find out.

    Attributes:
      name: of its row.
      limit: seconds that it may take.
      run: finds it out within so many seconds.
    """

    name: str
    limit: float
    run: Callable[[float], dict[str, Any]]


class Cases:
    """All cases, in the order in which they are worth having."""

    def __init__(self, folder: Path, small: bool):
        """Runs nothing yet.

        Args:
          folder: of specifications, compiled programs and data.
          small: whether shapes are small.
        """
        self.folder, self.small = folder, small

    def __iter__(self) -> Iterator[Case]:
        for name in STEPS:
            yield Case(name, 150, partial(self._step, name))
            yield Case(f'{name}, programs kept', 60, partial(self._step, name))
        yield Case('dcnv2, lazy_adam', 60, partial(self._step, 'dcnv2', flags=('--optimizer=lazy_adam',)))
        rowwise = ('--optimizer=rowwise_adagrad',)
        yield Case('dlrm-mlperf, rowwise_adagrad', 150, partial(self._step, 'dlrm-mlperf', flags=rowwise))
        if not self.small:
            yield Case('attention kernel', 120, partial(_json, command=('-m', 'benchmarks.attention_kernel')))
            fields = (f'--fields={json.dumps({"attention_kernel": "mosaic_gpu"})}',)
            yield Case('dlf-paper, attention kernel', 120, partial(self._step, 'dlf-paper', flags=fields))
        if importlib.util.find_spec('torch'):
            for name in STEPS:
                # The peer's sparse tables of that size are for a CPU.
                for way in PEER_WAYS if name != 'dlrm-mlperf' else ():
                    yield Case(f'{name}, torch {way}', 75, partial(self._peer, name, way))
        yield Case('quickstart', 120, self._quickstart)
        yield Case('from records', 180, self._from_records)
        pmap = ('--config.parallel=pmap',)
        yield Case('from records, pmap', 120, partial(self._from_records, flags=pmap))
        yield Case('vocabulary', 120, self._vocabulary)
        for model in ('mlp', 'dlf'):
            yield Case(f'seeds {model}', 120, partial(self._seeds, model))
        yield Case('tests', 240, self._tests)

    def _specification(self, name: str) -> Path:
        """File of what a step is of, written once."""
        preset, shape = STEPS[name]
        path = self.folder / name / 'spec.json'
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = [f'--preset={preset}', '--peer=none']
            if self.small:
                whole = json.dumps({**step.PRESETS[preset]['shape'], **shape})
                flags += [
                    '--batch_size=64',
                    '--vocabulary=2000',
                    '--cap=100',
                    '--batches=2',
                    f'--shape={whole}',
                ]
            else:
                flags += MLPERF if preset == 'dlrm-mlperf' else ['--batch_size=10000']
            path.write_text(json.dumps(step.specification(step.flags(flags), path.parent)))
        return path

    def _step(self, name: str, limit: float, flags: tuple[str, ...] = ()) -> dict[str, Any]:
        """The training step alone."""
        steps = () if not self.small else ('--steps=1',)
        kept = f'--programs={self.folder / "programs"}'
        spec = self._specification(name)
        command = ('-m', 'benchmarks.step_on_device', spec, '--precision=bfloat16', kept, *steps, *flags)
        return _json(limit, command)

    def _peer(self, name: str, way: str, limit: float) -> dict[str, Any]:
        """The same step in PyTorch."""
        command = ('benchmarks/peer_torch_device.py', self._specification(name), f'--way={way}')
        return _json(limit, command)

    def _train(self, limit: float, rows: int, *flags: str) -> dict[str, Any]:
        workdir = tempfile.mkdtemp(dir=self.folder)
        command = (
            '-m', 'dlf_jax.main', f'--workdir={workdir}', f'--data_dir={self.folder / "data"}',
            f'--config.dataset.rows={3000 if self.small else rows}', *flags,
        )  # fmt: skip
        return _json(limit, command)

    def _quickstart(self, limit: float) -> dict[str, Any]:
        found = self._train(limit, 600_000, '--config=configs/synthetic.py')
        return {'seconds': found['seconds'], 'auc': found['test']['auc']}

    def _from_records(self, limit: float, flags: tuple[str, ...] = ()) -> dict[str, Any]:
        """DCNv2 from prepared records, as the command trains it."""
        found = self._train(
            limit, 3_000_000, '--config=configs/synthetic.py:dcnv2', '--config.precision=bfloat16',
            '--config.model.embedding_size=16', '--config.training.epochs=2', '--config.plateau.patience=0',
            f'--config.training.batch_size={64 if self.small else 10_000}', *flags,
        )  # fmt: skip
        return {'samples_per_second': found['samples_per_second'], 'auc': found['test']['auc']}

    def _vocabulary(self, limit: float) -> dict[str, Any]:
        """The same step over small and large tables."""
        small = ('--sizes=10000,20000', '--rounds=1', '--steps=1', '--batch_size=64')
        large = ('--sizes=1000000,100000000', '--rounds=3')
        flags = small if self.small else large
        found = _json(limit, ('-m', 'benchmarks.vocabulary', '--optimizers=lazy_adam', *flags))
        return {'ratio': found['lazy_ratio'], 'milliseconds': found['milliseconds']['lazy_adam']}

    def _seeds(self, model: str, limit: float) -> dict[str, Any]:
        """Several seeds in one program against one after another."""
        small = ('--batch_size=64', '--steps=1', '--rounds=1', '--seeds=2') if self.small else ()
        found = _json(limit, ('benchmarks/seeds.py', f'--model={model}', *small))
        return {key: found[key] for key in ('ratio', 'seconds_together', 'compile_seconds')}

    def _tests(self, limit: float) -> dict[str, Any]:
        """Tests of the models and the step on the device."""
        files = TESTS[2:] if self.small else TESTS
        spread = ('-n', str(min(os.cpu_count() or 1, 14))) if importlib.util.find_spec('xdist') else ()
        done = subprocess.run(
            [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', *spread, *files],
            cwd=processes.ROOT, env={**os.environ, **TEST_ENVIRONMENT}, capture_output=True, text=True,
            timeout=limit,
        )  # fmt: skip
        if done.returncode not in (0, 1):
            raise RuntimeError((done.stderr or done.stdout).strip().splitlines()[-1])
        counts = re.findall(r'(\d+) (passed|failed|errors?|skipped)', done.stdout)
        failures = re.findall(r'^(?:FAILED|ERROR) (\S+)', done.stdout, re.MULTILINE)
        return {**{what: int(count) for count, what in counts}, 'failures': failures}


def _json(limit: float, command: Sequence[str | Path]) -> dict[str, Any]:
    """The JSON object on the last line of a Python command of this project."""
    # Where the packages may be that the machine itself lacks.
    paths = filter(None, (str(processes.ROOT), os.environ.get('PYTHONPATH')))
    environment = {'PYTHONPATH': os.pathsep.join(paths)}
    return processes.run(sys.executable, *command, env=environment, timeout=limit).result


def outcome(case: Case) -> dict[str, Any]:
    """What a case finds out, or its error."""
    try:
        return case.run(case.limit)
    except subprocess.TimeoutExpired:
        return {'error': f'not done within {case.limit:g} seconds'}
    except (Exception, SystemExit) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return {'error': lines[-1]}


def table(device: dict[str, Any], found: dict[str, dict[str, Any]]) -> str:
    """The cases as a table in Markdown."""
    lines = [
        f'{device["count"]} x {device["kind"]}, jax {device["jax"]}',
        '',
        '| case | found |',
        '|---|---|',
    ]
    for name, values in found.items():
        told = ', '.join(f'{key} {value}' for key, value in values.items() if value not in (None, []))
        lines.append(f'| {name} | {told.replace("|", "/")} |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--output', type=Path, help='folder for the results; a new one without')
    parser.add_argument('--cases', default='', help='names of cases, or how they begin, by commas; all')
    parser.add_argument('--small', action='store_true', help='small shapes, as on a CPU')
    options = parser.parse_args()
    output = options.output or Path(tempfile.mkdtemp(prefix='accelerator-'))
    output.mkdir(parents=True, exist_ok=True)
    device = _json(120, ('-c', DEVICE))
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=output) as work:
        cases = list(Cases(Path(work), options.small or device['platform'] == 'cpu'))
        for wanted in options.cases.split(','):
            if not any(case.name.startswith(wanted) for case in cases):
                names = ', '.join(case.name for case in cases)
                parser.error(f'--cases={options.cases}: no case begins with {wanted!r}; here are {names}')
        for case in cases:
            if case.name.startswith(tuple(options.cases.split(','))):
                found[case.name] = outcome(case)
                print(f'{case.name}: {found[case.name]}', file=sys.stderr, flush=True)
                result = to_json({'device': device, 'cases': found}, undefined_as_null=True)
                write_atomically(output / 'accelerator.json', result)
                write_atomically(output / 'accelerator.md', table(device, found))
    print(result)


if __name__ == '__main__':
    main()
