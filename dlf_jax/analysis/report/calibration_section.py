"""The section on calibration: promised beside observed click rates, and the scores of clicks and the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from dlf_jax.analysis.reliability import Bin, reliability
from dlf_jax.analysis.report import charts, commands, formatting, scales
from dlf_jax.analysis.report.charts import Series
from dlf_jax.analysis.report.elements import Content, Element, details, element, paragraph, table
from dlf_jax.analysis.report.facts import Run
from dlf_jax.analysis.report.scales import Axis
from dlf_jax.analysis.report.section import Section, missing, section
from dlf_jax.training.probability_metrics import sigmoid

KEY, TITLE = 'calibration', 'Is the probability right?'
# Probabilities that an axis of logits is marked with.
_MARKS = (1e-6, 1e-4, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1 - 1e-6)
_HISTOGRAM_BINS = 40
# Probabilities that differ by more than this factor are shown on log axes.
_WIDE = 30.0


def draw(run: Run) -> Section:
    """The section of a run."""
    if not run.scores:
        return missing(
            KEY,
            TITLE,
            'The reliability diagram and the histograms need the scores of the rows, which training stores '
            'when it ends:',
            commands.again(run),
        )
    part, scores = next(iter(run.scores.items()))
    bins = reliability(scores)
    return section(
        KEY,
        TITLE,
        paragraph(_told(part, bins), class_='about'),
        element(
            'div',
            [
                diagram({run.model: bins}, f'Promised and observed click rate, {part} part'),
                histogram(scores, part),
            ],
            class_='charts',
        ),
        _values(bins, part),
    )


def _told(part: str, bins: Sequence[Bin]) -> str:
    inside = sum(b.low <= b.probability <= b.high for b in bins)
    return (
        f'Rows of the {part} part in {len(bins)} bins of about equal weight, from the lowest score to the '
        f'highest. On the diagonal the probability is right; it lies inside of the interval of 95 % in '
        f'{inside} of the {len(bins)} bins.'
    )


def diagram(named: Mapping[str, Sequence[Bin]], title: str) -> Element:
    """A reliability diagram of one or several runs.

    Args:
      named: bins by run.
      title: of the chart.
    """
    series = []
    for i, (name, bins) in enumerate(named.items()):
        tips = [
            f'{name + ": " if len(named) > 1 else ""}promised {formatting.percent(b.probability)}, observed '
            f'{formatting.percent(b.rate)} ({formatting.percent(b.low)} to {formatting.percent(b.high)}) of '
            f'{formatting.count(b.rows)} rows'
            for b in bins
        ]
        points = [b.probability for b in bins], [b.rate for b in bins]
        ends = [b.low for b in bins], [b.high for b in bins]
        series.append(Series(name, *points, *ends, colour=i, tips=tips))
    values = [v for bins in named.values() for b in bins for v in (b.probability, b.rate)]
    above = [v for v in values if v > 0]
    log = bool(above) and max(above) / min(above) > _WIDE
    x, y = (
        scales.spanning(label, [*values, *([] if log else [0.0])], log=log, text=formatting.round_percent)
        for label in ('promised click rate', 'observed click rate')
    )
    told = '; '.join(
        f'{name}: {len(bins)} bins, observed less promised from '
        f'{formatting.percent(min(b.rate - b.probability for b in bins))} to '
        f'{formatting.percent(max(b.rate - b.probability for b in bins))}'
        for name, bins in named.items()
        if bins
    )
    return charts.chart(title, f'{told}.', series, x, y, diagonal=True)


def histogram(scores: Mapping[str, np.ndarray], part: str) -> Element:
    """Histograms of the scores of rows with and without a click, each as shares of its own rows.

    Args:
      scores: `logit`, `label`, `weight`, [rows].
      part: its name.
    """
    logits, weights = (np.asarray(scores[name], np.float64) for name in ('logit', 'weight'))
    clicks = np.asarray(scores['label']) > 0.5
    low, high = np.quantile(logits, [0.0005, 0.9995]) if len(logits) else (-1.0, 1.0)
    edges = np.linspace(low - 1e-6, high + 1e-6, _HISTOGRAM_BINS + 1)
    series = []
    for i, (name, chosen) in enumerate((('without a click', ~clicks), ('with a click', clicks))):
        total = weights[chosen].sum()
        if not total:
            continue
        inside = np.clip(logits[chosen], edges[0], edges[-1])
        shares = np.histogram(inside, edges, weights=weights[chosen])[0] / total
        tips = [
            f'{name}: {formatting.percent(share)} between {formatting.percent(a)} and {formatting.percent(b)}'
            for share, a, b in zip(shares, sigmoid(edges[:-1]), sigmoid(edges[1:]), strict=True)
        ]
        series.append(Series(name, edges[:-1].tolist(), shares.tolist(), colour=i, tips=tips, steps=True))
    marks = [(math.log(p / (1 - p)), formatting.round_percent(p)) for p in _MARKS]
    x = Axis('predicted probability', float(edges[0]), float(edges[-1]), marks=_apart(marks, edges))
    y = scales.spanning(
        'share of rows', [0, *(v for s in series for v in s.y)], zero=True, text=formatting.percent
    )
    half = {s.name: _median(logits, weights, clicks == bool(s.colour)) for s in series}
    middles = '; '.join(
        f'half of the rows {name} have at most {formatting.percent(middle)}' for name, middle in half.items()
    )
    return charts.chart(f'Scores of clicks and of the rest, {part} part', f'{middles}.', series, x, y)


def _apart(marks: Sequence[tuple[float, str]], edges: np.ndarray) -> list[tuple[float, str]]:
    """The marks on an axis that do not run into each other."""
    kept: list[tuple[float, str]] = []
    for value, text in marks:
        near = kept and value - kept[-1][0] < 0.13 * (edges[-1] - edges[0])
        if edges[0] <= value <= edges[-1] and not near:
            kept.append((value, text))
    return kept


def _median(logits: np.ndarray, weights: np.ndarray, chosen: np.ndarray) -> float:
    order = np.argsort(logits[chosen])
    below = np.cumsum(weights[chosen][order])
    place = np.searchsorted(below, below[-1] / 2)
    return float(sigmoid(logits[chosen][order][place : place + 1])[0])


def _values(bins: Sequence[Bin], part: str) -> Content:
    rows = [
        [
            str(i),
            formatting.count(b.rows),
            formatting.percent(b.probability),
            formatting.percent(b.rate),
            f'{formatting.percent(b.low)} to {formatting.percent(b.high)}',
        ]
        for i, b in enumerate(bins, 1)
    ]
    head = ['bin', 'rows', 'promised', 'observed', '95 % interval']
    caption = f'Promised and observed click rates by bin, {part} part'
    return details(
        'The bins as a table', table(caption, head, rows, numeric=range(1, 5), hidden_caption=True)
    )
