"""The size that the field means by "Criteo", from text to predictions: time, memory and bytes of each part.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m benchmarks.full_size --rows=45800000 FOLDER
    python -m benchmarks.full_size --rows=3000000 --models=dcnv2 FOLDER

Rows of Criteo's shape (`benchmarks/criteo_rows.py`; 8:1:1 for training, validation and test) are generated as
text, prepared (values seen 10 times or more), and trained on for one epoch by each model: by the real
command, which is killed (SIGKILL) after half of the steps and started again. The model is evaluated on the
test tenth, read as text, and predicts it to Parquet. `loader` reads shuffled batches of all training rows,
and of the first 4 million alone. The peer prepares the same rows as CSV, fewer of them where its memory
passes `--peer-memory`.

Each part writes a line to FOLDER/results.jsonl when it ends: `seconds`, `rows_per_second`, `peak_bytes` (of
the whole tree of processes), `bytes` on disk of what it made. The same command goes on after the last
finished part, so it can be run in pieces. At the end FOLDER/results.md is a table of them, which is printed
as well.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import criteo_rows, processes
from benchmarks.pipeline import MIN_COUNT, dataset
from dlf_jax.data import builders
from dlf_jax.data.loading.batches import TrainingBatches, iterate
from dlf_jax.data.loading.order import Order
from dlf_jax.data.loading.records import Blocks
from dlf_jax.data.rows import Rows

PARTS = ('train', 'valid', 'test')
HEAD_ROWS = 4_000_000
BATCH_ROWS = 10_000
ENVIRONMENT = {'JAX_PLATFORMS': 'cpu'}


class Head:
    """The first blocks of a part; `Blocks`."""

    def __init__(self, blocks: Blocks, rows: int):
        self._blocks, self.block_rows = blocks, blocks.block_rows
        self.rows = min(rows, blocks.rows)

    def __len__(self) -> int:
        return -(-self.rows // self.block_rows)

    def read(self, block: int) -> Rows:
        left = self.rows - block * self.block_rows
        return {name: values[:left] for name, values in self._blocks.read(block).items()}


class FullSize:
    """The parts, each of which returns what it measured."""

    def __init__(self, folder: Path, options: argparse.Namespace):
        self.folder, self.options = folder, options
        tenth = options.rows // 10
        self.rows = {'train': options.rows - 2 * tenth, 'valid': tenth, 'test': tenth}

    @property
    def parts(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """The parts by name, in their order."""
        found: dict[str, Callable[[], dict[str, Any]]] = {'generate': self.generate, 'prepare': self.prepare}
        found['loader'] = self.loader
        for model in filter(None, self.options.models.split(',')):
            for name in ('train', 'evaluate', 'predict'):
                found[f'{name} {model}'] = lambda name=name, model=model: getattr(self, name)(model)
        if self.options.peer != 'none':
            found['peer prepare'] = self.peer_prepare
        return found

    def run(self) -> list[dict[str, Any]]:
        """Does what has no line in the results yet, and returns all lines."""
        path = self.folder / 'results.jsonl'
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        if any(line['rows'] != self.options.rows for line in lines):
            sys.exit(f'{path}: results of {lines[0]["rows"]} rows; take another folder, or remove it')
        done = {line['part'] for line in lines}
        for name, part in self.parts.items():
            if name in done:
                continue
            print(f'{name} ...', file=sys.stderr)
            line = {'part': name, 'rows': self.options.rows, **part(), 'machine': processes.machine()}
            lines.append(line)
            with open(path, 'a') as file:
                file.write(json.dumps(line) + '\n')
            print(json.dumps(line), file=sys.stderr)
        return lines

    def text(self, part: str) -> Path:
        """The rows of a part."""
        return self.folder / f'{part}.txt'

    def command(self, *arguments: str | Path, stop: Callable[[int], bool] | None = None) -> processes.Done:
        """Runs `python -m dlf_jax.main`."""
        program = [sys.executable, '-m', 'dlf_jax.main', f'--data_dir={self.folder / "data"}']
        return processes.run(*program, *arguments, env=ENVIRONMENT, stop=stop)

    def of_dataset(self) -> list[str]:
        """The flags of the rows."""
        files = [f'--config.dataset.{part}={self.text(part)}' for part in PARTS]
        return [
            *files, '--config.dataset.treatment=standard', f'--config.dataset.min_count={MIN_COUNT}',
            '--config.dataset.allow_modified=True',
        ]  # fmt: skip

    def generate(self) -> dict[str, Any]:
        """Writes the rows as text."""
        done = []
        for seed, part in enumerate(PARTS):
            # Whole or not at all: another run goes on with what is there.
            partial = self.text(part).with_suffix('.part')
            rows = [f'--rows={self.rows[part]}', f'--seed={seed}', f'--output={partial}']
            done.append(processes.run(sys.executable, '-m', 'benchmarks.criteo_rows', *rows))
            partial.rename(self.text(part))
        size = sum(self.text(part).stat().st_size for part in PARTS)
        return measured(done, self.options.rows, size)

    def prepare(self) -> dict[str, Any]:
        """Prepares them from text."""
        shutil.rmtree(self.folder / 'data', ignore_errors=True)
        done = self.command('--config=configs/criteo.py', '--mode=prepare', *self.of_dataset())
        records = Path(done.result['folder'])
        found = measured([done], self.options.rows, size_of(records))
        # As the benchmark of preparing counts them: without starting Python and importing.
        seconds = done.result['seconds']
        found |= {'seconds': seconds, 'rows_per_second': round(self.options.rows / seconds)}
        return {
            **found,
            'vocabulary': done.result['vocabulary'],
            'encoder_bytes': size_of(records / 'encoder'),
        }

    def loader(self) -> dict[str, Any]:
        """Reads shuffled batches of all training rows, and of the first of them alone, in turns."""
        rates: dict[str, list[float]] = {'all': [], 'head': []}
        peaks: dict[str, int] = {}
        for _ in range(self.options.repeats):
            for what, found in rates.items():
                done = processes.run(
                    sys.executable, '-m', 'benchmarks.full_size', f'--rows={self.options.rows}',
                    f'--read={what}', self.folder, env=ENVIRONMENT,
                )  # fmt: skip
                found.append(done.result['rows_per_second'])
                peaks[what] = max(peaks.get(what, 0), done.peak_bytes)
        best = {what: round(max(found)) for what, found in rates.items()}
        return {
            'seconds': round(self.rows['train'] / best['all'], 4),
            'rows_per_second': best['all'],
            'peak_bytes': peaks['all'],
            'head_rows': min(HEAD_ROWS, self.rows['train']),
            'head_rows_per_second': best['head'],
            'head_peak_bytes': peaks['head'],
        }

    def read(self, what: str) -> dict[str, float]:
        """Reads two epochs of batches in this process; the rate of the faster."""
        config = dataset(self.folder)
        config.test = str(self.text('test'))
        blocks: Any = builders.build(config, str(self.folder / 'data')).blocks('train')
        if what == 'head':
            blocks = Head(blocks, HEAD_ROWS)
        order = Order(blocks.rows, blocks.block_rows, min(BATCH_ROWS, blocks.rows), seed=0)
        rates = []
        with iterate(TrainingBatches(blocks, order, 2)) as iterator:
            for _ in range(2):
                start, rows = time.perf_counter(), 0.0
                for _ in range(order.steps):
                    rows += float(next(iterator)['weight'].sum())
                rates.append(rows / (time.perf_counter() - start))
        return {'rows_per_second': max(rates)}

    def train(self, model: str) -> dict[str, Any]:
        """Trains an epoch, killed after half of the steps and started again."""
        workdir, steps = self.folder / model, -(-self.rows['train'] // self.options.batch_size)
        every = max(1, steps // 10)
        arguments = [
            f'--config=configs/criteo.py:{model}', f'--workdir={workdir}', *self.of_dataset(),
            '--config.training.epochs=1', f'--config.training.batch_size={self.options.batch_size}',
            f'--config.training.checkpoint_every={every}', *self.options.flags.get(model, ()),
        ]  # fmt: skip

        def saved() -> int:
            names = [path.name for path in (workdir / 'checkpoints').glob('*') if path.name.isdigit()]
            return max(map(int, names), default=0)

        done, killed_at = [], saved()
        if not killed_at:
            done.append(self.command(*arguments, stop=lambda _: saved() >= steps // 2))
            killed_at = saved()
        else:
            print(f'{model}: goes on from step {killed_at}; its time is of the rest', file=sys.stderr)
        if not done or not done[-1].result:
            done.append(self.command(*arguments))
        found = measured(done, self.rows['train'], size_of(workdir))
        auc = (done[-1].result.get('valid') or {}).get('auc')
        return {**found, 'steps': steps, 'killed_at': killed_at, 'valid_auc': auc}

    def evaluate(self, model: str) -> dict[str, Any]:
        """Evaluates the test rows, from text."""
        done = self.command(
            '--mode=evaluate', f'--workdir={self.folder / model}', f'--input={self.text("test")}'
        )
        return {**measured([done], self.rows['test'], 0), 'auc': done.result.get('auc')}

    def predict(self, model: str) -> dict[str, Any]:
        """Predicts the test rows, from text to Parquet."""
        output = self.folder / f'{model}.parquet'
        done = self.command(
            '--mode=predict', f'--workdir={self.folder / model}', f'--input={self.text("test")}',
            f'--output={output}',
        )  # fmt: skip
        return measured([done], self.rows['test'], output.stat().st_size)

    def peer_prepare(self) -> dict[str, Any]:
        """The peer's preparation of the same rows, or of half of them, and so on, until it has the memory."""
        limit = int(self.options.peer_memory * 1e9)
        script, ended = Path(__file__).with_name('peer_fuxictr.py'), []
        rows = self.options.rows
        while rows >= 1000:
            train, valid = self.folder / 'peer-train.csv', self.folder / 'peer-valid.csv'
            criteo_rows.write(train, rows * 9 // 10, 0, ',', header=True)
            criteo_rows.write(valid, rows // 10, 1, ',', header=True)
            python = Path(os.path.expanduser(self.options.peer)) / 'bin' / 'python'
            command = [python, script, 'prepare', train, valid, self.folder / 'peer', MIN_COUNT]
            done = processes.run(*command, env={'RAY_DEDUP_LOGS': '0'}, stop=lambda peak: peak > limit)
            size = size_of(self.folder / 'peer')
            shutil.rmtree(self.folder / 'peer', ignore_errors=True)
            for file in (train, valid):
                file.unlink()
            if done.result:
                return {**measured([done], rows, size), 'peer_rows': rows, 'out_of_memory_at_rows': ended}
            ended.append(rows)
            rows //= 2
        return {'seconds': 0.0, 'peer_rows': 0, 'out_of_memory_at_rows': ended}


def measured(done: list[processes.Done], rows: int, size: int) -> dict[str, Any]:
    """What commands took together: the whole of their time, the start of Python included."""
    seconds = sum(one.seconds for one in done)
    return {
        'seconds': round(seconds, 2),
        'rows_per_second': round(rows / seconds),
        'peak_bytes': max(one.peak_bytes for one in done),
        'bytes': size,
    }


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())


def as_table(lines: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    found = ['| part | seconds | rows/s | peak memory | on disk | |', '|---|---|---|---|---|---|']
    told = ('part', 'rows', 'machine', 'seconds', 'rows_per_second', 'peak_bytes', 'bytes')
    for line in lines:
        others = ', '.join(f'{key} {value}' for key, value in line.items() if key not in told)
        found.append(
            f'| {line["part"]} | {line["seconds"]:,} | {line.get("rows_per_second", 0):,} '
            f'| {_told(line.get("peak_bytes", 0))} | {_told(line.get("bytes", 0))} | {others} |'
        )
    return '\n'.join(found) + '\n'


def _told(size: int) -> str:
    return f'{size / 1e9:.2f} GB' if size >= 1e8 else f'{size / 1e6:.1f} MB' if size else ''


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path)
    parser.add_argument('--rows', type=int, default=45_800_000, help='of all parts together')
    parser.add_argument('--models', default='dcnv2,dlf', help='models to train, by commas')
    parser.add_argument('--batch-size', type=int, default=4096)
    parser.add_argument('--repeats', type=int, default=1, help='of reading batches')
    parser.add_argument(
        '--flags',
        type=json.loads,
        default={},
        help='further flags of a model: {"dlf": ["--config.KEY=VALUE"]}',
    )
    parser.add_argument('--peer', default='none', help="its environment's folder, or none")
    parser.add_argument('--peer-memory', type=float, default=18, help='GB at which the peer is ended')
    parser.add_argument('--read', choices=('all', 'head'), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Does the parts, and prints and writes the table."""
    options = parse(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    work = FullSize(options.folder.absolute(), options)
    if options.read:
        print(json.dumps(work.read(options.read)))
        return
    lines = work.run()
    table = as_table(lines)
    (options.folder / 'results.md').write_text(table)
    print(table, end='')


if __name__ == '__main__':
    main()
