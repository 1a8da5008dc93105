"""How fast raw rows of Criteo's shape become records, and in how much memory.

    benchmarks/peer_environment.sh && python -m benchmarks.prepare
    python -m benchmarks.prepare --rows=20000000 --peer=none   # memory does not grow with the rows

Ours is the real command, `python -m dlf_jax.main --config=configs/criteo.py --mode=prepare`, md5 sums
included. The peer's FeatureProcessor and `build_dataset` get the same rows as CSV with a header, which they
need, with its own choice of processes. Both are timed without starting Python and importing. Nine tenths of
the rows are the training part. The numbers are standardised and categories seen fewer than 10 times share
an id on both sides. The rows are generated (`benchmarks/criteo_rows.py`).

The last line is one JSON object: `rows_per_second`, `peak_bytes` (the whole tree of processes),
`peer_rows_per_second`, `peer_peak_bytes`, `ratio`; the fastest of `--repeats` alternating runs each.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import criteo_rows, processes
from dlf_jax.config import get_config

MIN_COUNT = 10
VALID_SEED = 1


def main() -> None:
    arguments = parse()
    valid = max(arguments.rows // 10, 1)
    train = arguments.rows - valid
    ours: list[processes.Done] = []
    peer: list[processes.Done] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix='dlf-prepare-') as name:
        folder = Path(name)
        files = [
            criteo_rows.write(folder / 'train.txt', train),
            criteo_rows.write(folder / 'valid.txt', valid, VALID_SEED),
        ]
        tables = []
        if arguments.peer != 'none':
            for file, seed in zip(files, (0, VALID_SEED), strict=True):
                rows = valid if seed else train
                table = file.with_suffix('.csv')
                tables.append(criteo_rows.write(table, rows, seed, ',', header=True))
        for _ in range(arguments.repeats):
            ours.append(prepare(files, folder / 'ours'))
            if arguments.peer != 'none':
                script = Path(__file__).with_name('peer_fuxictr.py')
                command = [python(arguments.peer), script, 'prepare', *tables, folder / 'peer', MIN_COUNT]
                peer.append(processes.run(*command, env={'RAY_DEDUP_LOGS': '0'}))
                shutil.rmtree(folder / 'peer')
    seconds = min(done.result['seconds'] for done in ours)
    result = {
        'rows_per_second': round(arguments.rows / seconds),
        'peak_bytes': max(done.peak_bytes for done in ours),
        'peer_rows_per_second': None,
        'ratio': None,
        'peer_peak_bytes': None,
        'rows': arguments.rows,
        'seconds': [done.result['seconds'] for done in ours],
        'seconds_of_process': [round(done.seconds, 2) for done in ours],
        'vocabulary': ours[0].result['vocabulary'],
        'machine': processes.machine(),
    }
    if peer:
        best = min(done.result['seconds'] for done in peer)
        result['peer_rows_per_second'] = round(arguments.rows / best)
        result['ratio'] = round(best / seconds, 2)
        result['peer_peak_bytes'] = max(done.peak_bytes for done in peer)
        result['peer_seconds'] = [round(done.result['seconds'], 2) for done in peer]
    print(json.dumps(result))


def prepare(files: list[Path], data_dir: Path) -> processes.Done:
    """Our command on the files, into a folder that is removed again."""
    options = [
        f'--config.dataset.train={files[0]}',
        f'--config.dataset.valid={files[1]}',
        '--config.dataset.treatment=standard',
        f'--config.dataset.min_count={MIN_COUNT}',
    ]
    if 'allow_modified' in get_config('mlp').dataset:
        # These are not the published files.
        options.append('--config.dataset.allow_modified=True')
    command = [sys.executable, '-m', 'dlf_jax.main', '--config=configs/criteo.py', '--mode=prepare', *options]
    done = processes.run(*command, f'--data_dir={data_dir}', env={'JAX_PLATFORMS': 'cpu'})
    shutil.rmtree(data_dir)
    return done


def python(peer: str) -> Path:
    """The Python of the peer's environment."""
    path = Path(os.path.expanduser(peer)) / 'bin' / 'python'
    if not path.is_file():
        sys.exit(f'{path} is not there: run benchmarks/peer_environment.sh, or give --peer=none')
    return path


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rows', type=int, default=1_000_000, help='of both parts together')
    parser.add_argument('--repeats', type=int, default=1)
    parser.add_argument('--peer', default='~/.cache/dlf_jax/peer', help="its environment's folder, or none")
    parser.add_argument('--folder', help='where the temporary files go')
    return parser.parse_args()


if __name__ == '__main__':
    main()
