"""The section on calibration: promised beside observed click rates, and the scores of clicks and the rest."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from dlf_jax.analysis import calibration
from dlf_jax.analysis.reliability import Bin, reliability
from dlf_jax.analysis.report import charts, commands, formatting, scales, scores_section
from dlf_jax.analysis.report.charts import Series
from dlf_jax.analysis.report.elements import Cell, Content, Element, details, element, paragraph, table
from dlf_jax.analysis.report.facts import Run
from dlf_jax.analysis.report.scales import Axis
from dlf_jax.analysis.report.section import SAVED, Section, missing, note, section
from dlf_jax.serving.calibrator import Calibrator
from dlf_jax.training import metrics
from dlf_jax.training.probability_metrics import sigmoid
from dlf_jax.training.stored_scores import Scores

KEY, TITLE = 'calibration', 'Is the probability right?'
# Probabilities that an axis of logits is marked with.
_MARKS = {
    1e-6: '0.0001 %', 1e-4: '0.01 %', 1e-3: '0.1 %', 0.01: '1 %', 0.1: '10 %', 0.5: '50 %', 0.9: '90 %',
    0.99: '99 %', 0.999: '99.9 %', 0.9999: '99.99 %', 1 - 1e-6: '99.9999 %',
}  # fmt: skip
_HISTOGRAM_BINS = 40
# Probabilities that differ by more than this factor are shown on log axes.
_WIDE = 30.0
# Rates below this are shown as this.
_LEAST = 1e-5
_NAMES = ('promised', 'observed')
# What calibration is to mend, and AUC, which it is to leave.
_CHANGED = ('logloss', 'normalized_entropy', 'calibration_ratio', 'ece', 'brier', 'auc')


def draw(run: Run) -> Section:
    """The section of a run."""
    if not run.scores and run.saved:
        return missing(KEY, TITLE, SAVED)
    if not run.scores:
        return missing(
            KEY,
            TITLE,
            'The reliability diagram and the histograms need the scores of the rows, which training stores '
            'when it ends:',
            commands.again(run),
        )
    part = next(iter(run.scores))
    moments = before_and_after(run, part)
    binned = {name: reliability(scores) for name, scores in moments.items()}
    last = next(reversed(binned))
    named = binned if len(binned) > 1 else {run.model: binned[last]}
    drawn = [
        diagram(named, f'Promised and observed click rate, {part} part'),
        histogram(moments[last], f'Scores of clicks and of the rest, {part} part'),
    ]
    return section(
        KEY,
        TITLE,
        paragraph(_told(part, binned[last], calibrated=len(binned) > 1), class_='about'),
        element('div', drawn, class_='charts'),
        _values(binned[last], part),
        _compared(run) if run.calibration else _no_calibrator(run),
    )


def before_and_after(run: Run, part: str) -> dict[str, Scores]:
    """Scores of a part `before calibration`, and, where the folder has a calibrator, `after calibration`."""
    scores, found = run.scores[part], run.calibration
    if not found:
        return {'before calibration': scores}
    if found['fitted'].get('downsampled'):
        # Its rows are a share of the negatives, as training had them; they weigh as all of them did.
        scores = calibration.restored(scores, found['negatives_kept'])
    after = {**scores, 'logit': Calibrator.from_json(found).logits(scores['logit'])}
    return {'before calibration': scores, 'after calibration': after}


def _compared(run: Run) -> Content:
    found = run.calibration or {}
    wanted = metrics.selected(run.config)
    moments = {part: before_and_after(run, part) for part in run.scores}
    rows: list[list[Cell | Content]] = []
    for key in (key for key in _CHANGED if key in wanted):
        values = [wanted[key](scores) for of in moments.values() for scores in of.values()]
        cells = [Cell(formatting.fixed(value, 5), value) for value in values]
        rows.append([scores_section.title_of(key), *cells])
    head = ['metric', *(f'{part}, {moment}' for part in moments for moment in ('before', 'after'))]
    how = f'{found["method"]}, fitted to {found["fitted"].get("fitted_to", "labelled rows")}'
    return [
        element('h3', 'Before and after calibration'),
        paragraph(
            f'By {how}, on which it looks a little better than it is. Prediction, the server and exports '
            'apply it.',
            class_='about',
        ),
        table('Before and after', head, rows, numeric=range(1, len(head)), hidden_caption=True),
    ]


def _no_calibrator(run: Run) -> Content:
    command = commands.mode(run, 'calibrate', '--config.calibration.method=temperature')
    return note('The folder has no calibrator; this fits one to the validation part:', command)


def _told(part: str, bins: Sequence[Bin], calibrated: bool) -> str:
    inside = sum(b.low <= b.probability <= b.high for b in bins)
    when = 'After calibration it' if calibrated else 'It'
    return (
        f'Rows of the {part} part in {len(bins)} bins of about equal weight, from the lowest score to the '
        f'highest. On the diagonal the probability is right. {when} lies inside of the interval of 95 % in '
        f'{inside} of the {len(bins)} bins.'
    )


def diagram(
    named: Mapping[str, Sequence[Bin]], title: str, colours: Mapping[str, int] | None = None
) -> Element:
    """A reliability diagram of one or several runs.

    Args:
      named: bins by run.
      title: of the chart.
      colours: number of the colour of each; None: in their order.
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
        colour = i if colours is None else colours[name]
        series.append(Series(name, *points, *ends, colour=colour, tips=tips))
    rates = [[getattr(b, name) for bins in named.values() for b in bins] for name in ('probability', 'rate')]
    log = any(_differ(values) for values in rates)
    # Intervals are shown whole, but for lower ends so far down that they would flatten all the rest.
    least = min((rate for rate in rates[1] if rate > 0), default=_LEAST) / 10 if log else 0.0
    rates[1] += [end for bins in named.values() for b in bins for end in (b.high, max(b.low, least))]
    x, y = (_rates(f'{name} click rate', values, log) for name, values in zip(_NAMES, rates, strict=True))
    told = '; '.join(
        f'{name}: {len(bins)} bins, observed less promised from '
        f'{formatting.percent(min(b.rate - b.probability for b in bins))} to '
        f'{formatting.percent(max(b.rate - b.probability for b in bins))}'
        for name, bins in named.items()
        if bins
    )
    return charts.chart(title, f'{told}.', series, x, y, diagonal=True)


