"""Table of a comparison's results, as CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlf_jax.comparison.published_scores import LEADERBOARD, PAPER, PUBLISHED_METRICS
from dlf_jax.comparison.run_list import Row, Run, RunList, fingerprint
from dlf_jax.comparison.runner import Outcome
from dlf_jax.comparison.settings import REFERENCE, short_name
from dlf_jax.comparison.significance import LEAST_PAIRS, mean_and_deviation, paired_p_value
from dlf_jax.file_writing import write_atomically
from dlf_jax.training import metrics
from dlf_jax.training.metrics import Metric

PARTS = ('valid', 'test')
SOURCES = {'paper': PAPER, 'leaderboard': LEADERBOARD}
_ABOUT = {
    'paper': 'Paper: DLF (SIGIR 2025), Tables 2 and 3: the mean of five runs on the test part.',
    'leaderboard': 'Leaderboard: the public ones of the same splits, or for QNN and EulerNet the logs of '
    'their authors: the best single run on the test part.',
}
LEGEND = (
    'Mean ± sample standard deviation over seeds; arrows point to better values, bold is the best mean of a '
    f'column. p: two-sided paired t-test against {REFERENCE} over the seeds that both have (at least '
    f'{LEAST_PAIRS}), not corrected for the number of comparisons. Parameters: in tables + dense.'
)

# A line of a CSV file or a Markdown table, by column.
Line = dict[str, Any]
# Metrics that a table shows, by key.
Metrics = Mapping[str, Metric]


def shown_metrics(run_list: RunList, outcome: Outcome) -> dict[str, Metric]:
    """The metrics that any of the runs shows, by key; those of groups where a result has them."""
    found: dict[str, Metric] = {}
    for run in run_list.runs:
        found = {**found, **metrics.shown(run.config)}
    evaluations = [result.get(part) or {} for result in outcome.results.values() for part in PARTS]
    return {
        key: metric
        for key, metric in found.items()
        if not metric.grouped or any(key in evaluation for evaluation in evaluations)
    }


def values(row: Row, outcome: Outcome, part: str, metric: str) -> dict[int, float]:
    """A metric of the finished runs of a row, by seed; without runs where it is undefined."""
    evaluations = {run.seed: outcome.results[run].get(part) for run in row.runs if run in outcome.results}
    found = {seed: evaluation.get(metric) for seed, evaluation in evaluations.items() if evaluation}
    return {seed: value for seed, value in found.items() if value is not None}


def summarise(run_list: RunList, outcome: Outcome) -> list[Line]:
    """The rows of the table, in the order of the list.

    Returns:
      For each row: dataset, name, model, variant, swept, seeds (number of finished runs), of (number of
      runs); for each part (valid, test) PART_pairs and, for each metric (auc, logloss, ...),
      PART_METRIC_mean, PART_METRIC_std, PART_METRIC_p; parameters_table, parameters_dense;
      samples_per_second, seconds (means); paper_METRIC, leaderboard_METRIC. None where unknown.
    """
    shown, lines = shown_metrics(run_list, outcome), []
    for row in run_list.rows:
        setting, reference = row.setting, reference_of(run_list, row)
        finished = [outcome.results[run] for run in row.runs if run in outcome.results]
        line: Line = {
            'dataset': short_name(row.dataset),
            'name': setting.name,
            'model': setting.model,
            'variant': setting.variant,
            'swept': ' '.join(f'{key}={value}' for key, value in setting.swept),
            'seeds': len(finished),
            'of': len(row.runs),
        }
        for part in PARTS:
            line[f'{part}_pairs'] = None
            for metric in shown:
                own, key = values(row, outcome, part, metric), f'{part}_{metric}'
                line[f'{key}_mean'], line[f'{key}_std'] = mean_and_deviation(list(own.values()))
                line[f'{key}_p'] = None
                if reference and reference.folder != row.folder:
                    other = values(reference, outcome, part, metric)
                    if row.is_baseline and own:
                        # Its one value, beside every seed.
                        own = dict.fromkeys(other, next(iter(own.values())))
                    line[f'{key}_p'], line[f'{part}_pairs'] = paired_p_value(own, other)
        for kind in ('table', 'dense'):
            line[f'parameters_{kind}'] = finished[0]['parameters'][kind] if finished else None
        for key, digits in (('samples_per_second', 0), ('seconds', 1)):
            known = [result[key] for result in finished if result[key] is not None]
            mean, _ = mean_and_deviation(known)
            line[key] = mean if mean is None else round(mean, digits)
        for source, scores in SOURCES.items():
            published = scores.get(row.dataset, {}).get(setting.name, (None, None))
            line.update({f'{source}_{m}': v for m, v in zip(PUBLISHED_METRICS, published, strict=True)})
        lines.append(line)
    return lines


def notes(run_list: RunList, outcome: Outcome) -> list[str]:
    """Remarks that a reader of the table needs: missing p-values, other data, runs that failed."""
    found = []
    if all(reference_of(run_list, row) is None for row in run_list.rows):
        found.append(f'No p-values: {REFERENCE} with its own settings is not among the models.')
    elif max(len(row.runs) for row in run_list.rows) < LEAST_PAIRS:
        found.append(f'No p-values: they need at least {LEAST_PAIRS} seeds that both models have.')
    baselines = dict.fromkeys(row.setting.model for row in run_list.rows if row.is_baseline)
    if baselines:
        found.append(
            f'{", ".join(baselines)}: untuned, in one run each, which p compares with every seed of '
            f'{REFERENCE}; parameters are coefficients, of LightGBM leaves.'
        )
    for dataset in run_list.datasets:
        # A sweep over a dataset's keys prepares other data on purpose.
        rows = [row for row in run_list.rows if row.dataset == dataset and not _sweeps_data(row)]
        marks = {fingerprint(run) for row in rows for run in row.runs if run in outcome.results}
        if len(marks) > 1:
            found.append(
                f'{short_name(dataset)}: the runs were trained on different files, so they do not compare; '
                'take another --workdir for other files.'
            )
    found += [
        f'Learnt nothing: {run.name}: {warning}'
        for run, result in outcome.results.items()
        if not result.get('learnt', True)
        for warning in result['warnings']
    ]
    failed = [run for run in run_list.runs if run in outcome.errors]
    found += [f'Failed: {run.name}: {outcome.errors[run]}' for run in failed]
    unfinished = len(run_list.runs) - len(outcome.results) - len(failed)
    if unfinished:
        found.append(f'{unfinished} of {len(run_list.runs)} runs are not finished yet.')
    return found


def write(
    folder: Path, title: str, run_list: RunList, outcome: Outcome, more: Sequence[str] = ()
) -> list[Line]:
    """Writes table.csv, runs.csv (a line per run) and table.md, each atomically.

    Args:
      folder: to write into.
      title: of the page.
      run_list: the runs.
      outcome: their results.
      more: lines of Markdown that follow the tables.

    Returns:
      The rows of the table, as `summarise` does.
    """
    lines, shown = summarise(run_list, outcome), shown_metrics(run_list, outcome)
    write_atomically(folder / 'table.csv', as_csv(lines))
    write_atomically(folder / 'runs.csv', as_csv([_run_line(run, outcome, shown) for run in run_list.runs]))
    write_atomically(folder / 'table.md', markdown(title, lines, shown, notes(run_list, outcome), more))
    return lines


def reference_of(run_list: RunList, row: Row) -> Row | None:
    """The row that a row is tested against: the reference as configured, on the same dataset."""
    rows = (r for r in run_list.rows if r.dataset == row.dataset and r.folder == REFERENCE)
    return next(rows, None)


def _sweeps_data(row: Row) -> bool:
    return any(key.startswith('dataset.') for key, _ in row.setting.swept)


def _run_line(run: Run, outcome: Outcome, shown: Metrics) -> Line:
    result = outcome.results.get(run, {})
    line = {'dataset': short_name(run.dataset), 'setting': run.folder, 'seed': run.seed}
    for part in PARTS:
        line.update({f'{part}_{metric}': (result.get(part) or {}).get(metric) for metric in shown})
    line.update({key: result.get(key) for key in ('steps', 'best_step', 'samples_per_second', 'seconds')})
    return {**line, 'error': outcome.errors.get(run), 'workdir': str(run.workdir.path)}


def as_csv(lines: Sequence[Line]) -> str:
    """Lines, all with the same columns, as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def markdown(
    title: str, lines: Sequence[Line], shown: Metrics, remarks: Sequence[str], more: Sequence[str] = ()
) -> str:
    """A page with a table per dataset and remarks below.

    Args:
      title: title of the page.
      lines: rows of the table, from `summarise`.
      shown: metrics of the columns, from `shown_metrics`.
      remarks: sentences, from `notes`.
      more: lines of Markdown that follow.
    """
    text = [f'# {title}', '']
    for dataset in dict.fromkeys(line['dataset'] for line in lines):
        own = [line for line in lines if line['dataset'] == dataset]
        text += [f'## {dataset}', '', *_dataset_table(own, shown), '']
    text += [LEGEND, '']
    text += [f'- {sentence}' for sentence in about(lines)]
    text += [f'- {remark}' for remark in remarks]
    text += ['', *more]
    return '\n'.join(text).rstrip() + '\n'


