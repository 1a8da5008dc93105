"""What the runs came to, as CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlf_jax.comparison.plan import Plan, Row, Run, fingerprint
from dlf_jax.comparison.published_scores import LEADERBOARD, PAPER
from dlf_jax.comparison.runner import Outcome
from dlf_jax.comparison.settings import REFERENCE
from dlf_jax.comparison.statistics import LEAST_PAIRS, mean_and_deviation, paired_p_value
from dlf_jax.errors import write_atomically

METRICS = ('auc', 'logloss')
_SOURCES = (('paper', PAPER), ('leaderboard', LEADERBOARD))
_ABOUT = {
    'paper': 'Paper: DLF (SIGIR 2025), Tables 2 and 3: the mean of five runs on the test part.',
    'leaderboard': 'Leaderboard: the public ones of the same splits: the best single run on the test part.',
}
_LEGEND = (
    'Mean ± sample standard deviation over seeds; bold is the best mean of a column. '
    f'p: two-sided paired t-test against {REFERENCE} over the seeds that both have (at least '
    f'{LEAST_PAIRS}), not corrected for the number of comparisons. Parameters: in tables + dense.'
)

Line = dict[str, Any]


def values(row: Row, outcome: Outcome, part: str, metric: str) -> dict[int, float]:
    """A metric of the finished runs of a row, by seed."""
    found = {run.seed: outcome.results[run].get(part) for run in row.runs if run in outcome.results}
    return {seed: scores[metric] for seed, scores in found.items() if scores and scores[metric] is not None}


def summarise(plan: Plan, outcome: Outcome) -> list[Line]:
    """A line per row of the plan, in its order; what is not known is None.

    Keys: dataset, name, model, variant, swept, seeds (finished), of (planned); for each part (valid,
    test) and metric (auc, logloss) PART_METRIC_mean, _std, _p and PART_pairs; parameters_table,
    parameters_dense, samples_per_second, seconds (means); paper_METRIC, leaderboard_METRIC.
    """
    lines = []
    for row in plan.rows:
        setting, reference = row.setting, _reference(plan, row)
        finished = [outcome.results[run] for run in row.runs if run in outcome.results]
        line: Line = {
            'dataset': row.dataset,
            'name': setting.name,
            'model': setting.model,
            'variant': setting.variant,
            'swept': ' '.join(f'{key}={value}' for key, value in setting.swept),
            'seeds': len(finished),
            'of': len(row.runs),
        }
        for part in ('valid', 'test'):
            line[f'{part}_pairs'] = None
            for metric in METRICS:
                own, key = values(row, outcome, part, metric), f'{part}_{metric}'
                line[f'{key}_mean'], line[f'{key}_std'] = mean_and_deviation(list(own.values()))
                line[f'{key}_p'] = None
                if reference and reference.folder != row.folder:
                    other = values(reference, outcome, part, metric)
                    line[f'{key}_p'], line[f'{part}_pairs'] = paired_p_value(own, other)
        for kind in ('table', 'dense'):
            line[f'parameters_{kind}'] = finished[0]['parameters'][kind] if finished else None
        for key, digits in (('samples_per_second', 0), ('seconds', 1)):
            mean, _ = mean_and_deviation([result[key] for result in finished])
            line[key] = mean if mean is None else round(mean, digits)
        for source, scores in _SOURCES:
            published = scores.get(row.dataset, {}).get(setting.name, (None, None))
            line.update({f'{source}_{m}': v for m, v in zip(METRICS, published, strict=True)})
        lines.append(line)
    return lines


def notes(plan: Plan, outcome: Outcome) -> list[str]:
    """What a reader of the table must know."""
    found = []
    if all(_reference(plan, row) is None for row in plan.rows):
        found.append(f'No p-values: {REFERENCE} with its own settings is not among the models.')
    elif max(len(row.runs) for row in plan.rows) < LEAST_PAIRS:
        found.append(f'No p-values: they need at least {LEAST_PAIRS} seeds that both models have.')
    for dataset in dict.fromkeys(row.dataset for row in plan.rows):
        # A sweep over a dataset's keys prepares other data on purpose.
        runs = [r for row in plan.rows if row.dataset == dataset and not _sweeps_data(row) for r in row.runs]
        marks = {fingerprint(run) for run in runs if run in outcome.results}
        if len(marks) > 1:
            found.append(
                f'{dataset}: the runs were trained on different files, so they do not compare; '
                'take another --workdir for other files.'
            )
    failed = [run for run in plan.runs if run in outcome.errors]
    found += [f'Failed: {run.name}: {outcome.errors[run]}' for run in failed]
    unfinished = len(plan.runs) - len(outcome.results) - len(failed)
    if unfinished:
        found.append(f'{unfinished} of {len(plan.runs)} runs are not finished yet.')
    return found


def write(folder: Path, title: str, plan: Plan, outcome: Outcome) -> list[Line]:
    """Writes table.csv, runs.csv (a line per run) and table.md, each at once; returns the lines."""
    lines = summarise(plan, outcome)
    write_atomically(folder / 'table.csv', as_csv(lines))
    write_atomically(folder / 'runs.csv', as_csv([_run_line(run, outcome) for run in plan.runs]))
    write_atomically(folder / 'table.md', markdown(title, lines, notes(plan, outcome)))
    return lines


def _reference(plan: Plan, row: Row) -> Row | None:
    """The row that this one is tested against: of the same dataset, the reference as configured."""
    rows = (r for r in plan.rows if r.dataset == row.dataset and r.folder == REFERENCE)
    return next(rows, None)


def _sweeps_data(row: Row) -> bool:
    return any(key.startswith('dataset.') for key, _ in row.setting.swept)


def _run_line(run: Run, outcome: Outcome) -> Line:
    result = outcome.results.get(run, {})
    line = {'dataset': run.dataset, 'setting': run.folder, 'seed': run.seed}
    for part in ('valid', 'test'):
        line.update({f'{part}_{metric}': (result.get(part) or {}).get(metric) for metric in METRICS})
    line.update({key: result.get(key) for key in ('steps', 'best_step', 'samples_per_second', 'seconds')})
    return {**line, 'error': outcome.errors.get(run), 'workdir': str(run.workdir.path)}


def as_csv(lines: Sequence[Line]) -> str:
    """The lines, all of the same keys, under a line of the keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def markdown(title: str, lines: Sequence[Line], remarks: Sequence[str]) -> str:
    """The lines as a table per dataset, and the remarks below.

    Args:
      title: of the page.
      lines: of `summarise`.
      remarks: of `notes`.
    """
    text = [f'# {title}', '']
    for dataset in dict.fromkeys(line['dataset'] for line in lines):
        text += [f'## {dataset}', '', *_dataset_table([ln for ln in lines if ln['dataset'] == dataset]), '']
    text += [_LEGEND, '']
    text += [f'- {_ABOUT[s]}' for s, _ in _SOURCES if any(line[f'{s}_auc'] is not None for line in lines)]
    text += [f'- {remark}' for remark in remarks]
    return '\n'.join(text).rstrip() + '\n'


