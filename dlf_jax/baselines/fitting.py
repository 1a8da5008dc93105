"""From prepared data to the results of baselines."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dlf_jax import baselines
from dlf_jax.baselines.features import MAX_ROWS, iterate, read, stride
from dlf_jax.data.builders.base import Builder
from dlf_jax.data.loading.records import Blocks
from dlf_jax.data.progress import Progress
from dlf_jax.file_writing import to_json, write_atomically
from dlf_jax.training import metrics, part_checks, stored_scores
from dlf_jax.training.evaluation import COLUMNS, summary
from dlf_jax.workdir import Workdir

_log = logging.getLogger(__name__)

# Results of baselines by name.
Results = dict[str, dict[str, Any]]


def fit_missing(config: ConfigDict, builder: Builder, file: Path) -> Results:
    """Results of all baselines, of which those in `file` are not fitted again.

    Args:
      config: the whole config; `training.metrics` and `seed` are read.
      builder: its data is prepared.
      file: JSON file of the results so far, on the same data; each finished baseline is added to it.

    Returns:
      For each baseline what `fit` returns.
    """
    found: Results = json.loads(file.read_text()) if file.exists() else {}
    groups = bool(builder.schema().group)
    wanted = {key for key, metric in metrics.shown(config).items() if groups or not metric.grouped}
    # One that lacks a metric is of before the config named it.
    found = {name: result for name, result in found.items() if wanted <= result['valid'].keys()}
    for name in baselines.BASELINES:
        if name not in found:
            found[name] = fit(name, config, builder)
            write_atomically(file, to_json(found, undefined_as_null=True) + '\n')
    return {name: found[name] for name in baselines.BASELINES}


def fit(
    name: str,
    config: ConfigDict,
    builder: Builder,
    keep: Callable[[str, dict[str, np.ndarray]], None] = lambda part, scores: None,
) -> dict[str, Any]:
    """Fits a baseline and scores it.

    Args:
      name: an entry of `BASELINES`.
      config: the whole config; `training.metrics` and `seed` are read.
      builder: its data is prepared.
      keep: called with the name and the scores of each part.

    Returns:
      `valid` and `test`, the metrics of the parts as training has them, `test` None where there is no such
      part; `seconds` from reading to scoring; `rows`, the number of training rows that it was fitted to;
      `parameters` and `steps`, see `Fitted`.
    """
    start, schema, train = time.monotonic(), builder.schema(), builder.blocks('train')
    every = stride(schema, train.rows)
    _log.info('%s: fitting to the training part%s', name, _subsampled(every, train.rows))
    rows = read(train, every, f'{name}: reading')
    valid = builder.blocks('valid')
    held_out = read(valid, stride(schema, valid.rows), f'{name}: reading')
    fitted = baselines.BASELINES[name](rows, held_out, schema, config.seed)
    count = len(rows['label'])
    del rows, held_out
    wanted, shown = metrics.selected(config), metrics.shown(config)
    scores: dict[str, Any] = {}
    for part in builder.parts():
        if part != 'train':
            found = _score(fitted, builder.blocks(part), f'{name}: {part}')
            keep(part, found)
            scores[part] = summary(found, wanted)
    told = '; '.join(f'{part} {metrics.describe(found, shown)}' for part, found in scores.items())
    seconds = time.monotonic() - start
    _log.info('%s: %s; %.1f s', name, told, seconds)
    return {
        'valid': scores['valid'],
        'test': scores.get('test'),
        'seconds': round(seconds, 1),
        'rows': count,
        'parameters': fitted.parameters,
        'steps': fitted.steps,
    }


def _subsampled(every: int, rows: int) -> str:
    if every == 1:
        return ''
    return f': one of {every} of its {rows:,} rows (at most {MAX_ROWS:,}, and what half of the memory holds)'


def _score(fitted: baselines.Fitted, blocks: Blocks, what: str) -> dict[str, np.ndarray]:
    """Logits, labels, weights and groups of the rows of a part whose weight is above 0, in file order."""
    found: dict[str, list[np.ndarray]] = {}
    with Progress(what, 'samples', blocks.rows) as progress:
        for rows in iterate(blocks):
            columns = {name: rows[name] for name in COLUMNS if name in rows}
            for name, values in {**columns, 'logit': fitted.logits(rows)}.items():
                found.setdefault(name, []).append(values)
            progress.advance(len(rows['label']))
    return {name: np.concatenate(values) for name, values in found.items()}


def train(config: ConfigDict, builder: Builder, workdir: Workdir) -> dict[str, Any]:
    """Result of a run whose model is a baseline, in the form of `dlf_jax.training.results.of_run`.

    Args:
      config: the whole config; `model.name` is the baseline.
      builder: its data is prepared.
      workdir: of the run, which keeps the scores.

    Raises:
      UserError: the labels or weights of a part make a run impossible.
    """
    metrics.check_groups(config, builder.schema().group)
    part_checks.check(config, builder)

    def keep(part: str, scores: dict[str, np.ndarray]) -> None:
        stored_scores.write(workdir, part, scores, {config.seed: scores['logit']}, config.seed)

    found = fit(config.model.name, config, builder, keep)
    return {
        'model': config.model.name,
        'variant': config.variant,
        'dataset': config.dataset.name,
        'seed': config.seed,
        # Steps of a baseline are no passes over samples.
        'samples_per_second': None,
        **found,
    }


def table(result: dict[str, Any]) -> list[str]:
    """Lines of a table of a model and its baselines: AUC and Logloss of each part, seconds.

    Args:
      result: of a run, or of several seeds, with `baselines`.
    """
    own = {**result, **result['mean']} if 'mean' in result else result
    rows = {result['model']: own, **result['baselines']}
    parts = [part for part in ('valid', 'test') if own[part]]
    keys = [(part, key) for part in parts for key in ('auc', 'logloss')]
    cells = [['', *(' '.join(key) for key in keys), 'seconds']]
    for name, row in rows.items():
        values: Iterable[float | None] = (row[part][key] for part, key in keys)
        shown = ['-' if value is None else f'{value:.4f}' for value in values]
        cells.append([name, *shown, f'{row["seconds"]:.1f}'])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        '  '.join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]
