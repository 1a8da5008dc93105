"""How fast several processes prepare raw rows of Criteo's shape beside one (`beam_runner=dask`).

    python -m benchmarks.prepare_cluster --rows=2000000 --workers=1,2,4

The real command on the same rows, first by itself and then with each number of worker processes, in turns;
the records are compared. Timed are the seconds that the command tells, without starting Python and importing;
starting the workers, which takes seconds, is a part of them and told apart by a run on few rows.

The last line is one JSON object: by number of workers (`0`: one process without Dask) `rows_per_second`,
`seconds`, `peak_bytes` (the whole tree of processes) and `ratio` to the one process; `start_seconds` of the
run on few rows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import criteo_rows, processes

MIN_COUNT = 10
FEW_ROWS = 2000


def prepare(file: Path, data_dir: Path, workers: int) -> tuple[processes.Done, dict[str, str]]:
    """Prepares a file and removes what was made.

    Returns:
      The finished command, and the md5 of every shard by name.
    """
    options = [
        '--config=configs/criteo.py', '--mode=prepare', f'--config.dataset.train={file}',
        '--config.dataset.treatment=standard', f'--config.dataset.min_count={MIN_COUNT}',
        '--config.dataset.allow_modified=True', f'--data_dir={data_dir}',
    ]  # fmt: skip
    if workers:
        flags = (f'--workers={workers}', '--timeout=300')
        options += ['--config.dataset.beam_runner=dask', f'--config.dataset.beam_options={flags}']
    command = [sys.executable, '-m', 'dlf_jax.main', *options]
    done = processes.run(*command, env={'JAX_PLATFORMS': 'cpu'})
    sums = {}
    for shard in sorted(Path(done.result['folder']).glob('*.array_record*')):
        with open(shard, 'rb') as opened:
            sums[shard.name] = hashlib.file_digest(opened, 'md5').hexdigest()
    shutil.rmtree(data_dir)
    return done, sums


def compare(folder: Path, rows: int, numbers: list[int], repeats: int) -> dict[str, Any]:
    """Times one process and each number of workers; see the module.

    Raises:
      SystemExit: the records differ.
    """
    file = criteo_rows.write(folder / 'train.txt', rows)
    few = criteo_rows.write(folder / 'few.txt', FEW_ROWS)
    found: dict[int, list[processes.Done]] = {number: [] for number in [0, *numbers]}
    expected: dict[str, str] = {}
    for _ in range(repeats):
        for number, runs in found.items():
            done, sums = prepare(file, folder / 'data', number)
            expected = expected or sums
            if sums != expected:
                sys.exit(f'the records of {number} workers differ from those of one process')
            runs.append(done)
            print(f'{number} workers: {done.result["seconds"]} s', file=sys.stderr)
    start, _ = prepare(few, folder / 'data', max(numbers))
    best = {number: min(done.result['seconds'] for done in runs) for number, runs in found.items()}
    by_number = {
        str(number): {
            'rows_per_second': round(rows / best[number]),
            'seconds': [done.result['seconds'] for done in runs],
            'peak_bytes': max(done.peak_bytes for done in runs),
            'ratio': round(best[0] / best[number], 2),
        }
        for number, runs in found.items()
    }
    return {
        'workers': by_number,
        'start_seconds': start.result['seconds'],
        'rows': rows,
        'machine': processes.machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rows', type=int, default=2_000_000)
    parser.add_argument('--workers', default='1,2,4', help='numbers of processes, by commas')
    parser.add_argument('--repeats', type=int, default=1)
    parser.add_argument('--folder', help='where the temporary files go')
    arguments = parser.parse_args()
    numbers = [int(number) for number in arguments.workers.split(',')]
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix='dlf-prepare-cluster-') as name:
        print(json.dumps(compare(Path(name), arguments.rows, numbers, arguments.repeats)))


if __name__ == '__main__':
    main()