def _dataset_table(lines: Sequence[Line]) -> list[str]:
    parts = [p for p in ('valid', 'test') if any(ln[f'{p}_auc_mean'] is not None for ln in lines)]
    # p-values are of the part that counts.
    tested = parts[-1] if parts else 'valid'
    sources = [s for s, _ in _SOURCES if any(ln[f'{s}_auc'] is not None for ln in lines)]
    scores = [(part, metric) for part in parts for metric in METRICS]
    best = {score: _best(lines, *score) for score in scores}
    head = ['model', 'seeds', *(f'{part} {_title(metric)}' for part, metric in scores)]
    head += [f'p {tested} {_title(metric)}' for metric in METRICS]
    head += ['parameters', 'samples/s', 'seconds', *(f'{s} AUC / Logloss' for s in sources)]
    found = [markdown_row(head), markdown_row(['---', *['---:'] * (len(head) - 1)])]
    for line in lines:
        seeds = str(line['of']) if line['seeds'] == line['of'] else f'{line["seeds"]} of {line["of"]}'
        cells = [f'`{line["name"]}`', seeds]
        for part, metric in scores:
            cells.append(_score(line, f'{part}_{metric}', best[part, metric]))
        cells += [_p_value(line[f'{tested}_{metric}_p']) for metric in METRICS]
        known = line['parameters_table'] is not None
        cells.append(f'{line["parameters_table"]:,} + {line["parameters_dense"]:,}' if known else '')
        cells.append(f'{line["samples_per_second"]:,.0f}' if known else '')
        cells.append(f'{line["seconds"]:,.0f}' if known else '')
        for source in sources:
            pair = [line[f'{source}_{metric}'] for metric in METRICS]
            cells.append('' if pair[0] is None else ' / '.join(f'{value:.4f}' for value in pair))
        found.append(markdown_row(cells))
    return found


def _best(lines: Sequence[Line], part: str, metric: str) -> float | None:
    means = [m for line in lines if (m := line[f'{part}_{metric}_mean']) is not None]
    if len(means) < 2:
        return None
    return max(means) if metric == 'auc' else min(means)


def _score(line: Line, key: str, best: float | None) -> str:
    mean, deviation = line[f'{key}_mean'], line[f'{key}_std']
    if mean is None:
        return ''
    text = f'{mean:.5f}' if deviation is None else f'{mean:.5f} ± {deviation:.5f}'
    return f'**{text}**' if mean == best else text


def _p_value(value: float | None) -> str:
    if value is None:
        return ''
    return f'{value:.1e}' if value < 0.001 else f'{value:.3f}'


def _title(metric: str) -> str:
    return {'auc': 'AUC', 'logloss': 'Logloss'}[metric]


def markdown_row(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f'| {" | ".join(cells)} |'
