"""The comparison, the course of training and the cost, as PNG. Needs matplotlib, the extra `plots`."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dlf_jax.comparison.plan import Plan, Row, Run
from dlf_jax.comparison.runner import Outcome
from dlf_jax.comparison.settings import REFERENCE
from dlf_jax.comparison.table import METRICS, Line, values
from dlf_jax.errors import writing

TITLES = {'auc': 'AUC', 'logloss': 'Logloss'}
_OWN, _REFERENCE, _QUIET = '#1f6fb4', '#d1495b', '#8a8a8a'
_CURVE_COLUMNS = 4


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec('matplotlib') is not None


def write(folder: Path, plan: Plan, outcome: Outcome, lines: Sequence[Line]) -> list[Path]:
    """Writes the plots of every dataset that has results, each at once.

    Args:
      folder: where to.
      plan: the rows.
      outcome: their results.
      lines: of `table.summarise`, as many as rows.

    Returns:
      The files written.
    """
    written = []
    for dataset in dict.fromkeys(row.dataset for row in plan.rows):
        found = [
            (row, line)
            for row, line in zip(plan.rows, lines, strict=True)
            if row.dataset == dataset and line['seeds']
        ]
        if not found:
            continue
        part = 'test' if any(line['test_auc_mean'] is not None for _, line in found) else 'valid'
        found = [(row, line) for row, line in found if line[f'{part}_auc_mean'] is not None]
        plots: dict[str, Callable[[], Any]] = {
            'comparison': lambda found=found, part=part: _comparison(found, outcome, part),
            'curves': lambda found=found: _curves([row for row, _ in found], outcome),
            'parameters': lambda found=found, part=part: _parameters(found, part),
        }
        for key, points in _sweeps([line for _, line in found]).items():
            name = f'sweep-{re.sub(r"[^0-9A-Za-z_.-]", "_", key)}'
            plots[name] = lambda key=key, points=points, part=part: _sweep(key, points, part)
        for name, plot in plots.items():
            figure = plot()
            about = f'valid part; grey: {REFERENCE}' if name == 'curves' else f'{part} part'
            figure.suptitle(f'{dataset}, {about}')
            written.append(_save(figure, folder / f'{dataset}-{name}.png'))
    return written


def _figure(width: float, height: float) -> Any:
    # Not pyplot: it keeps figures, and may look for a screen.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout='constrained')


def _save(figure: Any, path: Path) -> Path:
    temporary = path.with_name(f'.{path.name}.tmp')
    with writing(str(path)):
        figure.savefig(temporary, format='png', dpi=150)
        os.replace(temporary, path)
    return path


def _quiet(axes: Any) -> None:
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(True, color='#e6e6e6', linewidth=0.8)
    axes.set_axisbelow(True)


def _comparison(found: Sequence[tuple[Row, Line]], outcome: Outcome, part: str) -> Any:
    """A dot per setting with its deviation, every seed, and the published values."""
    figure = _figure(11, 1.6 + 0.32 * len(found))
    panels = figure.subplots(1, 2, sharey=True)
    places = range(len(found))
    for axes, metric in zip(panels, METRICS, strict=True):
        for place, (row, line) in zip(places, found, strict=True):
            colour = _REFERENCE if row.folder == REFERENCE else _OWN
            seeds = list(values(row, outcome, part, metric).values())
            axes.plot(seeds, [place] * len(seeds), '|', color=_QUIET, markersize=7, zorder=2)
            mean, deviation = line[f'{part}_{metric}_mean'], line[f'{part}_{metric}_std']
            axes.errorbar(mean, place, xerr=deviation, fmt='o', color=colour, capsize=3, zorder=3)
        for source, marker in (('paper', 'D'), ('leaderboard', '^')):
            known = [(line[f'{source}_{metric}'], p) for p, (_, line) in enumerate(found)]
            known = [(x, y) for x, y in known if x is not None]
            if known:
                label = f'published, test part: {source}'
                axes.plot(*zip(*known, strict=True), marker, color=_QUIET, mfc='none', label=label)
        axes.set_xlabel(TITLES[metric])
        _quiet(axes)
    panels[0].set_yticks(list(places), [line['name'] for _, line in found])
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc='outside lower center', ncols=2, frameon=False)
    return figure


def _curves(rows: Sequence[Row], outcome: Outcome) -> Any:
    """Validation AUC and Logloss by epoch: a panel per setting, a line per seed, the reference behind."""
    columns = min(_CURVE_COLUMNS, len(rows))
    height = math.ceil(len(rows) / columns)
    figure = _figure(3.2 * columns + 0.6, 4.2 * height + 0.6)
    panels = figure.subplots(2 * height, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_visible(False)
    finished = {row: [course(run) for run in row.runs if run in outcome.results] for row in rows}
    behind = next((finished[row] for row in rows if row.folder == REFERENCE), [])
    for k, metric in enumerate(METRICS):
        limits = _limits([c[metric] for courses in finished.values() for c in courses], metric)
        for place, row in enumerate(rows):
            axes = panels[2 * (place // columns) + k, place % columns]
            axes.set_visible(True)
            own = _REFERENCE if row.folder == REFERENCE else _OWN
            for courses, colour, width in ((behind, '#cccccc', 0.8), (finished[row], own, 1.2)):
                for one in courses:
                    axes.plot(one['epoch'], one[metric], '.-', color=colour, linewidth=width, markersize=3)
            if limits:
                axes.set_ylim(*limits)
            _quiet(axes)
            axes.tick_params(labelsize=7)
            axes.set_ylabel(TITLES[metric] if place % columns == 0 else '', fontsize=8)
            if k == 0:
                axes.set_title(row.setting.name, fontsize=9)
            else:
                axes.set_xlabel('epoch', fontsize=8)
    return figure


def _limits(courses: Sequence[Sequence[float]], metric: str) -> tuple[float, float] | None:
    """The range of the best values and as much again on the worse side: where models differ."""
    best = [(max if metric == 'auc' else min)(course) for course in courses if course]
    if not best:
        return None
    low, high = min(best), max(best)
    margin = max(high - low, 0.01)
    return (low - margin, high + 0.1 * margin) if metric == 'auc' else (low - 0.1 * margin, high + margin)


def course(run: Run) -> dict[str, list[float]]:
    """The evaluations of a run: lists under epoch, auc and logloss."""
    found: dict[str, list[float]] = {'epoch': [], 'auc': [], 'logloss': []}
    path = run.workdir.metrics
    for text in path.read_text().splitlines() if path.exists() else []:
        line = json.loads(text)
        if line['kind'] == 'valid':
            for key, those in found.items():
                those.append(line[key])
    return found


def _parameters(found: Sequence[tuple[Row, Line]], part: str) -> Any:
    """AUC against all parameters, and against those outside the tables."""
    figure = _figure(11, 5)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, dense in zip(panels, (False, True), strict=True):
        for row, line in found:
            count = line['parameters_dense'] + (0 if dense else line['parameters_table'])
            mean, deviation = line[f'{part}_auc_mean'], line[f'{part}_auc_std']
            colour = _REFERENCE if row.folder == REFERENCE else _OWN
            axes.errorbar(max(count, 1), mean, yerr=deviation, fmt='o', color=colour, capsize=3)
            axes.annotate(
                line['name'], (max(count, 1), mean), xytext=(4, 4), textcoords='offset points', fontsize=8
            )
        _logarithmic(axes)
        axes.set_xlabel('dense parameters' if dense else 'parameters, tables included')
        _quiet(axes)
    panels[0].set_ylabel(TITLES['auc'])
    return figure


def _logarithmic(axes: Any) -> None:
    """A log scale along x with few labels: 2k, 5k, 10k; powers of ten where it is long."""
    from matplotlib import ticker

    axes.set_xscale('log')
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def _sweeps(lines: Sequence[Line]) -> dict[str, list[tuple[float, Line]]]:
    """Points (value, line) by the key that alone was swept, where its values are numbers."""
    found: dict[str, list[tuple[float, Line]]] = {}
    for line in lines:
        key, _, text = line['swept'].partition('=')
        try:
            found.setdefault(key, []).append((float(text), line))
        except ValueError:
            continue
    return {key: sorted(those, key=lambda p: p[0]) for key, those in found.items() if len(those) > 1}


def _sweep(key: str, points: Sequence[tuple[float, Line]], part: str) -> Any:
    figure = _figure(10, 4)
    for axes, metric in zip(figure.subplots(1, 2), METRICS, strict=True):
        for model in dict.fromkeys((line['model'], line['variant']) for _, line in points):
            own = [(x, line) for x, line in points if (line['model'], line['variant']) == model]
            means = [line[f'{part}_{metric}_mean'] for _, line in own]
            spread = [line[f'{part}_{metric}_std'] or 0.0 for _, line in own]
            label = model[0] if model[1] == 'full' else ':'.join(model)
            axes.errorbar([x for x, _ in own], means, yerr=spread, fmt='o-', capsize=3, label=label)
        axes.set_xticks(sorted({x for x, _ in points}))
        axes.set_xlabel(key)
        axes.set_ylabel(TITLES[metric])
        axes.legend(frameon=False)
        _quiet(axes)
    return figure