def _differ(rates: Sequence[float]) -> bool:
    """Whether rates differ by so much that equal ratios should be equal distances."""
    above = [rate for rate in rates if rate > 0]
    return bool(above) and max(above) / min(above) > _WIDE


def _rates(label: str, rates: Sequence[float], log: bool) -> Axis:
    """An axis of click rates, of logarithms down to the least that is shown."""
    if not log:
        return scales.spanning(label, [*rates, 0.0], text=formatting.round_percent)
    above = [max(rate, _LEAST) for rate in rates]
    axis = scales.spanning(label, above, log=True, text=formatting.round_percent)
    if min(rates, default=1.0) >= _LEAST:
        return axis
    axis = dataclasses.replace(axis, low=_LEAST)
    # What is below lies at the axis's beginning.
    others = [(value, text) for value, text in axis.marked() if value > 1.5 * _LEAST]
    return dataclasses.replace(axis, marks=[(_LEAST, f'≤ {formatting.round_percent(_LEAST)}'), *others])


def histogram(scores: Mapping[str, np.ndarray], title: str) -> Element:
    """Histograms of the scores of rows with and without a click, each as shares of its own rows.

    Args:
      scores: `logit`, `label`, `weight`, [rows].
      title: of the chart.
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
    marks = [(math.log(p / (1 - p)), text) for p, text in _MARKS.items()]
    x = Axis('predicted probability', float(edges[0]), float(edges[-1]), marks=_apart(marks, edges))
    y = scales.spanning(
        'share of rows', [0, *(v for s in series for v in s.y)], zero=True, text=formatting.round_percent
    )
    half = {s.name: _median(logits, weights, clicks == bool(s.colour)) for s in series}
    middles = '; '.join(
        f'half of the rows {name} have at most {formatting.percent(middle)}' for name, middle in half.items()
    )
    return charts.chart(title, f'{middles}.', series, x, y)


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
