"""Every model on tables of one's own by its defaults, beside LightGBM and logistic regression.

    python -m benchmarks.own_tables FOLDER --workdir=/tmp/dlf-own-tables

FOLDER holds a folder per table with `train`, `valid` and `test` as CSV files, perhaps gzipped, label `click`.
A made-up table of 4,000 rows joins them, `odd`: a click is likely (0.85 against 0.1) where the numbers of
user and item add up to an odd one, which neither tells alone; and with --wide `wide`, 20,000 rows of 800
numbers and 20 categories. Each table goes through the command as a newcomer would have it: a schema is
proposed, and models are trained by the defaults of `configs/table.py`. What is finished is not run again.

Standard error shows a table of the test part as it grows, AUC / Logloss, means over seeds. The last line is
one JSON object: `tables` with the figures by table and model, `base_rate` the Logloss of the share of clicks,
and `seconds`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import processes
from dlf_jax.models import of_any_data

BASELINES = ('lightgbm', 'logistic')
PARTS = {'train': 0.7, 'valid': 0.1, 'test': 0.2}


def odd(draw: np.random.Generator, rows: int = 4000) -> pl.DataFrame:
    """A click where user + item is odd, nearly."""
    user, item = draw.integers(0, 40, rows), draw.integers(0, 30, rows)
    click = draw.random(rows) < np.where((user + item) % 2, 0.85, 0.1)
    return pl.DataFrame({'user': user, 'item': item, 'click': click.astype(np.int8)}).with_columns(
        pl.format('u{}', 'user').alias('user'), pl.format('i{}', 'item').alias('item')
    )


def wide(draw: np.random.Generator, rows: int = 20_000) -> pl.DataFrame:
    """800 numbers and 20 categories, of which 30 numbers and the product of two others tell something."""
    numbers = draw.normal(size=(rows, 800)).astype(np.float32)
    slopes = draw.normal(size=30) / 30**0.5
    logits = 0.8 * numbers[:, :30] @ slopes + 0.9 * numbers[:, 40] * numbers[:, 41]
    click = draw.random(rows) < 1 / (1 + np.exp(-logits))
    columns = {f'x{i}': numbers[:, i].round(4) for i in range(800)}
    columns |= {f'c{i}': draw.choice(list('abcdefghij'), rows) for i in range(20)}
    return pl.DataFrame({**columns, 'click': click.astype(np.int8)})


def write(frame: pl.DataFrame, folder: Path) -> Path:
    """Writes the parts of a made-up table, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    edges = np.cumsum([round(share * frame.height) for share in PARTS.values()])
    for part, end, rows in zip(PARTS, edges, np.diff(edges, prepend=0), strict=True):
        file = folder / f'{part}.csv'
        if not file.exists():
            frame.slice(end - rows, rows).write_csv(file.with_suffix('.tmp'))
            file.with_suffix('.tmp').rename(file)
    return folder


class Table:
    """A table with a proposed schema."""

    def __init__(self, folder: Path, workdir: Path):
        """Finds the files and has a schema proposed.

        Args:
          folder: holds the files.
          workdir: folder of all that is written.
        """
        self.name, self.workdir = folder.name, workdir
        files = {part: next(folder.glob(f'{part}.csv*'), None) for part in PARTS}
        missing = [part for part, file in files.items() if file is None]
        if missing:
            sys.exit(f'{folder}: no {" and ".join(missing)}.csv or .csv.gz')
        self.files = [f'--config.dataset.{part}={file}' for part, file in files.items()]
        self.schema = workdir / f'{self.name}.toml'
        if not self.schema.exists():
            propose = ('--mode=prepare', '--config.dataset.infer=True', f'--output={self.schema}')
            self._command('dlf', self.files[0], *propose)

    def train(self, model: str, seeds: int, options: list[str]) -> list[dict]:
        """Results of a model or baseline, one a seed."""
        count = 1 if model in BASELINES else seeds
        folder = self.workdir / self.name / f'{model}-{count}'
        flags = (f'--config.dataset.schema={self.schema}', f'--config.seeds={count}', f'--workdir={folder}')
        found = self._command(model, *self.files, *flags, *options)
        return found.get('runs', [found])

    def _command(self, model: str, *flags: str) -> dict:
        command = (sys.executable, '-m', 'dlf_jax.main', f'--config=configs/table.py:{model}')
        return processes.run(*command, *flags, f'--data_dir={self.workdir / "data"}').result


def summary(runs: list[dict]) -> dict[str, float]:
    """Means over runs on the test part."""
    found = {key: float(np.mean([run['test'][key] for run in runs])) for key in ('auc', 'logloss')}
    return {
        'auc': round(found['auc'], 4),
        'logloss': round(found['logloss'], 4),
        'auc_std': round(float(np.std([run['test']['auc'] for run in runs])), 4),
        'steps': round(float(np.mean([run['steps'] for run in runs]))),
        'seconds': round(float(np.mean([run['seconds'] for run in runs])), 1),
    }


def base_rate(folder: Path) -> float:
    """Logloss on the test part of the training part's share of clicks."""
    train, test = (
        pl.read_csv(next(folder.glob(f'{part}.csv*')), columns=['click'], infer_schema_length=None)['click']
        for part in ('train', 'test')
    )
    share, rate = float(train.mean()), float(test.mean())
    return float(-rate * np.log(share) - (1 - rate) * np.log(1 - share))


def line(name: str, found: dict[str, dict[str, float]], tables: list[str]) -> str:
    """A row of the table, in Markdown."""
    cells = [f'{found[t]["auc"]:.4f} / {found[t]["logloss"]:.4f}' if t in found else '' for t in tables]
    return f'| {name} | {" | ".join(cells)} |'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path)
    parser.add_argument('--workdir', type=Path, default=Path('/tmp/dlf-own-tables'))
    parser.add_argument('--models', default=','.join([*BASELINES, *of_any_data()]))
    parser.add_argument('--tables', default='', help='names by commas; all')
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--wide', action='store_true', help='the made-up table of 820 columns, too')
    options, others = parser.parse_known_args()
    folders = sorted(path for path in options.folder.expanduser().iterdir() if path.is_dir())
    made_up = options.workdir / 'made-up'
    folders.append(write(odd(np.random.default_rng(0)), made_up / 'odd'))
    if options.wide:
        folders.append(write(wide(np.random.default_rng(1)), made_up / 'wide'))
    if options.tables:
        folders = [folder for folder in folders if folder.name in options.tables.split(',')]
    tables = {folder.name: Table(folder, options.workdir) for folder in folders}
    rates = {folder.name: round(base_rate(folder), 4) for folder in folders}
    names = list(tables)
    print(f'| | {" | ".join(names)} |\n|{"---|" * (len(names) + 1)}', file=sys.stderr)
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in names}
    for model in options.models.split(','):
        for name, table in tables.items():
            found[name][model] = summary(table.train(model, options.seeds, others))
        print(line(model, {name: found[name][model] for name in names}, names), file=sys.stderr, flush=True)
    result = {
        'tables': found,
        'base_rate': rates,
        'seeds': options.seeds,
        'machine': processes.machine(),
    }
    print(json.dumps(result))


if __name__ == '__main__':
    main()
