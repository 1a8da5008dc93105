"""Pictures of an explanation: fields, pairs, partial dependence, rows and tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from dlf_jax.analysis.explanation import dlf_pictures, drawing

# Bars of a picture; further ones are in the tables.
_BARS = 30
_PANELS = 12
# Rows that are drawn, and fields of each.
_ROWS, _LARGEST = 8, 8


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


# Title, what is to be seen, and the figure.
_Drawing = tuple[str, str, Any]


def pictures(found: dict[str, Any], attention: list[dict[str, Any]]) -> list[Picture]:
    """Draws what an explanation found; needs matplotlib.

    Args:
      found: see `explain.Explanation`.
      attention: lines of the table of DLF's attention.
    """
    drawn = []
    with drawing.style():
        made: dict[str, _Drawing | None] = {
            name: draw(found[name]) for name, draw in _DRAWINGS.items() if found[name]
        }
        if dlf := found['dlf']:
            made |= {
                'dlf-pathways': dlf_pictures.pathways(dlf),
                'dlf-gates': dlf_pictures.gates(dlf),
                'dlf-attention': dlf_pictures.attention(dlf, attention),
            }
        for name, drawing_of in made.items():
            if drawing_of is not None:
                title, alt, figure = drawing_of
                file = f'{name.replace("_", "-")}.svg'
                drawn.append(Picture(file, title, alt, drawing.svg(figure, alt)))
    return drawn


def _costs(entries: Sequence[dict[str, Any]], names: Sequence[str]) -> Any:
    """Bars of what entries cost in AUC and in Logloss, side by side."""
    figure = drawing.figure(9, 1.0 + 0.22 * len(entries))
    panels = figure.subplots(1, 2, sharey=True)
    labels = {'auc': 'loss of AUC', 'logloss': 'gain of Logloss'}
    for axes, (key, label) in zip(panels, labels.items(), strict=True):
        costs = [entry[key] for entry in entries]
        means = [cost['mean'] or 0.0 for cost in costs]
        drawing.bars(axes, names, means, [drawing.interval(cost) for cost in costs])
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
    # One range for all, or a field that hardly matters would look like one that does.
    every = [p['probability'] for entry in shown for p in entry['points']]
    room = 0.05 * (max(every, default=1.0) - min(every, default=0.0)) or 0.01
    ends = min(every, default=0.0) - room, max(every, default=1.0) + room
    for axes, entry in zip(panels, shown, strict=False):
        points = [(p['value'], p['probability']) for p in entry['points']]
        axes.set_title(drawing.shortened(entry['field']))
        if entry['kind'] == 'number':
            there = [point for point in points if point[0] is not None]
            if there:
                axes.plot(*zip(*there, strict=True), 'o-', color=drawing.BLUE, markersize=3, linewidth=1.2)
            for _, probability in (point for point in points if point[0] is None):
                axes.axhline(probability, color=drawing.ORANGE, linestyle='--', linewidth=1, label='missing')
                axes.legend(frameon=False)
            axes.set_ylabel('probability')
            axes.set_ylim(*ends)
            drawing.quiet(axes)
            continue
        drawing.dots(axes, [value for value, _ in points], [probability for _, probability in points])
        axes.tick_params(axis='y', labelsize=6)
        axes.set_xlabel('probability')
        axes.set_xlim(*ends)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    names = [entry['field'] for entry in shown]
    alt = f'Mean probability by the value of a field, for {_told(names, _PANELS)}.'
    return 'Partial dependence', alt, figure


def _attributions(entries: list[dict[str, Any]]) -> _Drawing:
    shown = entries[:_ROWS]
    columns = min(2, len(shown))
    lines = -(-len(shown) // columns)
    figure = drawing.figure(4.8 * columns, 2.6 * lines)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, entry in zip(panels, shown, strict=False):
        largest = entry['fields'][:_LARGEST]
        names = [f'{f["field"]} = {_value(f["value"])}' for f in largest]
        drawing.bars(axes, names, [f['attribution'] for f in largest])
        axes.set_title(
            f'row {entry["row"]:,}: {entry["probability"]:.3f}, from {entry["baseline_probability"]:.3f}'
        )
        axes.set_xlabel('part of the logit, in its units')
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    told = ', '.join(f'row {entry["row"]}: {entry["fields"][0]["field"]}' for entry in shown)
    return 'What single rows are scored by', f'Attributions of rows; largest field of each: {told}.', figure


def _value(value: str | float | None) -> str:
    return '(missing)' if value is None else f'{value:g}' if isinstance(value, float) else value


def _embeddings(entries: list[dict[str, Any]]) -> _Drawing | None:
    wide = [entry for entry in entries if entry['width'] > 1 and entry['effective_rank'] is not None]
    if not wide:
        return None
    shown = sorted(wide, key=lambda entry: entry['effective_rank'] / entry['width'])[:_BARS]
    several = len({entry['table'] for entry in shown}) > 1
    names = [f'{e["field"]} ({e["table"]})' if several else e['field'] for e in shown]
    figure = drawing.figure(9, 1.0 + 0.22 * len(shown))
    left, right = figure.subplots(1, 2, sharey=True)
    drawing.bars(left, names, [entry['effective_rank'] for entry in shown])
    left.set_xlabel(f'effective rank, of at most {max(entry["width"] for entry in shown)}')
    dead = [100 * (e['dead'] + e['duplicated']) / max(e['rows'], 1) for e in shown]
    drawing.bars(right, names, dead, colour=drawing.ORANGE)
    right.set_xlim(0, max(5.0, 1.05 * max(dead)))
    right.set_xlabel('rows that are dead or duplicated, %')
    alt = f'Effective rank of each field and its rows of no use; lowest rank: {_told(names)}.'
    return 'Health of embeddings', alt, figure


_DRAWINGS: dict[str, Callable[[list[dict[str, Any]]], _Drawing | None]] = {
    'fields': _fields,
    'groups': _groups,
    'pairs': _pairs,
    'partial_dependence': _partial_dependence,
    'attributions': _attributions,
    'embeddings': _embeddings,
}
