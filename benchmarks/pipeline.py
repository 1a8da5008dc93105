"""How fast block records on disk become shuffled batches on the host, and in how much memory.

    benchmarks/peer_environment.sh && python -m benchmarks.pipeline
    python -m benchmarks.pipeline --peer=none

Ours is what training reads: `iterate(TrainingBatches(blocks, order))` over the records that the real
preparation wrote, 13 float32 numbers, 26 int32 ids and a float32 label a row. The peer's loader gets the same
rows, as the Parquet file that its own preparation would write (`parquet`, read through Ray) and as the
other form that it reads (`npz`, a table in memory, gathered row by row); the faster one counts. Each run is
a process of its own that reads a few epochs; the files are in the page cache, since each is read several
times. The rows are generated (`benchmarks/criteo_rows.py`) and kept prepared in `--folder`.

The last line is one JSON object: `rows_per_second`, `peak_bytes` (the whole tree of processes, importing
the libraries included), `peer_rows_per_second`, `peer_peak_bytes`, `ratio`; the fastest epoch of `--repeats`
alternating runs each, and every epoch's rate.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
from ml_collections import ConfigDict

from benchmarks import criteo_rows, processes
from benchmarks.prepare import MIN_COUNT, VALID_SEED, python
from dlf_jax.config import get_config
from dlf_jax.data import builders
from dlf_jax.data.loading.batches import TrainingBatches, iterate
from dlf_jax.data.loading.order import Order

FORMS = ('parquet', 'npz')
VALID_ROWS = 10_000


def main() -> None:
    arguments = parse()
    folder = Path(os.path.expanduser(arguments.folder)) / f'rows-{arguments.rows}'
    if arguments.ours:
        print(json.dumps(read(folder, arguments)))
        return
    folder.mkdir(parents=True, exist_ok=True)
    make_records(folder, arguments.rows)
    forms = () if arguments.peer == 'none' else FORMS
    if forms:
        make_peer_files(folder)
    ours: list[processes.Done] = []
    peer: dict[str, list[processes.Done]] = {form: [] for form in forms}
    # The peer is so much slower that its epochs are fewer.
    script = Path(__file__).with_name('peer_fuxictr.py')
    for _ in range(arguments.repeats):
        ours.append(
            processes.run(
                sys.executable, '-m', 'benchmarks.pipeline', '--ours', f'--rows={arguments.rows}',
                f'--batch-size={arguments.batch_size}', f'--epochs={arguments.epochs}',
                f'--folder={arguments.folder}', env={'JAX_PLATFORMS': 'cpu'},
            )
        )  # fmt: skip
        for form in forms:
            command = [python(arguments.peer), script, 'load', folder, form, arguments.batch_size, 1]
            peer[form].append(processes.run(*command))
    rates = [rate for done in ours for rate in done.result['rows_per_second']]
    result = {
        'rows_per_second': round(max(rates)),
        'peak_bytes': max(done.peak_bytes for done in ours),
        'peer_rows_per_second': None,
        'ratio': None,
        'peer_peak_bytes': None,
        'rows': arguments.rows,
        'batch_size': arguments.batch_size,
        'seconds': round(arguments.rows / max(rates), 3),
        'epochs_rows_per_second': [round(rate) for rate in rates],
        'cpu_seconds_per_million_rows': [round(done.result['cpu_seconds'], 3) for done in ours],
        'machine': processes.machine(),
    }
    if forms:
        found = {form: max(max(d.result['rows_per_second']) for d in runs) for form, runs in peer.items()}
        fastest = max(found, key=found.get)
        result['peer_rows_per_second'] = round(found[fastest])
        result['ratio'] = round(max(rates) / found[fastest], 2)
        result['peer_peak_bytes'] = max(done.peak_bytes for done in peer[fastest])
        result['peer_forms'] = {form: round(rate) for form, rate in found.items()}
    print(json.dumps(result))


def dataset(folder: Path) -> ConfigDict:
    """The config of the rows in a folder."""
    config = get_config('mlp').dataset
    config.name, config.treatment, config.min_count = 'criteo', 'standard', MIN_COUNT
    config.train, config.valid = str(folder / 'train.txt'), str(folder / 'valid.txt')
    if 'allow_modified' in config:
        config.allow_modified = True
    return config


def make_records(folder: Path, rows: int) -> None:
    """Writes and prepares the rows where that is not done yet."""
    for name, count, seed in (('train', rows, 0), ('valid', VALID_ROWS, VALID_SEED)):
        if not (folder / f'{name}.txt').is_file():
            written = criteo_rows.write(folder / f'{name}.part', count, seed)
            written.rename(folder / f'{name}.txt')
    builders.build(dataset(folder), str(folder / 'data')).prepare()


def make_peer_files(folder: Path) -> None:
    """Writes the training part's rows, as they stand in the records, in the peer's forms."""
    if (folder / 'feature_map.json').is_file():
        return
    builder = builders.build(dataset(folder), str(folder / 'data'))
    blocks, schema = builder.blocks('train'), builder.encoder().schema
    numbers, categories = ([f.name for f in part] for part in (schema.numeric, schema.categorical))
    parts = []
    for block in range(len(blocks)):
        rows = blocks.read(block)
        parts.append(
            pl.concat(
                [
                    # The types that its preparation writes.
                    pl.DataFrame(rows['numeric'].astype(np.float64), numbers),
                    pl.DataFrame(rows['categorical'].astype(np.int64), categories),
                    pl.DataFrame({'label': rows['label'].astype(np.float64)}),
                ],
                how='horizontal',
            )
        )
    table = pl.concat(parts)
    table.write_parquet(folder / 'train.parquet', compression='snappy')
    np.savez(folder / 'train.npz', **{name: table[name].to_numpy() for name in table.columns})
    features = [{name: {'source': '', 'type': 'numeric'}} for name in numbers]
    for name in categories:
        size = table[name].max() + 1
        features.append({name: {'source': '', 'type': 'categorical', 'padding_idx': 0, 'vocab_size': size}})
    described = {
        'dataset_id': 'criteo',
        'num_fields': len(features),
        'total_features': schema.vocabulary,
        'input_length': len(features),
        'labels': ['label'],
        'features': features,
    }
    (folder / 'feature_map.json').write_text(json.dumps(described))


def read(folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Reads epochs of batches, as training does; the rate of each, in rows per second."""
    blocks = builders.build(dataset(folder), str(folder / 'data')).blocks('train')
    order = Order(blocks.rows, blocks.block_rows, arguments.batch_size, seed=0)
    batches = TrainingBatches(blocks, order, arguments.epochs)
    rates = []
    used = resource.getrusage(resource.RUSAGE_SELF)
    with iterate(batches) as iterator:
        for _ in range(arguments.epochs):
            start, rows = time.perf_counter(), 0.0
            for _ in range(order.steps):
                rows += float(next(iterator)['weight'].sum())
            rates.append(rows / (time.perf_counter() - start))
            assert rows == blocks.rows
    now = resource.getrusage(resource.RUSAGE_SELF)
    seconds = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return {
        'rows_per_second': rates,
        'cpu_seconds': seconds / (arguments.epochs * blocks.rows / 1e6),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rows', type=int, default=4_000_000)
    parser.add_argument('--batch-size', type=int, default=10_000)
    parser.add_argument('--epochs', type=int, default=5, help='in each run of ours')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--peer', default='~/.cache/dlf_jax/peer', help="its environment's folder, or none")
    parser.add_argument('--folder', default='~/.cache/dlf_jax/benchmarks', help='keeps the prepared rows')
    parser.add_argument('--ours', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == '__main__':
    main()