def about(lines: Sequence[Line]) -> list[str]:
    """A sentence for each source of published scores that a table shows."""
    return [_ABOUT[s] for s in SOURCES if any(line[f'{s}_auc'] is not None for line in lines)]


def _dataset_table(lines: Sequence[Line], shown: Metrics) -> list[str]:
    parts = [part for part in PARTS if any(line[f'{part}_auc_mean'] is not None for line in lines)]
    # Models are compared on the test part, where there is one.
    tested = parts[-1] if parts else 'valid'
    sources = [s for s in SOURCES if any(line[f'{s}_auc'] is not None for line in lines)]
    scores = [(part, key) for part in parts for key in shown]
    best = {(part, key): best_mean(lines, part, key, shown[key]) for part, key in scores}
    head = ['model', 'seeds', *(f'{part} {shown[key].label}' for part, key in scores)]
    head += [f'p {tested} {metric.title}' for metric in shown.values()]
    head += ['parameters', 'samples/s', 'seconds', *(f'{s} AUC / Logloss' for s in sources)]
    found = [markdown_row(head), markdown_row(['---', *['---:'] * (len(head) - 1)])]
    for line in lines:
        seeds = str(line['of']) if line['seeds'] == line['of'] else f'{line["seeds"]} of {line["of"]}'
        cells = [f'`{line["name"]}`', seeds]
        cells += [_mean(line, f'{part}_{key}', best[part, key]) for part, key in scores]
        cells += [_p_value(line[f'{tested}_{key}_p']) for key in shown]
        known = line['parameters_table'] is not None
        cells.append(f'{line["parameters_table"]:,} + {line["parameters_dense"]:,}' if known else '')
        cells.append('' if line['samples_per_second'] is None else f'{line["samples_per_second"]:,.0f}')
        cells.append(f'{line["seconds"]:,.0f}' if known else '')
        for source in sources:
            pair = [line[f'{source}_{metric}'] for metric in PUBLISHED_METRICS]
            cells.append('' if pair[0] is None else ' / '.join(f'{value:.4f}' for value in pair))
        found.append(markdown_row(cells))
    return found


def best_mean(lines: Sequence[Line], part: str, key: str, metric: Metric) -> float | None:
    """The best mean of a column; None where there is nothing to compare."""
    means = [mean for line in lines if (mean := line[f'{part}_{key}_mean']) is not None]
    if len(means) < 2 or metric.higher_is_better is None:
        return None
    return max(means) if metric.higher_is_better else min(means)


def _mean(line: Line, key: str, best: float | None) -> str:
    mean, deviation = line[f'{key}_mean'], line[f'{key}_std']
    if mean is None:
        return ''
    text = f'{mean:.5f}' if deviation is None else f'{mean:.5f} ± {deviation:.5f}'
    return f'**{text}**' if mean == best else text


def _p_value(value: float | None) -> str:
    if value is None:
        return ''
    return f'{value:.1e}' if value < 0.001 else f'{value:.3f}'


def markdown_row(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f'| {" | ".join(cells)} |'
