"""How far the models of a comparison are apart: on the same rows, and how many seeds that takes to see."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from dlf_jax.analysis import intervals
from dlf_jax.comparison.results_table import Line, markdown_row, reference_of, values
from dlf_jax.comparison.run_list import Row, Run, RunList
from dlf_jax.comparison.runner import Outcome
from dlf_jax.comparison.settings import REFERENCE, short_name
from dlf_jax.comparison.significance import LEAST_POWER, seeds_needed
from dlf_jax.errors import UserError
from dlf_jax.training import stored_scores

_log = logging.getLogger(__name__)

# Metrics that are told, and their titles.
METRICS = {'auc': 'AUC', 'logloss': 'Logloss', 'normalized_entropy': 'Normalized entropy'}
LEGEND = (
    f'Less {REFERENCE}, with 95 % intervals for these two sets of weights on other rows like these: AUC by '
    'DeLong, the others (and AUC where rows have groups) by a paired bootstrap. Seeds needed: what a '
    f'two-sided paired t-test at 0.05 needs to find the mean difference over the seeds so far with a '
    f'probability of {LEAST_POWER:g}, if that and its spread are the true ones.'
)


def summarise(run_list: RunList, outcome: Outcome) -> list[Line]:
    """Differences of each row's first run from the reference's run of the same seed.

    Args:
      run_list: the runs.
      outcome: their results.

    Returns:
      For each row with a seed that both have finished: dataset, name, seed, part, rows; for each metric
      METRIC_difference, METRIC_low, METRIC_high and METRIC_seeds_needed; `missing`, why there is no
      difference on the same rows. None where unknown.
    """
    lines = []
    for row in run_list.rows:
        reference = reference_of(run_list, row)
        if reference is None or reference.folder == row.folder:
            continue
        pair = _pair(row, reference, outcome)
        if pair is None:
            continue
        part = 'test' if all(outcome.results[run].get('test') for run in pair) else 'valid'
        line: Line = {
            'dataset': short_name(row.dataset), 'name': row.setting.name, 'seed': pair[1].seed, 'part': part,
            'rows': None, 'missing': None,
        }  # fmt: skip
        found: dict[str, Any] = {}
        try:
            mine, other = (stored_scores.read(run.workdir, part) for run in pair)
            line['rows'] = len(mine['label'])
            # A few hundred samples tell the ends of an interval well enough of millions of rows.
            found = intervals.paired(mine, other, min(1000, max(100, int(2e8 / line['rows']))))
        except UserError as error:
            line['missing'] = str(error)
        for metric in METRICS:
            for key in ('difference', 'low', 'high'):
                line[f'{metric}_{key}'] = found.get(metric, {}).get(key)
            own, theirs = (values(one, outcome, part, metric) for one in (row, reference))
            line[f'{metric}_seeds_needed'] = None if row.is_baseline else seeds_needed(own, theirs)
        lines.append(line)
    return lines


def _pair(row: Row, reference: Row, outcome: Outcome) -> tuple[Run, Run] | None:
    """The finished runs of both of the first seed that both have; a baseline's is compared with the first."""
    mine = {run.seed: run for run in row.runs if run in outcome.results}
    theirs = {run.seed: run for run in reference.runs if run in outcome.results}
    if row.is_baseline and mine and theirs:
        return next(iter(mine.values())), next(iter(theirs.values()))
    common = sorted(mine.keys() & theirs.keys())
    return (mine[common[0]], theirs[common[0]]) if common else None


def section(lines: Sequence[Line]) -> list[str]:
    """The differences as lines of Markdown; none where there are none."""
    text: list[str] = []
    for dataset in dict.fromkeys(line['dataset'] for line in lines):
        own = [line for line in lines if line['dataset'] == dataset]
        told = [line for line in own if line['missing'] is None]
        text += [f'## {dataset}: differences on the same rows', '']
        if told:
            head = ['model', 'rows', *METRICS.values(), *(f'seeds needed {METRICS[m]}' for m in METRICS)]
            text += [markdown_row(head), markdown_row(['---', *['---:'] * (len(head) - 1)])]
        for line in told:
            cells = [f'`{line["name"]}`', f'{line["rows"]:,} {line["part"]}, seed {line["seed"]}']
            cells += [_difference(line, metric) for metric in METRICS]
            cells += [_seeds(line[f'{metric}_seeds_needed']) for metric in METRICS]
            text.append(markdown_row(cells))
        text += ['', *([LEGEND, ''] if told else [])]
        text += [f'- `{line["name"]}`: {line["missing"]}' for line in own if line['missing']]
        text += [''] if any(line['missing'] for line in own) else []
    return text


def _difference(line: Line, metric: str) -> str:
    value, low, high = (line[f'{metric}_{key}'] for key in ('difference', 'low', 'high'))
    if value is None:
        return ''
    text = f'{value:+.5f}' if low is None else f'{value:+.5f} ({low:+.5f} to {high:+.5f})'
    return f'**{text}**' if low is not None and low * high > 0 else text


def _seeds(count: float | None) -> str:
    if count is None:
        return ''
    return f'{count:,.0f}' if count < float('inf') else 'over 1,000'
