"""The page of a comparison: its table to be sorted, curves over each other, and every run with its report."""

from __future__ import annotations

import math
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlf_jax.analysis.report import charts, facts, formatting, scales, training_course
from dlf_jax.analysis.report import section as sections
from dlf_jax.analysis.report.elements import Cell, Content, Element, details, element, paragraph, table
from dlf_jax.analysis.report.page import page
from dlf_jax.analysis.report.section import Section, section
from dlf_jax.analysis.report.write import NAME
from dlf_jax.comparison import differences, results_table
from dlf_jax.comparison.published_scores import PUBLISHED_METRICS
from dlf_jax.comparison.results_table import Line, Metrics
from dlf_jax.comparison.run_list import Row, Run, RunList
from dlf_jax.comparison.runner import Outcome
from dlf_jax.comparison.settings import REFERENCE, folder_name, short_name
from dlf_jax.file_writing import write_atomically

# Settings whose curves are drawn over each other: as many as there are colours.
_CURVES = charts.COLOURS
# Points of a chart that are named in it; of more, names would cover each other.
_NAMED = 12
_REMARKS = 'How to read it'
_Found = Sequence[tuple[Row, Line]]


def write(
    folder: Path,
    title: str,
    run_list: RunList,
    outcome: Outcome,
    lines: Sequence[Line],
    apart: Sequence[Line],
) -> Path:
    """Writes the page of a comparison, atomically.

    Args:
      folder: folder of the table.
      title: of the table.
      run_list: rows of the table and their runs.
      outcome: results of the runs.
      lines: rows of the table, from `results_table.summarise`.
      apart: differences on the same rows, from `differences.summarise`.

    Returns:
      The file.
    """
    shown, drawn = results_table.shown_metrics(run_list, outcome), []
    for dataset in run_list.datasets:
        pairs = zip(run_list.rows, lines, strict=True)
        found = [(row, line) for row, line in pairs if row.dataset == dataset]
        own = [line for line in apart if line['dataset'] == short_name(dataset)]
        drawn.append(_dataset(folder, dataset, found, outcome, shown, own))
    finished, every = len(outcome.results), len(run_list.runs)
    text = page(
        title,
        paragraph(f'{finished:,} of {formatting.plural(every, "run")} finished.'),
        f'Comparison: {folder}',
        [*((one.key, one.title, ()) for one in drawn), ('remarks', _REMARKS, ())],
        [
            *(sections.draw(one) for one in drawn),
            _remarks(lines, results_table.notes(run_list, outcome)),
        ],
    )
    write_atomically(folder / NAME, text)
    return folder / NAME


def _dataset(
    folder: Path, dataset: str, found: _Found, outcome: Outcome, shown: Metrics, apart: Sequence[Line]
) -> Section:
    known = [(row, line) for row, line in found if line['seeds']]
    part = 'test' if any(line['test_auc_mean'] is not None for _, line in known) else 'valid'
    return section(
        f'dataset-{folder_name(dataset, short_name(dataset))}',
        short_name(dataset),
        _table(found, part, shown),
        _differences(apart),
        element('div', [*_curves(known, outcome, part), *_parameters(known, part)], class_='charts'),
        element('h3', 'Runs'),
        _runs(folder, found, outcome, part, shown),
    )


def _table(found: _Found, part: str, shown: Metrics) -> Element:
    lines = [line for _, line in found]
    parts = [p for p in results_table.PARTS if any(line[f'{p}_auc_mean'] is not None for line in lines)]
    scores = [(p, key) for p in parts for key in shown]
    best = {(p, key): results_table.best_mean(lines, p, key, shown[key]) for p, key in scores}
    sources = [s for s in results_table.SOURCES if any(line[f'{s}_auc'] is not None for line in lines)]
    published = [(source, key) for source in sources for key in PUBLISHED_METRICS]
    head = ['model', 'seeds', *(f'{p} {shown[key].label}' for p, key in scores)]
    head += [f'p {part} {metric.title}' for metric in shown.values()]
    head += ['parameters', 'samples/s', 'seconds', *(f'{s} {shown[key].title}' for s, key in published)]
    rows: list[list[Cell | Content]] = []
    for line in lines:
        seeds = str(line['of']) if line['seeds'] == line['of'] else f'{line["seeds"]} of {line["of"]}'
        cells: list[Cell | Content] = [element('code', line['name']), Cell(seeds, line['seeds'])]
        cells += [_mean(line, f'{p}_{key}', best[p, key]) for p, key in scores]
        for key in shown:
            p_value = line[f'{part}_{key}_p']
            cells.append(Cell(formatting.short(p_value), p_value))
        tables, dense = line['parameters_table'], line['parameters_dense']
        parameters = None if tables is None else tables + dense
        cells.append(Cell(formatting.short(parameters), parameters))
        cells.append(Cell(formatting.short(line['samples_per_second']), line['samples_per_second']))
        cells.append(Cell(formatting.duration(line['seconds']), line['seconds']))
        for source, key in published:
            value = line[f'{source}_{key}']
            cells.append(Cell(formatting.fixed(value), value))
        rows.append(cells)
    caption = 'Mean and standard deviation over seeds; the best mean of a column is bold'
    return table(caption, head, rows, sortable=True, numeric=range(1, len(head)))


