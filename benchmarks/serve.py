"""The server under load, beside one of FastAPI and PyTorch, on rows of Criteo's shape.

    python -m benchmarks.serve --model=dcnv2
    python -m benchmarks.serve --model=dlf --servers=ours,eager,script --seconds=10

Trains for a moment, so that there is a model with a vocabulary; starts each server in turn, with the same
sizes, and has `serve_load.py` ask it: clients that ask again when they are answered, and requests at rising
rates. The peer's Python needs torch and fastapi: `benchmarks/peer_environment.sh`, then `pip install fastapi
uvicorn httptools uvloop` there; `$PEER` names its folder. The last line is a JSON object: by server seconds
until it is ready, its memory, and for each load the times; and the rows a second of the encoder alone.
Server and load share the machine's cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import criteo_rows
from benchmarks.processes import ROOT, machine, run
from benchmarks.step import PEER
from dlf_jax.data.preprocess.joined_encoder import JoinedEncoder
from dlf_jax.server.rows import RowReader
from dlf_jax.workdir import Workdir

NUMBERS = tuple(criteo_rows.NUMBERS)
CATEGORIES = tuple(criteo_rows.CATEGORIES)
# What both sides' models have, by the names of the peer's arguments.
SHAPES: dict[str, dict[str, Any]] = {
    'dcnv2': {
        'embedding_size': 16, 'cross_layers': 3, 'hidden': [500, 500, 500], 'batch_norm': False,
        'dropout': 0.1,
    },
    'dlf': {
        'embedding_size': 16, 'layers': 3, 'tokens': 16, 'rank': 24, 'hidden': [512], 'head': [512],
        'batch_norm': True, 'dropout': 0.0,
    },
}  # fmt: skip
VARIANTS = {'dcnv2': 'full', 'dlf': 'released'}
# Rows of a request, and clients.
CLOSED = ((1, 1), (1, 8), (1, 64), (10, 1), (10, 8), (10, 64))
_DEADLINE = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--model', choices=SHAPES, default='dcnv2')
    parser.add_argument('--rows', type=int, default=200_000, help='rows of training')
    parser.add_argument('--servers', default='ours,eager,script', help='of ours, eager, script, compile')
    parser.add_argument('--seconds', type=float, default=5.0, help='of each load')
    parser.add_argument('--rates', default='100,200,400,800', help='requests of 10 rows a second')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frame = table(folder, options.rows)
        train(folder, options.model)
        write_spec(folder, options.model)
        for rows in {rows for rows, _ in CLOSED}:
            write_bodies(folder / f'bodies-{rows}', frame, rows)
        result: dict[str, Any] = {'encoder_rows_per_second': encoder_speed(folder, frame)}
        for server in options.servers.split(','):
            result[server] = measured(folder, server, options)
    print(json.dumps({'benchmark': 'serve', **vars(options), **result, 'machine': machine()}))


def table(folder: Path, rows: int) -> pl.DataFrame:
    """Writes the training rows; returns others of the same kind, without the label."""
    frame = pl.concat(criteo_rows.frames(rows + 20_000))
    frame[:rows].write_parquet(folder / 'train.parquet')
    return frame[rows:].drop('label')


def train(folder: Path, model: str) -> None:
    """One epoch."""
    shape = {key: tuple(value) if isinstance(value, list) else value for key, value in SHAPES[model].items()}
    run(
        sys.executable, '-m', 'dlf_jax.main', '--config=configs/table.py', f'--config.model.name={model}',
        f'--variant={VARIANTS[model]}', f'--config.dataset.train={folder / "train.parquet"}',
        '--config.dataset.label=label', f'--config.dataset.categorical={CATEGORIES!r}',
        f'--config.dataset.numeric={NUMBERS!r}', '--config.dataset.treatment=standard',
        '--config.dataset.min_count=2', '--config.training.epochs=1',
        *(f'--config.model.{key}={value!r}' for key, value in shape.items()),
        f'--workdir={folder / "run"}', f'--data_dir={folder / "data"}',
    )  # fmt: skip


def write_spec(folder: Path, model: str) -> None:
    """What the peer needs: vocabularies, moments, sizes."""
    encoder = Workdir(folder / 'run').encoder()
    spec = {
        'model': model,
        'variant': VARIANTS[model],
        'shape': SHAPES[model],
        'vocabulary': encoder.schema.vocabulary,
        'categories': {name: encoder.vocabularies[name]['value'].to_list() for name in CATEGORIES},
        'numbers': {name: (encoder.moments[name].mean, encoder.moments[name].deviation) for name in NUMBERS},
    }
    (folder / 'peer.json').write_text(json.dumps(spec))


def write_bodies(file: Path, frame: pl.DataFrame, rows: int) -> None:
    """Requests of so many rows."""
    found = (frame[i * rows : (i + 1) * rows].to_dicts() for i in range(500))
    file.write_text(''.join(json.dumps({'rows': one}) + '\n' for one in found))


def encoder_speed(folder: Path, frame: pl.DataFrame) -> dict[str, int]:
    """Rows a second of the encoder alone, by the rows of a batch: from JSON's values, and from typed rows."""
    encoder = Workdir(folder / 'run').encoder()
    reader, joined = RowReader(encoder.schema, encoder.families), JoinedEncoder(encoder)
    found = {}
    for rows in (1, 10, 256):
        values = [frame[i * rows : (i + 1) * rows].to_dicts() for i in range(50)]
        typed = [reader.rows(one) for one in values]
        for name, act in (
            ('read_and_encoded', lambda i, values=values: joined.encode(reader.rows(values[i]))),
            ('encoded', lambda i, typed=typed: joined.encode(typed[i])),
        ):
            best = min(_seconds(act) for _ in range(10))
            found[f'{name}_{rows}'] = round(50 * rows / best)
    return found


