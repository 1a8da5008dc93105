"""Charts as SVG: lines, points with intervals, steps, bars.

They are drawn here and not by a script in the page, so that they are there without one, in print and for
readers that speak; a library that draws in the browser would leave a canvas that is none of these, and adds
50 kB (uPlot) to 4 MB (Plotly) to what `assets/page.js` does in a few lines: show the value under the pointer.
Colours and lines are classes, which the style sheet gives for light and dark.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

from dlf_jax.analysis.report import elements, formatting
from dlf_jax.analysis.report.elements import Element, element
from dlf_jax.analysis.report.scales import Axis

# Colours of the style sheet, which differ in dash and shade too.
COLOURS = 6
# Units of the drawing, which are pixels where there is room.
_WIDTH, _HEIGHT = 440.0, 270.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 14.0, 26.0, 40.0


@dataclasses.dataclass(frozen=True)
class Series:
    """Points of a chart that belong together.

    Attributes:
      name: what they are of.
      x: places along the chart.
      y: heights; None where there is none.
      low: lower ends of intervals; empty: no intervals.
      high: upper ends.
      colour: number of the colour, from 0 on.
      tips: text of each point; empty: its numbers.
      labels: names that are written beside the points; empty: none.
      steps: whether each point is a step from its x to the next point's, filled below.
      joined: whether a line joins the points.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    colour: int = 0
    tips: Sequence[str] = ()
    labels: Sequence[str] = ()
    steps: bool = False
    joined: bool = True


@dataclasses.dataclass(frozen=True)
class Bar:
    """A bar of a chart of bars.

    Attributes:
      name: what it is of.
      value: its length.
      low: lower end of an interval; None: no interval.
      high: upper end.
      tip: its text; '': its number.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    tip: str = ''


def colour(number: int) -> str:
    """Class of a series' colour."""
    return f'c{number % COLOURS + 1}'


def chart(
    title: str,
    description: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    diagonal: bool = False,
    lines: Sequence[tuple[float, str]] = (),
) -> Element:
    """A chart of one or several series, as a figure with its legend.

    Args:
      title: what it shows, in a few words.
      description: what is to be seen in it, for those who do not see it.
      series: in the order of the legend.
      x: its axis.
      y: its axis.
      diagonal: whether a line of equal x and y is drawn.
      lines: heights that are marked by a line, with their names.
    """

    def at(px: float, py: float) -> tuple[float, float]:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * x.place(px), _HEIGHT - _BOTTOM - _inner() * y.place(py)

    drawn = [*_frame(x, y)]
    if diagonal:
        low, high = max(x.low, y.low), min(x.high, y.high)
        (x1, y1), (x2, y2) = at(low, low), at(high, high)
        drawn.append(element('line', x1=x1, y1=y1, x2=x2, y2=y2, class_='reference'))
    for height, name in lines:
        place = at(x.low, height)[1]
        drawn.append(element('line', x1=_LEFT, x2=_WIDTH - _RIGHT, y1=place, y2=place, class_='reference'))
        drawn.append(element('text', name, x=_WIDTH - _RIGHT, y=place - 5, class_='mark end'))
    for one in series:
        drawn.append(element('g', _series(one, at, x, y), class_=f'series {colour(one.colour)}'))
    return elements.figure(title, _legend(series), _svg(title, description, drawn, _WIDTH, _HEIGHT))


def _inner() -> float:
    return _HEIGHT - _TOP - _BOTTOM


def _frame(x: Axis, y: Axis) -> list[Element]:
    found, bottom = [], _HEIGHT - _BOTTOM
    for value, text in y.marked():
        place = bottom - _inner() * y.place(value)
        found.append(element('line', x1=_LEFT, x2=_WIDTH - _RIGHT, y1=place, y2=place, class_='grid'))
        found.append(element('text', text, x=_LEFT - 7, y=place + 4, class_='mark end'))
    for value, text in x.marked():
        place = _LEFT + (_WIDTH - _LEFT - _RIGHT) * x.place(value)
        found.append(element('line', x1=place, x2=place, y1=bottom, y2=bottom + 4, class_='axis'))
        found.append(element('text', text, x=place, y=bottom + 17, class_='mark middle'))
    found.append(element('line', x1=_LEFT, x2=_WIDTH - _RIGHT, y1=bottom, y2=bottom, class_='axis'))
    centre = (_LEFT + _WIDTH - _RIGHT) / 2
    found.append(element('text', x.label, x=centre, y=_HEIGHT - 5, class_='label middle'))
    if y.label:
        found.append(element('text', y.label, x=2, y=12, class_='label'))
    return found