def _mean(line: Line, key: str, best: float | None) -> Cell:
    mean, deviation = line[f'{key}_mean'], line[f'{key}_std']
    spread = None if deviation is None else element('small', f' ± {formatting.fixed(deviation, 5)}')
    is_best = mean is not None and mean == best
    return Cell([formatting.fixed(mean, 5), spread], mean, 'best' if is_best else None)


def _differences(apart: Sequence[Line]) -> Content:
    if not apart:
        return None
    rows: list[list[Cell | Content]] = []
    for line in apart:
        cells: list[Cell | Content] = [element('code', line['name'])]
        cells.append(line['missing'] or f'{line["part"]}, seed {line["seed"]}')
        for metric in differences.METRICS:
            value, low, high = (line[f'{metric}_{key}'] for key in ('difference', 'low', 'high'))
            ends = None if low is None else f' {formatting.signed(low, 5)} to {formatting.signed(high, 5)}'
            told = element('small', ends) if ends else None
            clear = low is not None and low * high > 0
            cells.append(Cell([formatting.signed(value, 5), told], value, 'best' if clear else None))
        needed = [line[f'{metric}_seeds_needed'] for metric in differences.METRICS]
        cells += [Cell(_seeds(seeds), seeds) for seeds in needed]
        rows.append(cells)
    titles = differences.METRICS.values()
    head = ['model', 'rows', *titles, *(f'seeds needed, {title}' for title in titles)]
    return [
        element('h3', f'Differences from {REFERENCE} on the same rows'),
        table(
            'Differences on the same rows', head, rows, sortable=True, numeric=range(2, len(head)),
            hidden_caption=True,
        ),
        paragraph(differences.LEGEND, class_='small'),
    ]  # fmt: skip


def _seeds(count: float | None) -> str:
    return 'over 1,000' if count == math.inf else formatting.count(count)


def _curves(known: _Found, outcome: Outcome, part: str) -> list[Element]:
    """Charts of the validation metrics of the best settings, one run of each."""
    ranked = sorted(known, key=lambda pair: -(pair[1][f'{part}_auc_mean'] or 0.0))
    chosen = {line['name']: next(run for run in row.runs if run in outcome.results) for row, line in ranked}
    named = {name: _evaluations(chosen[name]) for name in list(chosen)[:_CURVES]}
    colours = {name: i for i, name in enumerate(named)}
    drawn = [training_course.curves(named, key, colours) for key in ('auc', 'logloss')]
    return [one for one in drawn if one is not None]


def _evaluations(run: Run) -> list[Mapping[str, Any]]:
    return [line for line in facts.training_history(run.workdir.metrics) if line['kind'] == 'valid']


def _parameters(known: _Found, part: str) -> list[Element]:
    points = [line for _, line in known if line[f'{part}_auc_mean'] is not None]
    if len(points) < 2:
        return []
    sizes = [max(line['parameters_table'] + line['parameters_dense'], 1) for line in points]
    aucs = [line[f'{part}_auc_mean'] for line in points]
    names = [line['name'] for line in points]
    tips = [
        f'{name}: AUC {formatting.fixed(auc)}, {formatting.short(size)} parameters'
        for name, size, auc in zip(names, sizes, aucs, strict=True)
    ]
    labels = names if len(names) <= _NAMED else ()
    series = charts.Series('settings', sizes, aucs, tips=tips, labels=labels, joined=False)
    x, y = scales.spanning('parameters, tables included', sizes, log=True), scales.spanning('', aucs)
    title = f'AUC and size, {part} part'
    return [charts.chart(title, f'{"; ".join(tips)}.', [series], x, y)]


def _runs(folder: Path, found: _Found, outcome: Outcome, part: str, shown: Metrics) -> Element:
    rows: list[list[Cell | Content]] = []
    for run in dict.fromkeys(run for row, _ in found for run in row.runs):
        result = outcome.results.get(run, {})
        values = [(result.get(part) or {}).get(key) for key in shown]
        cells: list[Cell | Content] = [element('code', run.folder), Cell(str(run.seed), run.seed)]
        cells += [Cell(formatting.fixed(value, 5), value) for value in values]
        rows.append([*cells, _state(run, outcome), _link(folder, run)])
    head = ['setting', 'seed', *(f'{part} {metric.title}' for metric in shown.values()), 'state', 'folder']
    made = 'python -m dlf_jax.main --mode=report --workdir=FOLDER'
    return element(
        'div',
        table('Every run', head, rows, sortable=True, numeric=range(1, len(head) - 2), hidden_caption=True),
        paragraph(
            'A run with a page of its own is linked to it, the others to their folders. A page is made by ',
            element('code', made),
            '.',
        ),
    )


def _state(run: Run, outcome: Outcome) -> Content:
    if run in outcome.errors:
        return details('failed', outcome.errors[run])
    return 'finished' if run in outcome.results else 'not finished'


def _link(folder: Path, run: Run) -> list[Content]:
    """Link to a run's page, or to its folder where it has none."""
    place = os.path.relpath(run.workdir.path, folder)
    own = (run.workdir.path / NAME).is_file()
    target = urllib.parse.quote(f'{place}/{NAME if own else ""}')
    return [element('a', place, href=target), element('small', ' its page') if own else None]


def _remarks(lines: Sequence[Line], notes: Sequence[str]) -> Element:
    told = [*results_table.about(lines), *notes]
    return element(
        'section',
        element('h2', _REMARKS, id='remarks-title'),
        paragraph(results_table.LEGEND),
        element('ul', [element('li', text) for text in told]) if told else None,
        id='remarks',
        aria_labelledby='remarks-title',
    )