def _seconds(act: Any) -> float:
    start = time.perf_counter()
    for i in range(50):
        act(i)
    return time.perf_counter() - start


def measured(folder: Path, server: str, options: argparse.Namespace) -> dict[str, Any]:
    """Times of a server under every load."""
    with started(folder, server) as (port, pid, seconds):
        found: dict[str, Any] = {'seconds_to_ready': round(seconds, 1)}
        for rows, clients in CLOSED:
            told = load(folder, port, rows, options.seconds, clients=clients)
            found[f'{rows} rows, {clients} clients'] = told
            print(server, rows, 'rows', clients, 'clients', told, file=sys.stderr)
        for rate in map(float, options.rates.split(',')):
            told = load(folder, port, 10, options.seconds, rate=rate)
            found[f'10 rows, {rate:g} a second'] = told
            print(server, f'10 rows, {rate:g} a second', told, file=sys.stderr)
        found['megabytes'] = round(_resident(pid) / 1e6)
    return found


def load(folder: Path, port: int, rows: int, seconds: float, **how: float) -> dict[str, Any]:
    """Times of one load, after a second of the same."""
    spec = {'port': port, 'bodies': str(folder / f'bodies-{rows}'), 'rows': rows, **how}
    for part in (1.0, seconds):
        (folder / 'load.json').write_text(json.dumps({**spec, 'seconds': part}))
        told = run(sys.executable, '-m', 'benchmarks.serve_load', folder / 'load.json').result
    return told


@contextlib.contextmanager
def started(folder: Path, server: str) -> Iterator[tuple[int, int, float]]:
    """A server that is ready: its port, its process, and the seconds that it took."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    line = (
        [sys.executable, '-m', 'dlf_jax.serve', f'--workdir={folder / "run"}', f'--port={port}']
        if server == 'ours'
        else [str(PEER), 'benchmarks/peer_serve.py', str(folder / 'peer.json'), str(port), server]
    )
    begin = time.perf_counter()
    with open(folder / f'{server}.log', 'wb') as log:
        process = subprocess.Popen(line, cwd=ROOT, stdout=log, stderr=log, env={**os.environ})
    try:
        while not _ready(port):
            if process.poll() is not None or time.perf_counter() - begin > _DEADLINE:
                sys.exit(f'{server} did not start:\n{(folder / f"{server}.log").read_text()[-3000:]}')
            time.sleep(0.05)
        yield port, process.pid, time.perf_counter() - begin
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/v2/health/ready', timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _resident(pid: int) -> int:
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmRSS:'))


if __name__ == '__main__':
    main()
