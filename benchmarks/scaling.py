"""A step on 1 to 8 devices of one machine, and training by 1 to 4 processes: time and bytes moved.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --devices=1,8 --processes= --tables=rows

The devices are forced ones of the CPU, the processes talk over loopback: all share the machine's cores, so
the global batch stays the same and `efficiency`, the time on one device over the time on so many, tells
what cutting the work up costs; 1 is perfect. Steps of an MLP of 400-400-400 on 26 fields, width 16, batch
4,096; training is the real command on generated rows, four devices in all.

`megabytes` is what a device sends in a step: of the compiled program's collectives, each by the ring that
moves least (an all-reduce of s bytes over n devices takes 2 s (n - 1) / n, an all-gather or a reduce-scatter
half of that). `least` is what no program of this kind could go below: the gradients of what all devices hold,
reduced; and, where the tables are cut by rows, the rows of a device's own part of the batch that others hold,
and their gradients back, each once.

The last line is one JSON object: by placement of the tables and number of devices `milliseconds`,
`efficiency`, `megabytes`, `least`; by number of processes `samples_per_second` and `efficiency`.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from typing import Any

import jax
import numpy as np

from benchmarks import processes
from benchmarks.vocabulary import FIELDS, Contestant, mlp
from dlf_jax.compiling import program_text

MOST_DEVICES = 8
# Seconds for a training by several processes.
_DEADLINE = 3600
TOTAL_DEVICES = 4  # of all processes together
WIDTH, BATCH_SIZE = 16, 4096


def sent_bytes(program: str, devices: int) -> float:
    """Bytes that a device sends in the collectives of a compiled program.

    Args:
      program: its HLO text.
      devices: in every collective.
    """
    found = program_text.sent(program_text.kernels(program), devices)
    return sum(size for _, size in found.values())


def least_bytes(dense: int, table: int, devices: int, tables: str) -> float:
    """What a device sends at the least: see above.

    Args:
      dense, table: numbers of float32 parameters.
      devices: how many.
      tables: `replicated` or `rows`.
    """
    others = (devices - 1) / devices
    reduced = 2 * others * 4 * (dense + (table if tables == 'replicated' else 0))
    looked_up = 2 * others * 4 * BATCH_SIZE / devices * FIELDS * WIDTH if tables == 'rows' else 0
    return reduced + looked_up


def steps(options: argparse.Namespace) -> dict[str, Any]:
    """Times of a step, in a process that has the devices."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for tables in options.tables.split(','):
        contestants = {}
        for count in _numbers(options.devices):
            config = mlp(WIDTH)
            config.sharding.tables = tables
            contestants[count] = Contestant(config, options.vocabulary, BATCH_SIZE, jax.devices()[:count])
            contestants[count].run(2)
        rounds = [
            {count: one.run(options.steps) for count, one in contestants.items()}
            for _ in range(options.rounds)
        ]
        times = {count: float(np.median([r[count] for r in rounds])) for count in contestants}
        first = times[min(times)]
        found[tables] = {}
        for count, one in contestants.items():
            counts = one.parameter_counts
            found[tables][str(count)] = {
                'milliseconds': round(1e3 * times[count], 1),
                'efficiency': round(first / times[count], 2),
                'megabytes': round(sent_bytes(one.program, count) / 1e6, 2),
                'least': round(least_bytes(counts['dense'], counts['table'], count, tables) / 1e6, 2),
            }
    return found


def training(count: int, data_dir: str) -> float:
    """Samples/s of the real command in so many processes."""
    with socket.socket() as free:
        free.bind(('localhost', 0))
        address = f'localhost:{free.getsockname()[1]}'
    flags = f'--xla_force_host_platform_device_count={TOTAL_DEVICES // count}'
    environment = {**os.environ, 'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'}
    with tempfile.TemporaryDirectory(dir=data_dir) as workdir:
        command = [
            sys.executable, '-m', 'dlf_jax.main', '--dataset=synthetic', '--config.model.name=mlp',
            '--config.model.hidden=(400,400,400)', f'--config.training.batch_size={BATCH_SIZE}',
            '--config.dataset.rows=300000', '--config.training.epochs=2', '--config.plateau.patience=0',
            f'--workdir={workdir}', f'--data_dir={data_dir}',
        ]  # fmt: skip
        several = [
            f'--config.distributed.coordinator={address}',
            f'--config.distributed.processes={count}',
        ]
        started = [
            subprocess.Popen(
                [*command, *([*several, f'--config.distributed.process={i}'] if count > 1 else [])],
                cwd=processes.ROOT, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )
            for i in range(count)
        ]  # fmt: skip
        try:
            said = [process.communicate(timeout=_DEADLINE)[0] for process in started]
        except subprocess.TimeoutExpired:
            for process in started:
                process.kill()
            sys.exit(f'{count} processes: not finished after {_DEADLINE} seconds')
    if any(process.returncode for process in started):
        sys.exit(f'{count} processes: exit codes {[process.returncode for process in started]}')
    return json.loads(said[0].splitlines()[-1])['samples_per_second']


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(',') if number]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--devices', default='1,2,4,8')
    parser.add_argument('--processes', default='1,2,4', help='divisors of four; none: no training')
    parser.add_argument('--tables', default='replicated,rows')
    parser.add_argument('--vocabulary', type=int, default=1_000_000)
    parser.add_argument('--steps', type=int, default=3, help='of a round')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--here', action='store_true', help='the steps, in this process; for internal use')
    options = parser.parse_args()
    if options.here:
        print(json.dumps(steps(options)))
        return
    flags = f'--xla_force_host_platform_device_count={MOST_DEVICES}'
    command = [sys.executable, '-m', 'benchmarks.scaling', '--here', *sys.argv[1:]]
    done = processes.run(*command, env={'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'})
    result: dict[str, Any] = {'devices': done.result}
    counts = _numbers(options.processes)
    if counts:
        with tempfile.TemporaryDirectory(prefix='dlf-scaling-') as data_dir:
            training(counts[0], data_dir)  # prepares
            rates = {count: training(count, data_dir) for count in counts}
        result['processes'] = {
            str(count): {
                'samples_per_second': rate,
                'efficiency': round(rate / rates[counts[0]], 2),
            }
            for count, rate in rates.items()
        }
    print(json.dumps({**result, 'machine': processes.machine()}))


if __name__ == '__main__':
    main()
