"""Everything that is told of what a model looks at, from a sample of rows to a folder of results."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from ml_collections import ConfigDict

from dlf_jax.analysis.explanation import dependence, drawing, importance, interactions
from dlf_jax.analysis.explanation.attributions import Attributions
from dlf_jax.analysis.explanation.dlf import Inside
from dlf_jax.analysis.explanation.embedding_health import embedding_health
from dlf_jax.analysis.explanation.field_values import FieldValues
from dlf_jax.analysis.explanation.importance import Baseline
from dlf_jax.analysis.explanation.pictures import Picture, pictures
from dlf_jax.analysis.explanation.replacing import Replacing
from dlf_jax.analysis.explanation.sample import Sample, draw
from dlf_jax.analysis.explanation.tables import tables
from dlf_jax.data.progress import Progress
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UsageError, UserError, suggest
from dlf_jax.file_writing import replacing_folder, to_json, writing
from dlf_jax.models.dlf import DLF
from dlf_jax.serving.predict import Predictor
from dlf_jax.training import evaluation, metrics

_log = logging.getLogger(__name__)

NAME = 'explain.json'


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a model looks at.

    Attributes:
      found: all numbers, as in `explain.json`, but for the lists of files.
      tables: title and frame by name.
      attention: lines of the table of DLF's attention.
    """

    found: dict[str, Any]
    tables: dict[str, tuple[str, pl.DataFrame]]
    attention: list[dict[str, Any]] = dataclasses.field(default_factory=list, repr=False)

    def write(self, folder: str | os.PathLike) -> dict[str, Any]:
        """Writes `explain.json`, a Parquet file for each table and an SVG for each picture.

        The folder is put in place when it is whole.

        Args:
          folder: not there, or an earlier explanation, which is replaced.

        Returns:
          `explain.json`.

        Raises:
          UserError: the folder holds something else, or cannot be written.
        """
        target = check_output(folder)
        drawn: list[Picture] = []
        if drawing.available():
            drawn = pictures(self.found, self.attention)
        else:
            _log.info("no pictures without matplotlib: pip install 'dlf_jax[plots]'")
        listed = {
            **self.found,
            'tables': [{'file': f'{name}.parquet', 'title': t} for name, (t, _) in self.tables.items()],
            'pictures': [{'file': p.file, 'title': p.title, 'alt': p.alt} for p in drawn],
        }
        with writing(str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(target) as temporary:
            for name, (_, frame) in self.tables.items():
                frame.write_parquet(temporary / f'{name}.parquet')
            for picture in drawn:
                (temporary / picture.file).write_text(picture.svg, 'utf-8')
            text = to_json(listed, undefined_as_null=True, indent=1)
            (temporary / NAME).write_text(text + '\n', 'utf-8')
        return listed


def check_output(folder: str | os.PathLike) -> Path:
    """The whole path of the folder of an explanation, which may be written or replaced.

    Raises:
      UserError: something else is there, or in it.
    """
    target = Path(folder).expanduser().resolve()
    if not target.exists():
        return target
    if not target.is_dir():
        raise UserError(f'--output={target}: is a file; name a folder')
    names = {path.name for path in target.iterdir()}
    others = sorted(names - _written(target))
    if others:
        raise UserError(
            f'--output={target}: is there already, and holds {others[0]}, which is no part of an explanation '
            'and would be lost; name another folder'
        )
    return target


def _written(folder: Path) -> set[str]:
    """Names of the files of the explanation in a folder; none where there is none."""
    try:
        found = json.loads((folder / NAME).read_text('utf-8'))
        return {NAME, *(entry['file'] for key in ('tables', 'pictures') for entry in found[key])}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def explain(predictor: Predictor, stream: Iterable[Rows], of: str, config: ConfigDict) -> Explanation:
    """Explains a model on a sample of rows.

    Args:
      predictor: the model.
      stream: encoded rows with label and weight, in the order of the input.
      of: what the rows belong to, for errors.
      config: of the model, with the `explain` keys to use.

    Raises:
      UsageError: a key names a field that there is not.
      UserError: there are no rows, or a score is not finite.
    """
    options, schema = config.explain, predictor.encoder.schema
    fields = _named(options.fields, schema, 'fields') or [field.name for field in schema.fields]
    groups = _groups(options.groups, schema)
    shown = tuple(options.attributed_rows)
    sample = draw(stream, options.rows, options.seed, of, shown)
    _log.info('explaining %s of %s rows of %s', f'{len(sample):,}', f'{sample.total:,}', of)
    detail = sample.fewer(options.detail_rows, options.seed)
    paired, curved = min(options.pairs, len(fields)), min(options.dependence, len(fields))
    by_name = {field.name: field for field in schema.fields}
    total = len(sample) * (1 + options.repeats * (len(fields) + len(groups)))
    of_pairs = sample.fewer(options.pair_rows, options.seed)
    total += len(of_pairs) * interactions.scorings(paired)
    total += len(detail) * curved * options.points
    model = predictor.setup.forward.model
    total += len(detail) * Inside.scorings(model) if isinstance(model, DLF) else 0
    values = FieldValues(predictor.encoder)
    with Progress('explaining', 'rows', total) as progress:
        replacing = Replacing(predictor, len(sample), progress.advance)
        baseline = Baseline.of(replacing, sample)
        entries = [(name,) for name in fields] + [tuple(members) for members in groups.values()]
        costs = importance.importance(replacing, baseline, entries, options.repeats, options.seed)
        by_field = [{'field': name, **next(costs)} for name in fields]
        by_group = [{'group': n, 'fields': list(members), **next(costs)} for n, members in groups.items()]
        by_field = importance.most_important_first(by_field)
        ranked = [entry['field'] for entry in by_field]
        pairs = interactions.interactions(replacing, of_pairs, ranked[:paired], options.seed)
        curves = dependence.partial_dependence(
            predictor,
            Replacing(predictor, len(detail), progress.advance),
            detail,
            sample,
            values,
            [by_name[name] for name in ranked[:curved]],
            options.points,
        )
        attributions = Attributions(predictor)
        chosen = sample.at(_attributed(sample, baseline.logits, shown, options.attributed))
        compared = attributions.baseline(options.baseline, detail)
        rows = attributions.of_rows(chosen, compared, values) if len(chosen) else []
        dlf: dict[str, Any] | None = None
        attention: list[dict[str, Any]] = []
        if isinstance(model, DLF):
            # Of the rows that are attributed the last: where none was asked for, that of the highest score.
            row = (chosen if len(chosen) else sample).at(np.array([-1]))
            dlf, attention = Inside(predictor, detail, progress.advance).summary(row)
            dlf['row'] = int(row.numbers[0])
    scores = {'label': baseline.labels, 'logit': baseline.logits, 'weight': baseline.weights}
    found = {
        'model': config.model.name,
        'variant': config.variant,
        'rows': len(sample),
        'of': of,
        'seed': options.seed,
        'calibrated': predictor.calibrator is not None,
        'weights': {'seed': int(predictor.state.seed), 'step': int(predictor.state.step)},
        'metrics': evaluation.summary(scores, metrics.selected(config)),
        'fields': by_field,
        'groups': importance.most_important_first(by_group),
        'pairs': pairs,
        'partial_dependence': curves,
        'embeddings': embedding_health(predictor.setup, predictor.state),
        'attributions': rows,
        'dlf': dlf,
    }
    return Explanation(found, tables(found, attention), attention)


def _attributed(sample: Sample, logits: np.ndarray, numbers: Sequence[int], count: int) -> np.ndarray:
    """Places in the sample of the rows that are attributed, int64 [n].

    Args:
      sample: the rows.
      logits: of the rows.
      numbers: numbers of the rows that are asked for; () for some from the lowest score to the highest.
      count: how many those are.

    Raises:
      UsageError: there is no row of such a number, or its weight is 0.
    """
    for number in numbers:
        if number not in sample.numbers:
            raise UsageError(
                f'config.explain.attributed_rows: no row {number} among the {sample.total:,} rows of '
                f'{sample.of}, counted from 0, or its weight is 0'
            )
    if numbers:
        return np.searchsorted(sample.numbers, sorted(set(numbers)))
    ranks = np.unique(np.linspace(0, len(sample) - 1, min(count, len(sample))).astype(np.int64))
    return np.argsort(logits, kind='stable')[ranks]


def _named(names: Sequence[str], schema: Schema, key: str) -> list[str]:
    known = [field.name for field in schema.fields]
    for name in names:
        if name not in known:
            raise UsageError(f'config.explain.{key}: there is no field {name!r}{suggest(name, known)}')
    return list(dict.fromkeys(names))


def _groups(texts: Sequence[str], schema: Schema) -> dict[str, list[str]]:
    """Fields by the name of their group."""
    split = [text.partition('=') for text in texts]
    for name, *_ in split:
        if [other for other, *_ in split].count(name) > 1:
            raise UsageError(f'config.explain.groups: two groups are called {name!r}; name them differently')
    return {name: _named(members.split('+'), schema, 'groups') for name, _, members in split}