def _series(one: Series, at: object, x: Axis, y: Axis) -> list[Element]:
    assert callable(at)
    known = [i for i, value in enumerate(one.y) if value is not None and math.isfinite(value)]
    points = [at(one.x[i], one.y[i]) for i in known]
    found: list[Element] = []
    if one.steps and points:
        ends = [*(p[0] for p in points[1:]), at(x.high, y.low)[0]]
        bottom = _HEIGHT - _BOTTOM
        path = f'M{points[0][0]:.1f} {bottom:.1f}'
        path += ''.join(f'V{py:.1f}H{end:.1f}' for (_, py), end in zip(points, ends, strict=True))
        found.append(element('path', d=f'{path}V{bottom:.1f}Z', class_='area'))
        found.append(element('path', d=path, class_='line'))
        points = [((px + end) / 2, py) for (px, py), end in zip(points, ends, strict=True)]
    elif one.joined and len(points) > 1:
        found.append(element('path', d=_line(one, known, points, y), class_='line'))
    for i, (px, py) in zip(known, points, strict=True):
        if one.low and one.low[i] is not None and one.high[i] is not None:
            y1, y2 = at(one.x[i], one.low[i])[1], at(one.x[i], one.high[i])[1]
            found.append(element('line', x1=px, x2=px, y1=y1, y2=y2, class_='whisker'))
        shown = formatting.short
        tip = one.tips[i] if one.tips else f'{one.name}: {shown(one.y[i])} at {shown(one.x[i])}'
        # Many points would hide their own line; they are there for the pointer.
        quiet = one.steps or (one.joined and len(points) > 40)
        mark = element('circle', element('title', tip), cx=px, cy=py, r=3.0, class_='point')
        if quiet:
            mark.set('class', 'point quiet')
        found.append(mark)
        if one.labels:
            # To the left where there is no room to the right.
            late = px > _WIDTH - 110
            side = {'x': px - 7, 'class_': 'name end'} if late else {'x': px + 7, 'class_': 'name'}
            found.append(element('text', _shortened(one.labels[i], 16), y=py + 4, **side))
    return found


def _line(one: Series, known: Sequence[int], points: Sequence[tuple[float, float]], y: Axis) -> str:
    """The line through points; none between two that lie beyond the same end of the axis."""
    heights = [one.y[i] or 0.0 for i in known]
    path = f'M{points[0][0]:.1f} {points[0][1]:.1f}'
    for (before, height), (px, py) in zip(itertools.pairwise(heights), points[1:], strict=True):
        beyond = max(before, height) < y.low or min(before, height) > y.high
        path += f'{"M" if beyond else "L"}{px:.1f} {py:.1f}'
    return path


def _legend(series: Sequence[Series]) -> Element | None:
    if len(series) < 2:
        return None
    return legend([(one.name, one.colour) for one in series])


def legend(names: Sequence[tuple[str, int]]) -> Element:
    """Names with their colours."""
    items = [
        element(
            'li',
            element(
                'svg',
                element('line', x1=1, x2=21, y1=6, y2=6, class_='line'),
                width=22, height=12, viewBox='0 0 22 12', aria_hidden='true', class_=colour(number),
            ),
            name,
        )
        for name, number in names
    ]  # fmt: skip
    return element('ul', items, class_='legend')


def bars(title: str, description: str, found: Sequence[Bar], label: str, number: int = 0) -> Element:
    """A chart of horizontal bars from 0, in the order given.

    Args:
      title: what it shows, in a few words.
      description: what is to be seen in it, for those who do not see it.
      found: the bars.
      label: what their length measures.
      number: number of the colour.
    """
    left, line = 130.0, 24.0
    ends = [
        v for bar in found for v in (bar.value, bar.low, bar.high, 0.0) if v is not None and math.isfinite(v)
    ]
    low, high = min(ends, default=0.0), max(ends, default=0.0)
    axis = Axis(label, low, high if high > low else low + 1.0)
    height = _TOP + line * len(found) + _BOTTOM
    bottom = height - _BOTTOM

    def at(value: float) -> float:
        return left + (_WIDTH - left - _RIGHT - 8) * axis.place(value)

    drawn = []
    for value, text in axis.marked(4):
        drawn.append(element('line', x1=at(value), x2=at(value), y1=_TOP, y2=bottom, class_='grid'))
        drawn.append(element('text', text, x=at(value), y=bottom + 17, class_='mark middle'))
    drawn.append(element('text', label, x=(left + _WIDTH) / 2, y=height - 5, class_='label middle'))
    for i, bar in enumerate(found):
        top, start = _TOP + line * i + 5, min(at(0.0), at(bar.value))
        whisker = None
        if bar.low is not None and bar.high is not None:
            middle = top + (line - 10) / 2
            whisker = element('line', x1=at(bar.low), x2=at(bar.high), y1=middle, y2=middle, class_='whisker')
        group = element(
            'g',
            element('title', bar.tip or f'{bar.name}: {formatting.short(bar.value)}'),
            element('text', _shortened(bar.name, 19), x=left - 8, y=top + 11, class_='name end'),
            element(
                'rect', x=start, y=top, width=max(abs(at(bar.value) - at(0.0)), 1.0), height=line - 10,
                rx=2, class_='bar',
            ),
            whisker,
            class_=f'point {colour(number)}',
        )  # fmt: skip
        drawn.append(group)
    drawn.append(element('line', x1=at(0.0), x2=at(0.0), y1=_TOP, y2=bottom, class_='axis'))
    return elements.figure(title, _svg(title, description, drawn, _WIDTH, height))


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f'{text[: length - 1]}…'


def share_bar(share: float) -> Element:
    """A small bar of a share from 0 to 1, beside its number in a table."""
    width = 48.0
    return element(
        'svg',
        element('rect', width=width, height=6, rx=3, class_='track'),
        element('rect', width=max(width * min(max(share, 0.0), 1.0), 1.0), height=6, rx=3, class_='bar'),
        width=48, height=6, viewBox='0 0 48 6', aria_hidden='true', class_='share c1',
    )  # fmt: skip


def _svg(title: str, description: str, drawn: Sequence[Element], width: float, height: float) -> Element:
    # The titles of points are the pointer's tips; the drawing as a whole is told to readers that speak.
    return element(
        'svg',
        element('desc', description),
        drawn,
        viewBox=f'0 0 {width:.0f} {height:.0f}',
        role='img',
        aria_label=f'{title}. {description}',
        class_='chart',
    )
