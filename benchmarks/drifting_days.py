"""What warm starts are worth on days whose law of clicks drifts by a known amount.

    python -m benchmarks.drifting_days --workdir=/tmp/drifting-days

A click's log-odds are -2 plus an effect of its user and one of its ad. From day to day an effect becomes
`KEPT` times itself plus noise that leaves its deviation as it is, so that after d days its correlation with
itself is `KEPT` ** d; and some users and ads leave for new ones. The days are walked as by `dlf_jax.daily`,
a pass a day. On the rows of one day more, the model of that chain (`warm`) is compared with

- `frozen`: the chain's own model of `--stale` days before, which learnt the same but for those days;
- `frozen_first`: the model of the first day;
- `scratch`: a model trained on the last day alone, up to 20 passes, the best by its validation part.

Standard error shows the course. The last line is one JSON object: AUC and normalized entropy (NE) of each,
`best_possible` those of the true probabilities, and the progressive ones of each day as `days`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import dlf_jax
from dlf_jax.days import chain, table, walk
from dlf_jax.training.probability_metrics import normalized_entropy
from dlf_jax.training.ranking_metrics import auc

# Correlation of an effect with itself a day later.
KEPT = 0.95
USERS, ADS = 2000, 300
# Share of users and ads that a day has and the day before had not.
FRESH = 0.03
DEVIATIONS = {'user': 0.8, 'ad': 1.2}


def write_days(folder: Path, days: int, rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Writes `day000.csv` and so on, and returns the true log-odds of the rows of each, by name."""
    draw = np.random.default_rng(seed)
    sizes = {'user': USERS, 'ad': ADS}
    fresh = {name: round(FRESH * size) for name, size in sizes.items()}
    effects = {
        name: draw.normal(0, DEVIATIONS[name], size + fresh[name] * days) for name, size in sizes.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for day in range(days):
        ids = {name: draw.integers(0, size, rows) + day * fresh[name] for name, size in sizes.items()}
        logits = -2 + sum(effects[name][found] for name, found in ids.items())
        click = (draw.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int8)
        columns = {name: [f'{name}{i}' for i in found] for name, found in ids.items()}
        name = f'day{day:03}'
        pl.DataFrame({'click': click, **columns}).write_csv(folder / f'{name}.csv')
        truth[name] = logits
        for of, values in effects.items():
            noise = draw.normal(0, DEVIATIONS[of], len(values))
            effects[of] = KEPT * values + np.sqrt(1 - KEPT**2) * noise
    return truth


def config_of(**changes: Any) -> Any:
    """FM with a bias for each value, on a table of `write_days`."""
    values = {
        'dataset.name': 'table', 'dataset.label': 'click', 'dataset.categorical': ('user', 'ad'),
        'model.embedding_size': 4, 'training.batch_size': 256, 'optimizer.learning_rate': 0.01,
        'optimizer.embedding_rows': 'lazy_adam', 'training.monitor': 'logloss',
        'training.metrics': ('normalized_entropy',), 'embedding.std': 0.01,
    }  # fmt: skip
    return dlf_jax.load_config(model='fm', overrides={**values, **changes})


def compare(folder: Path, days: int, rows: int, stale: int, seed: int = 0) -> dict[str, Any]:
    """Writes the days, trains all models and returns what they are worth on the last day.

    Args:
      folder: for days, data and runs.
      days: number of days, the last of which nobody is trained on.
      rows: rows of a day.
      stale: days that the frozen model is older than the chain's last.
      seed: of the days' rows.
    """
    truth = write_days(folder / 'logs', days, rows, seed)
    *known, last = truth
    hidden = folder / f'{last}.csv'
    (folder / 'logs' / f'{last}.csv').replace(hidden)
    options = walk.Options(str(folder / 'logs' / '*.csv'), str(folder / 'chain'), str(folder / 'data'))
    walk.walk(config_of(), (), options)
    alone = config_of(
        **{'dataset.train': str(folder / 'logs' / f'{known[-1]}.csv'), 'dataset.fractions': (9.0, 1.0)},
        **{'training.epochs': 20, 'plateau.patience': 3},
    )
    dlf_jax.train(alone, folder / 'scratch', folder / 'data')
    models = {
        'warm': folder / 'chain' / 'latest',
        'frozen': folder / 'chain' / 'days' / known[-1 - stale],
        'frozen_first': folder / 'chain' / 'days' / known[0],
        'scratch': folder / 'scratch',
    }
    clicks, result = pl.read_csv(hidden)['click'].to_numpy(), {}
    for name, workdir in models.items():
        found = dlf_jax.load(workdir).evaluate(str(hidden))
        result[name] = {'auc': found['auc'], 'normalized_entropy': found['normalized_entropy']}
    best = {
        'auc': auc(clicks, truth[last]), 'normalized_entropy': normalized_entropy(clicks, truth[last])
    }  # fmt: skip
    days = [
        {key: line[key] for key in ('day', 'auc', 'normalized_entropy', 'calibration_ratio', 'new_values')}
        for line in table.lines(chain.of(str(folder / 'chain')))
    ]
    return {**result, 'best_possible': best, 'days': days}


def main() -> None:
    """Compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--workdir', required=True, type=Path)
    parser.add_argument('--days', default=12, type=int)
    parser.add_argument('--rows', default=20_000, type=int)
    parser.add_argument('--stale', default=5, type=int)
    parser.add_argument('--seed', default=0, type=int)
    options = parser.parse_args()
    found = compare(options.workdir, options.days, options.rows, options.stale, options.seed)
    for name in ('warm', 'frozen', 'frozen_first', 'scratch', 'best_possible'):
        print(
            f'{name:14} AUC {found[name]["auc"]:.4f}  NE {found[name]["normalized_entropy"]:.4f}',
            file=sys.stderr,
        )
    print(json.dumps(found))


if __name__ == '__main__':
    main()
