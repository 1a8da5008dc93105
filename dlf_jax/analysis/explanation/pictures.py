"""Pictures of an explanation: fields, pairs, partial dependence, rows and tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from dlf_jax.analysis.explanation import drawing

# Bars of a picture; further ones are in the tables.
_BARS = 30
_PANELS = 12


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture and what is told of it.

    Attributes:
      file: its name in the folder.
      title: its heading.
      alt: what is to be seen, for those who do not see it.
      svg: text of the file.
    """

    file: str
    title: str
    alt: str
    svg: str


def pictures(found: dict[str, Any]) -> list[Picture]:
    """Draws what an explanation found; none without matplotlib.

    Args:
      found: see `explain.Explanation`.
    """
    drawn = []
    with drawing.style():
        for name, draw in _DRAWINGS.items():
            if not found[name]:
                continue
            title, alt, figure = draw(found[name])
            file = f'{name.replace("_", "-")}.svg'
            drawn.append(Picture(file, title, alt, drawing.svg(figure, alt)))
    return drawn


_Drawing = tuple[str, str, Any]


def _costs(entries: Sequence[dict[str, Any]], names: Sequence[str]) -> Any:
    """Bars of what entries cost in AUC and in Logloss, side by side."""
    figure = drawing.figure(9, 1.0 + 0.22 * len(entries))
    panels = figure.subplots(1, 2, sharey=True)
    labels = {'auc': 'loss of AUC', 'logloss': 'gain of Logloss'}
    for axes, (key, label) in zip(panels, labels.items(), strict=True):
        costs = [entry[key] for entry in entries]
        means = [cost['mean'] or 0.0 for cost in costs]
        intervals = [
            (mean if cost['low'] is None else cost['low'], mean if cost['high'] is None else cost['high'])
            for mean, cost in zip(means, costs, strict=True)
        ]
        drawing.bars(axes, names, means, intervals)
        axes.set_xlabel(f'{label}, with its 95 % interval')
    return figure


def _told(names: Sequence[str], count: int = 5) -> str:
    return ', '.join(names[:count])


def _fields(entries: list[dict[str, Any]]) -> _Drawing:
    shown = entries[:_BARS]
    names = [entry['field'] for entry in shown]
    alt = f'What permuting each field costs; most important first: {_told(names)}.'
    return 'Importance of fields', alt, _costs(shown, names)


def _groups(entries: list[dict[str, Any]]) -> _Drawing:
    shown = entries[:_BARS]
    names = [entry['group'] for entry in shown]
    alt = f'What permuting each group of fields costs; most important first: {_told(names)}.'
    return 'Importance of groups of fields', alt, _costs(shown, names)


def _pairs(entries: list[dict[str, Any]]) -> _Drawing:
    shown = entries[:_BARS]
    names = [' x '.join(drawing.shortened(name, 12) for name in entry['fields']) for entry in shown]
    figure = drawing.figure(7, 1.0 + 0.22 * len(shown))
    axes = figure.subplots()
    drawing.bars(axes, names, [100 * (entry['interaction'] or 0.0) for entry in shown])
    axes.set_xlabel("share of the logits' variance in which the two interact, %")
    alt = f'How strongly pairs of fields interact; strongest first: {_told(names)}.'
    return 'Interactions of pairs of fields', alt, figure


def _partial_dependence(entries: list[dict[str, Any]]) -> _Drawing:
    shown = entries[:_PANELS]
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    figure = drawing.figure(3.2 * columns, 2.3 * lines)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, entry in zip(panels, shown, strict=False):
        points = [(p['value'], p['probability']) for p in entry['points']]
        axes.set_title(drawing.shortened(entry['field']))
        if entry['kind'] == 'number':
            there = [point for point in points if point[0] is not None]
            axes.plot(*zip(*there, strict=True), 'o-', color=drawing.BLUE, markersize=3, linewidth=1.2)
            for _, probability in (point for point in points if point[0] is None):
                axes.axhline(probability, color=drawing.ORANGE, linestyle='--', linewidth=1, label='missing')
                axes.legend(frameon=False)
            axes.set_ylabel('probability')
            drawing.quiet(axes)
            continue
        drawing.bars(axes, [value for value, _ in points], [probability for _, probability in points])
        axes.tick_params(axis='y', labelsize=6)
        axes.set_xlabel('probability')
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    names = [entry['field'] for entry in shown]
    alt = f'Mean probability by the value of a field, for {_told(names, _PANELS)}.'
    return 'Partial dependence', alt, figure


_DRAWINGS: dict[str, Callable[[list[dict[str, Any]]], _Drawing]] = {
    'fields': _fields,
    'groups': _groups,
    'pairs': _pairs,
    'partial_dependence': _partial_dependence,
}
