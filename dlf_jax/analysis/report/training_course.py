"""The section on the course of training: metrics over steps, the loss, the learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dlf_jax.analysis.report import charts, commands, formatting, scales
from dlf_jax.analysis.report.charts import Series
from dlf_jax.analysis.report.elements import Element, details, element, paragraph, table
from dlf_jax.analysis.report.facts import Run
from dlf_jax.analysis.report.section import SAVED, Section, missing, section
from dlf_jax.training import metrics

KEY, TITLE = 'training', 'Training'
# Metrics with a chart of their own, as far as they were computed; the table has all.
_SHOWN = ('auc', 'logloss', 'normalized_entropy', 'gauc')
_MOST_CHARTED = 3
_BESIDE = {'kind', 'step', 'seed', 'epoch', 'rows', 'rows_without_group', 'best_possible_auc'}


def draw(run: Run) -> Section:
    """The section of a run."""
    evaluations = [line for line in run.history if line['kind'] == 'valid']
    steps = [line for line in run.history if line['kind'] == 'train']
    if run.is_baseline:
        return missing(KEY, TITLE, 'A baseline is fitted in one go, so it has no course of training.')
    if not evaluations and run.saved:
        return missing(KEY, TITLE, SAVED)
    if not evaluations:
        return missing(
            KEY, TITLE, 'No evaluation is in metrics.jsonl yet; training brings them:', commands.again(run)
        )
    return section(
        KEY,
        TITLE,
        paragraph(_told(run, evaluations), class_='about'),
        element('div', [*_evaluated(run, evaluations), *_trained(steps)], class_='charts'),
        _values(run, evaluations),
    )


def _told(run: Run, evaluations: Sequence[Mapping[str, Any]]) -> str:
    count = formatting.plural(len(evaluations), 'evaluation')
    found = f'{count} on the valid part, to step {evaluations[-1]["step"]:,}.'
    best = run.best
    if best is None:
        return f'{found} Training has not come to its end.'
    found += f' The best, by {run.config.training.monitor}, is at step {best["best_step"]:,}'
    found += f' of {best["steps"]:,}; its weights are those that are scored.' if 'steps' in best else '.'
    if best.get('seconds') is not None:
        found += f' Training and evaluation took {formatting.duration(best["seconds"])}'
        rate = best.get('samples_per_second')
        found += f', at {formatting.short(rate)} samples a second.' if rate else '.'
    return found


def curves(
    named: Mapping[str, Sequence[Mapping[str, Any]]], key: str, colours: Mapping[str, int]
) -> Element | None:
    """A chart of one metric of evaluations over steps; None where none has it.

    Args:
      named: evaluations by the name of their run or seed.
      key: the metric.
      colours: number of the colour of each.
    """
    title = name_of(key)
    series = []
    for name, lines in named.items():
        known = [line for line in lines if line.get(key) is not None]
        values = [line[key] for line in known]
        tips = [
            f'{name + ", " if len(named) > 1 else ""}step {line["step"]:,}: {formatting.fixed(line[key], 5)}'
            for line in known
        ]
        if known:
            series.append(
                Series(name, [line['step'] for line in known], values, colour=colours[name], tips=tips)
            )
    if not series:
        return None
    x = scales.spanning('step', [0, *(v for s in series for v in s.x)], zero=True, text=formatting.short)
    y = scales.spanning('', [v for s in series for v in s.y])
    told = '; '.join(
        f'{s.name} from {formatting.fixed(s.y[0])} to {formatting.fixed(s.y[-1])}' for s in series[:8]
    )
    return charts.chart(f'{title} on the valid part', f'{title} over steps: {told}.', series, x, y)


def name_of(key: str) -> str:
    """Title of a metric of results."""
    metric = metrics.METRICS.get(key)
    return metric.title if metric else key.replace('_', ' ')


def _by_seed(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        found.setdefault(f'seed {line["seed"]}', []).append(line)
    return found


def _evaluated(run: Run, evaluations: Sequence[Mapping[str, Any]]) -> list[Element]:
    named = _by_seed(evaluations)
    colours = {name: i for i, name in enumerate(named)}
    keys = [run.config.training.monitor, *_SHOWN]
    keys = [key for key in dict.fromkeys(keys) if any(line.get(key) is not None for line in evaluations)]
    drawn = [curves(named, key, colours) for key in keys[:_MOST_CHARTED]]
    return [one for one in drawn if one is not None]


def _trained(steps: Sequence[Mapping[str, Any]]) -> list[Element]:
    drawn = []
    for key, title, log in (('loss', 'Training loss', False), ('learning_rate', 'Learning rate', True)):
        series = []
        for i, (name, lines) in enumerate(_by_seed(steps).items()):
            known = [line for line in lines if line.get(key) is not None]
            if known:
                series.append(Series(name, [k['step'] for k in known], [k[key] for k in known], colour=i))
        if not series:
            continue
        x = scales.spanning('step', [0, *(v for s in series for v in s.x)], zero=True, text=formatting.short)
        y = scales.spanning('', [v for s in series for v in s.y], log=log)
        first, last = series[0].y[0], series[0].y[-1]
        told = f'{title} over steps, from {formatting.short(first)} to {formatting.short(last)}.'
        drawn.append(charts.chart(title, told, series, x, y))
    return drawn


def _values(run: Run, evaluations: Sequence[Mapping[str, Any]]) -> Element:
    keys = [key for key in dict.fromkeys(k for line in evaluations for k in line) if key not in _BESIDE]
    several = len({line['seed'] for line in evaluations}) > 1
    head = ['step', *(['seed'] if several else []), 'epoch', *(name_of(key) for key in keys)]
    rows = [
        [
            formatting.count(line['step']),
            *([str(line['seed'])] if several else []),
            formatting.fixed(line.get('epoch'), 2),
            *(formatting.fixed(line.get(key), 5) for key in keys),
        ]
        for line in evaluations
    ]
    caption = 'Evaluations on the valid part'
    return details(
        'All evaluations as a table',
        table(caption, head, rows, numeric=range(len(head)), hidden_caption=True),
    )
