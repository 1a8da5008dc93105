"""The sections on several runs together: a table of metrics with differences, curves over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlf_jax.analysis import calibration
from dlf_jax.analysis.reliability import reliability
from dlf_jax.analysis.report import (
    calibration_section,
    charts,
    formatting,
    scores_section,
    training_course,
    uncertainty,
)
from dlf_jax.analysis.report.elements import Cell, Content, Element, element, paragraph, table
from dlf_jax.analysis.report.facts import Run
from dlf_jax.analysis.report.section import Section, missing, section
from dlf_jax.training import metrics

# Metrics of the table, each with its difference from the first run.
_COMPARED = ('auc', 'logloss', 'normalized_entropy')
_BESIDE = ('calibration_ratio', 'ece')
# What is told after calibration, too, where a run has a calibrator.
_MENDED = ('logloss',)
_NOTHING_SHARED = 'The runs have no part in common that all of them were scored on.'


def draw(runs: Sequence[Run]) -> list[Section]:
    """The sections of several runs."""
    return [_metrics(runs), _curves(runs), _calibration(runs)]


def common_part(runs: Sequence[Run]) -> str:
    """The part whose metrics are compared: the test part where all have one; '' where they share none."""
    shared = [part for part in ('test', 'valid') if all(part in run.parts for run in runs)]
    return shared[0] if shared else ''


def same_rows(runs: Sequence[Run], part: str) -> bool:
    """Whether all runs have stored scores of the same rows of a part."""
    if len({run.fingerprint for run in runs}) > 1 or not all(part in run.scores for run in runs):
        return False
    labels = [run.scores[part]['label'] for run in runs]
    return all(np.array_equal(own, labels[0]) for own in labels)


def _metrics(runs: Sequence[Run]) -> Section:
    key, title, part = 'side-by-side', 'Side by side', common_part(runs)
    if not part:
        return missing(key, title, _NOTHING_SHARED)
    found = {run.name: scores_section.evaluations(run)[part] for run in runs}
    best = {key: _best([values.get(key) for values in found.values()], key) for key in _COMPARED}
    mended = _MENDED if any(run.calibration and part in run.scores for run in runs) else ()
    rows: list[list[Cell | Content]] = []
    for i, run in enumerate(runs, 1):
        own = found[run.name]
        cells: list[Cell | Content] = [element('a', run.name, href=f'#r{i}')]
        for name in (*_COMPARED, *_BESIDE):
            value = own.get(name)
            best_of = value is not None and value == best.get(name)
            cells.append(Cell(formatting.fixed(value, 5), value, 'best' if best_of else None))
        cells += [_calibrated(run, part, name) for name in mended]
        rows.append([*cells, _parameters(run), _seconds(run)])
    head = ['run', *map(scores_section.short_title, (*_COMPARED, *_BESIDE))]
    head += [f'{scores_section.short_title(name)}, calibrated' for name in mended]
    head += ['parameters', 'time']
    return section(
        key,
        title,
        table(
            f'Metrics of the {part} part{_before(runs)}',
            head,
            rows,
            sortable=True,
            numeric=range(1, len(head)),
        ),
        _fitted_to(runs, part) if mended else None,
        _differences(runs, found, part),
    )


def _before(runs: Sequence[Run]) -> str:
    return next((told for told in map(scores_section.before, runs) if told), '')


def _fitted_to(runs: Sequence[Run], part: str) -> Element | None:
    """That a calibrated score is of the rows that the calibrator was fitted to, where it is."""
    names = [
        run.name
        for run in runs
        if part == 'valid'
        and run.calibration
        and run.calibration['fitted'].get('fitted_to') == calibration.VALID
    ]
    if not names:
        return None
    return paragraph(
        f'The calibrated Logloss of {", ".join(names)} is of the rows that the calibrator was fitted to, on '
        'which it looks a little better than it is.',
        class_='small',
    )


def _differences(runs: Sequence[Run], found: Mapping[str, Mapping[str, Any]], part: str) -> list[Content]:
    first = runs[0]
    rows: list[list[Cell | Content]] = []
    same, bounded = same_rows(runs, part), False
    for run in runs[1:]:
        paired = uncertainty.paired(run.scores[part], first.scores[part]) if same else None
        bounded |= paired is not None
        cells: list[Cell | Content] = [run.name]
        for name in _COMPARED:
            value, base = found[run.name].get(name), found[first.name].get(name)
            difference = None if value is None or base is None else value - base
            cells.append(_difference(difference, (paired or {}).get(name)))
        rows.append(cells)
    head = ['run', *map(scores_section.short_title, _COMPARED)]
    if bounded:
        note = (
            'Intervals of 95 % are paired, on the same rows; where 0 lies outside, the difference is '
            'underlined. They are about these weights; how far seeds '
            'differ is another question.'
        )
    elif same:
        note = 'The rows are too many to resample their groups, so there are no intervals.'
    else:
        note = 'The runs were scored on different rows, so a difference may be that of the rows.'
    return [
        table(
            f'Differences from {first.name}{_before(runs)}',
            head,
            rows,
            sortable=True,
            numeric=range(1, len(head)),
        ),
        paragraph(note, class_='small'),
    ]


def _difference(value: float | None, paired: Mapping[str, float | None] | None) -> Cell:
    low, high = (paired or {}).get('low'), (paired or {}).get('high')
    if low is None or high is None:
        return Cell(formatting.signed(value, 5), value)
    told = f' {formatting.signed(low, 5)} to {formatting.signed(high, 5)}'
    # An interval without 0 in it stands out.
    return Cell(
        [formatting.signed(value, 5), element('small', told)], value, 'apart' if low * high > 0 else None
    )


def _best(values: Sequence[float | None], key: str) -> float | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return max(known) if metrics.METRICS[key].higher_is_better else min(known)


def _calibrated(run: Run, part: str, name: str) -> Cell:
    if not run.calibration or part not in run.scores:
        return Cell(formatting.NONE)
    *_, after = calibration_section.before_and_after(run, part).values()
    value = metrics.METRICS[name](after)
    return Cell(formatting.fixed(value, 5), value)


def _parameters(run: Run) -> Cell:
    parameters = (run.result or {}).get('parameters')
    count = sum(parameters.values()) if parameters else None
    return Cell(formatting.short(count), count)


def _seconds(run: Run) -> Cell:
    seconds = (run.result or {}).get('seconds')
    return Cell(formatting.duration(seconds), seconds)


def _curves(runs: Sequence[Run]) -> Section:
    key, title = 'curves', 'Training, over each other'
    named = {run.name: _evaluations(run) for run in runs}
    colours = {name: i for i, name in enumerate(named)}
    drawn = [training_course.curves(named, metric, colours) for metric in ('auc', 'logloss')]
    shown: list[Element] = [one for one in drawn if one is not None]
    if not shown:
        return missing(key, title, 'None of the runs has been evaluated yet.')
    several = any(len(run.results) > 1 for run in runs)
    told = 'Of a run with several seeds, the one that prediction uses; its own section has all.'
    return section(
        key,
        title,
        paragraph(told, class_='small') if several else None,
        element('div', shown, class_='charts'),
    )


def _evaluations(run: Run) -> list[dict[str, Any]]:
    """Evaluations of one seed: that which prediction uses; before the run's end, the first."""
    lines = [line for line in run.history if line['kind'] == 'valid']
    seed = run.best['seed'] if run.best else next((line.get('seed') for line in lines), None)
    return [line for line in lines if line.get('seed') == seed]


