"""End-to-end training of DCNv2 on Frappe's shape, beside FuxiCTR.

    benchmarks/peer_environment.sh && python -m benchmarks.train --repeats=3

Ours is the real command, `python -m dlf_jax.main --config=configs/frappe.py:dcnv2`: batches of 4,096 shuffled
rows out of the records, 10 fields, d 10, 400-400-400, 4 cross layers, the embedding penalty, clipping, dense
Adam. The peer trains the same model, of its own layers (its repository's DCNv2, which its package lacks),
from what it has prepared, by its own `fit` and the faster of its loaders. Both sides leave out the
preparation, the compilation and the evaluations; the peer's first epoch does not count either. The rows are
made up: as many as Frappe_x1 has, with its numbers of values by field.

They take turns. The last line is one JSON object: `samples_per_second` and `peer_samples_per_second` (medians
over the turns), `ratio` (the median of the turns' own), `ratio_range`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl

from benchmarks import processes
from benchmarks.prepare import python

ROWS, VALID_ROWS = 202_027, 8192
SIZES = {
    'user': 957,
    'item': 4082,
    'daytime': 7,
    'weekday': 7,
    'isweekend': 2,
    'homework': 3,
    'cost': 2,
    'weather': 9,
    'country': 80,
    'city': 233,
}


def write(path: Path, rows: int, seed: int) -> Path:
    """Rows of Frappe's shape as CSV; the click depends a little on the values."""
    draw = np.random.default_rng(seed)
    columns = {name: (size * draw.random(rows) ** 2).astype(np.int64) for name, size in SIZES.items()}
    score = sum(np.sin(values * (i + 1)) for i, values in enumerate(columns.values()))
    label = (draw.random(rows) < 1 / (1 + np.exp(-score))).astype(np.int64)
    pl.DataFrame({'label': label, **columns}).write_csv(path)
    return path


def ours(files: list[Path], folder: Path, epochs: int) -> float:
    """Samples/s of the real command."""
    command = [
        sys.executable, '-m', 'dlf_jax.main', '--config=configs/frappe.py:dcnv2',
        f'--config.dataset.train={files[0]}', f'--config.dataset.valid={files[1]}',
        '--config.dataset.allow_modified=True', f'--config.training.epochs={epochs}',
        '--config.plateau.patience=0', f'--data_dir={folder / "data"}',
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        done = processes.run(*command, f'--workdir={workdir}', env={'JAX_PLATFORMS': 'cpu'})
    return done.result['samples_per_second']


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--epochs', type=int, default=4)
    parser.add_argument('--peer', default='~/.cache/dlf_jax/peer', help="its environment's folder")
    options = parser.parse_args()
    script = Path(__file__).with_name('peer_fuxictr.py')
    found, peer = [], []
    with tempfile.TemporaryDirectory(prefix='dlf-train-') as name:
        folder = Path(name)
        files = [write(folder / 'train.csv', ROWS, 0), write(folder / 'valid.csv', VALID_ROWS, 1)]
        command = [python(options.peer), script, 'train', *files, folder / 'peer', 4096, options.epochs]
        for _ in range(options.repeats):
            found.append(ours(files, folder, options.epochs))
            peer.append(processes.run(*command).result['samples_per_second'])
    ratios = [one / other for one, other in zip(found, peer, strict=True)]
    result = {
        'samples_per_second': round(median(found)),
        'peer_samples_per_second': round(median(peer)),
        'ratio': round(median(ratios), 2),
        'ratio_range': [round(min(ratios), 2), round(max(ratios), 2)],
        'model': 'dcnv2',
        'rows': ROWS,
        'epochs': options.epochs,
        'machine': processes.machine(),
    }
    print(json.dumps(result))


if __name__ == '__main__':
    main()
