"""Plots of a comparison as PNG: scores, curves of training, scores against parameters, sweeps.

They need matplotlib, the extra `plots`.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from dlf_jax.comparison.published_scores import PUBLISHED_METRICS
from dlf_jax.comparison.results_table import Line, Metrics, shown_metrics, values
from dlf_jax.comparison.run_list import Row, Run, RunList
from dlf_jax.comparison.runner import Outcome
from dlf_jax.comparison.settings import REFERENCE, Setting, folder_name, short_name
from dlf_jax.file_writing import writing
from dlf_jax.training.metrics import METRICS, Metric

# Colours of a setting, of the reference, and of what stays in the background.
_OWN, _REFERENCE, _QUIET = '#1f6fb4', '#d1495b', '#8a8a8a'
# Panels side by side in the plot of curves.
_CURVE_COLUMNS = 4
# Inches.
_PANEL_WIDTH = 5.5


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec('matplotlib') is not None


def write(folder: Path, run_list: RunList, outcome: Outcome, lines: Sequence[Line]) -> list[Path]:
    """Writes the plots of every dataset that has results, each atomically.

    Args:
      folder: folder of the plots.
      run_list: rows of the table and their runs.
      outcome: results of the runs.
      lines: rows of the table, from `results_table.summarise`.

    Returns:
      The files written.
    """
    written, shown = [], shown_metrics(run_list, outcome)
    for dataset in run_list.datasets:
        found = [
            (row, line)
            for row, line in zip(run_list.rows, lines, strict=True)
            if row.dataset == dataset and line['seeds']
        ]
        if not found:
            continue
        part = 'test' if any(line['test_auc_mean'] is not None for _, line in found) else 'valid'
        found = [(row, line) for row, line in found if line[f'{part}_auc_mean'] is not None]
        rows = [row for row, _ in found]
        plots: dict[str, Callable[[], Any]] = {
            'comparison': functools.partial(_comparison, found, outcome, part, shown),
            'curves': functools.partial(_curves, rows, outcome, shown),
            'parameters': functools.partial(_parameters, found, part),
        }
        for key, points in _sweeps([line for _, line in found]).items():
            name = f'sweep-{re.sub(r"[^0-9A-Za-z_.-]", "_", key)}'
            plots[name] = functools.partial(_sweep, key, points, part, shown)
        for name, plot in plots.items():
            figure = plot()
            about = f'valid part; grey: {REFERENCE}' if name == 'curves' else f'{part} part'
            figure.suptitle(f'{short_name(dataset)}, {about}')
            file = f'{folder_name(dataset, short_name(dataset))}-{name}.png'
            written.append(_save(figure, folder / file))
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
    """Draws axes and grid so that the data stands out."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(True, color='#e6e6e6', linewidth=0.8)
    axes.set_axisbelow(True)


def _comparison(found: Sequence[tuple[Row, Line]], outcome: Outcome, part: str, shown: Metrics) -> Any:
    """Draws a dot per setting with its deviation, every seed, and the published values."""
    figure = _figure(_PANEL_WIDTH * len(shown), 1.6 + 0.32 * len(found))
    panels = figure.subplots(1, len(shown), sharey=True)
    places = range(len(found))
    for axes, (key, metric) in zip(panels, shown.items(), strict=True):
        for place, (row, line) in zip(places, found, strict=True):
            colour = _REFERENCE if row.folder == REFERENCE else _OWN
            seeds = list(values(row, outcome, part, key).values())
            axes.plot(seeds, [place] * len(seeds), '|', color=_QUIET, markersize=7, zorder=2)
            mean, deviation = line[f'{part}_{key}_mean'], line[f'{part}_{key}_std']
            if mean is not None:
                axes.errorbar(mean, place, xerr=deviation, fmt='o', color=colour, capsize=3, zorder=3)
        for source, marker in (('paper', 'D'), ('leaderboard', '^')) if key in PUBLISHED_METRICS else ():
            known = [(line[f'{source}_{key}'], p) for p, (_, line) in enumerate(found)]
            known = [(x, y) for x, y in known if x is not None]
            if known:
                label = f'published, test part: {source}'
                axes.plot(*zip(*known, strict=True), marker, color=_QUIET, mfc='none', label=label)
        axes.set_xlabel(metric.label)
        _quiet(axes)
    panels[0].set_yticks(list(places), [line['name'] for _, line in found])
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc='outside lower center', ncols=2, frameon=False)
    return figure