def _calibration(runs: Sequence[Run]) -> Section:
    key, title, part = 'calibrations', 'Calibration, over each other', common_part(runs)
    if not part:
        return missing(key, title, _NOTHING_SHARED)
    scored = [run for run in runs if part in run.scores]
    if not scored:
        return missing(
            key, title, 'None of the runs has stored scores; their own sections below say how to get them.'
        )
    bins = {run.name: reliability(run.scores[part]) for run in scored}
    title_of_diagram = f'Promised and observed click rate, {part} part{_before(runs)}'
    # The colours of the curves, also where a run has no scores.
    drawn = calibration_section.diagram(bins, title_of_diagram, {run.name: i for i, run in enumerate(runs)})
    ratios = {run.name: scores_section.evaluations(run)[part].get('calibration_ratio') for run in scored}
    bars = [charts.Bar(name, ratio - 1) for name, ratio in ratios.items() if ratio is not None]
    told = ', '.join(f'{bar.name} {formatting.signed(bar.value, 3)}' for bar in bars)
    off = None
    if bars:
        off = charts.bars(
            f'Clicks promised beyond those observed{_before(runs)}',
            f'{told}.',
            bars,
            'share of the observed clicks',
        )
    return section(key, title, element('div', [drawn, off], class_='charts natural'))
