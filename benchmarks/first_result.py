"""Seconds from the command to its result on a small table: where nothing is there yet, and once more.

    python -m benchmarks.first_result
    python -m benchmarks.first_result --repeats=5 --model=mlp
    python -m benchmarks.first_result --batch_size=128 --epochs=6

The table has two categories, two numbers and a thousand rows. The first start prepares it and compiles; the
second one, with another workdir, finds both in the folder of data, as any later run of the same program does.
The last line is a JSON object: of either start the least and the median of the seconds on the wall and of
processor time, with the start of Python, and the number of programs compiled, of those taken from an earlier
run, and the seconds that both took (of programs that are compiled side by side, each one's own).
"""

from __future__ import annotations

from dlf_jax import allocator

if __name__ == '__main__':
    # As in the command, for the process that stands in for it.
    allocator.take_over()

import argparse
import collections
import json
import resource
import runpy
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl

from benchmarks.processes import machine, run

ROWS = 1000
_EVENTS = {
    '/jax/compilation_cache/compile_requests_use_cache': 'programs',
    '/jax/compilation_cache/cache_hits': 'taken',
}
_DURATION = '/jax/core/compile/backend_compile_duration'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--model', default='dlf')
    parser.add_argument('--batch_size', type=int, default=0, help='0: the default for the size of the table')
    parser.add_argument('--epochs', type=int, default=0, help='0: the default')
    parser.add_argument('--repeats', type=int, default=3)
    options = parser.parse_args()
    starts: dict[str, list[dict[str, float]]] = {'first': [], 'second': []}
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            write_table(Path(folder) / 'table.csv')
            for name, found in starts.items():
                found.append(start(Path(folder), name, options))
                print(name, found[-1], file=sys.stderr)
    result = {name: summary(found) for name, found in starts.items()}
    print(json.dumps({'benchmark': 'first_result', **vars(options), **result, 'machine': machine()}))


def write_table(path: Path) -> None:
    """A learnable table: columns u, i, a, b and click."""
    draw = np.random.default_rng(0)
    u, i = draw.integers(0, 30, ROWS), draw.integers(0, 20, ROWS)
    a, b = draw.normal(size=ROWS), draw.normal(3, 2, ROWS)
    click = draw.random(ROWS) < 1 / (1 + np.exp(-((u % 5 - 2) * 0.8 + (i % 3 - 1) * 0.8 + a / 2)))
    pl.DataFrame({'u': u, 'i': i, 'a': a, 'b': b, 'click': click.astype(int)}).write_csv(path)


def start(folder: Path, name: str, options: argparse.Namespace) -> dict[str, float]:
    """One start of the command."""
    given = {'batch_size': options.batch_size, 'epochs': options.epochs}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(
        sys.executable, '-m', 'benchmarks.first_result', 'command',
        '--config=configs/table.py', f'--config.model.name={options.model}',
        f'--config.dataset.train={folder / "table.csv"}', '--config.dataset.label=click',
        "--config.dataset.categorical=('u','i')", "--config.dataset.numeric=('a','b')",
        *(f'--config.training.{key}={value}' for key, value in given.items() if value),
        f'--workdir={folder / name}', f'--data_dir={folder / "data"}', env={'JAX_PLATFORMS': 'cpu'},
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {'seconds': done.seconds, 'processor_seconds': spent, **done.result}


def summary(found: list[dict[str, float]]) -> dict[str, Any]:
    """Least and median of each number."""
    columns = {name: [one[name] for one in found] for name in found[0]}
    return {
        name: {'least': round(min(values), 2), 'median': round(median(values), 2)}
        for name, values in columns.items()
    }


def command() -> None:
    """The command in this process, with a line of what JAX tells of its compiler after the result."""
    import jax

    told: collections.Counter[str] = collections.Counter()
    seconds: list[float] = []

    def count(event: str, **_: Any) -> None:
        told[_EVENTS.get(event, '')] += 1

    def add(event: str, duration: float, **_: Any) -> None:
        seconds.extend([duration] if event == _DURATION else [])

    jax.monitoring.register_event_listener(count)
    jax.monitoring.register_event_duration_secs_listener(add)
    del sys.argv[1]
    try:
        runpy.run_module('dlf_jax.main', run_name='__main__', alter_sys=True)
    except SystemExit as ended:
        if ended.code:
            raise
    compiled = told['programs'] - told['taken']
    print(json.dumps({'compiled': compiled, 'taken': told['taken'], 'compile_seconds': sum(seconds)}))


if __name__ == '__main__':
    command() if sys.argv[1:2] == ['command'] else main()