def _curves(rows: Sequence[Row], outcome: Outcome, shown: Metrics) -> Any:
    """Draws validation metrics by epoch: a panel per setting, a line per seed, the reference behind."""
    columns = min(_CURVE_COLUMNS, len(rows))
    height = math.ceil(len(rows) / columns)
    figure = _figure(3.2 * columns + 0.6, 2.1 * len(shown) * height + 0.6)
    panels = figure.subplots(len(shown) * height, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_visible(False)
    finished = {row: [curve(run, shown) for run in row.runs if run in outcome.results] for row in rows}
    behind = next((finished[row] for row in rows if row.folder == REFERENCE), [])
    for k, (key, metric) in enumerate(shown.items()):
        limits = _limits([c[key] for curves in finished.values() for c in curves], metric)
        for place, row in enumerate(rows):
            axes = panels[len(shown) * (place // columns) + k, place % columns]
            axes.set_visible(True)
            own = _REFERENCE if row.folder == REFERENCE else _OWN
            for curves, colour, width in ((behind, '#cccccc', 0.8), (finished[row], own, 1.2)):
                for one in curves:
                    axes.plot(one['epoch'], one[key], '.-', color=colour, linewidth=width, markersize=3)
            if limits:
                axes.set_ylim(*limits)
            _quiet(axes)
            axes.tick_params(labelsize=7)
            axes.set_ylabel(metric.label if place % columns == 0 else '', fontsize=8)
            if k == 0:
                axes.set_title(row.setting.name, fontsize=9)
            if k == len(shown) - 1:
                axes.set_xlabel('epoch', fontsize=8)
    return figure


def _limits(curves: Sequence[Sequence[float]], metric: Metric) -> tuple[float, float] | None:
    """The range of the best values and as much again on the worse side: where models differ. None: all."""
    if metric.higher_is_better is None:
        return None
    known = [[value for value in curve if math.isfinite(value)] for curve in curves]
    best = [(max if metric.higher_is_better else min)(curve) for curve in known if curve]
    if not best:
        return None
    low, high = min(best), max(best)
    margin = max(high - low, 0.01)
    if metric.higher_is_better:
        return low - margin, high + 0.1 * margin
    return low - 0.1 * margin, high + margin


def curve(run: Run, keys: Iterable[str]) -> dict[str, list[float]]:
    """The evaluations of a run during training.

    Args:
      run: the run; its evaluations are in metrics.jsonl.
      keys: metrics.

    Returns:
      A list under `epoch` and under each metric; nan where it is undefined.
    """
    found: dict[str, list[float]] = {'epoch': [], **{key: [] for key in keys}}
    path = run.workdir.metrics
    for text in path.read_text().splitlines() if path.exists() else []:
        line = json.loads(text)
        if line['kind'] == 'valid':
            for key, series in found.items():
                value = line.get(key)
                series.append(math.nan if value is None else value)
    return found


def _parameters(found: Sequence[tuple[Row, Line]], part: str) -> Any:
    """Draws AUC against the number of all parameters, and of those outside the tables."""
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
    panels[0].set_ylabel(METRICS['auc'].label)
    return figure


def _logarithmic(axes: Any) -> None:
    """Sets a log scale along x with few labels: 2k, 5k, 10k; powers of ten where it is long."""
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


def _sweep(key: str, points: Sequence[tuple[float, Line]], part: str, shown: Metrics) -> Any:
    """Draws metrics against a swept key, a line per model."""
    figure = _figure(5 * len(shown), 4)
    for axes, (name, metric) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
        for model in dict.fromkeys((line['model'], line['variant']) for _, line in points):
            own = [(x, line) for x, line in points if (line['model'], line['variant']) == model]
            own = [(x, line) for x, line in own if line[f'{part}_{name}_mean'] is not None]
            means = [line[f'{part}_{name}_mean'] for _, line in own]
            spread = [line[f'{part}_{name}_std'] or 0.0 for _, line in own]
            label = Setting(*model).name
            axes.errorbar([x for x, _ in own], means, yerr=spread, fmt='o-', capsize=3, label=label)
        axes.set_xticks(sorted({x for x, _ in points}))
        axes.set_xlabel(key)
        axes.set_ylabel(metric.label)
        axes.legend(frameon=False)
        _quiet(axes)
    return figure
