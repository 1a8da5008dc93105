"""Metrics by the values of a column: for whom the model is worst."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from dlf_jax.training.metrics import METRICS

# Value of the rows whose own are not among the top ones; of rows without a value; of values that the training
# part did not have.
REST, MISSING, UNKNOWN = 'the rest', '(missing)', '(unknown to the model)'
_METRICS = ('auc', 'normalized_entropy', 'calibration_ratio', 'logloss')


@dataclasses.dataclass(frozen=True)
class Segment:
    """Rows that have a value of a column in common.

    Attributes:
      column: name of the column.
      value: the value, as text.
      rows: number of rows.
      rate: their mean label, weighted; None where their weights are all 0.
      auc: None where undefined, as are the others.
      normalized_entropy: see `training.probability_metrics`; of the segment's own rate.
      calibration_ratio: promised clicks by observed ones.
      logloss: mean of the rows.
      clicks: number of rows with a click.
      rest: whether they are all the rows whose own value is not among the top ones.
    """

    column: str
    value: str
    rows: int
    rate: float | None
    auc: float | None
    normalized_entropy: float | None
    calibration_ratio: float | None
    logloss: float | None
    clicks: int = 0
    rest: bool = False


def segments(
    column: str,
    codes: np.ndarray,
    names: Sequence[str],
    scores: Mapping[str, np.ndarray],
    top: int = 20,
    rows: np.ndarray | None = None,
) -> list[Segment]:
    """Metrics of each value of a column; the worst first.

    Args:
      column: its name.
      codes: place of each entry's value in `names`, int [entries].
      names: texts of the values.
      scores: `logit`, `label` and `weight`, [rows].
      top: number of values with the most rows that are told apart; the others are one segment together.
      rows: row of each entry, int [entries], where a row has several values, or none; a row counts once for
        each of its different values. None: entry i is row i.

    Returns:
      Segments from the highest normalized entropy to the lowest, those without one last, the larger first.
    """
    entries = np.arange(len(codes)) if rows is None else np.asarray(rows)
    codes = np.asarray(codes, np.int64)
    if rows is not None:
        codes, entries = np.unique(np.stack([codes, entries]), axis=1)
    counts = np.bincount(codes, minlength=len(names))
    # Of equally frequent values, the first.
    ranked = np.argsort(-counts, kind='stable')
    ranked = ranked[counts[ranked] > 0]
    # One value is no rest.
    kept = ranked if len(ranked) <= top + 1 else ranked[:top]
    place = np.full(len(names), len(kept))
    place[kept] = np.arange(len(kept))
    own = place[codes]
    order = np.argsort(own, kind='stable')
    bounds = np.searchsorted(own[order], np.arange(len(kept) + 2))
    texts = [names[value] for value in kept]
    if len(kept) < len(ranked):
        texts.append(f'{REST} ({len(ranked) - len(kept):,} values)')
    found = []
    for text, start, end in zip(texts, bounds, bounds[1:], strict=False):
        members = entries[order[start:end]]
        rest = own[order[start]] == len(kept)
        if rest:
            # A row with several of the rest's values is one row of the rest.
            members = np.unique(members)
        found.append(_segment(column, text, {name: scores[name][members] for name in _COLUMNS}, bool(rest)))
    return sorted(found, key=_worst_first)


_COLUMNS = ('logit', 'label', 'weight')


def _segment(column: str, value: str, scores: Mapping[str, np.ndarray], rest: bool) -> Segment:
    weights = np.asarray(scores['weight'], np.float64)
    total = weights.sum()
    rate = float((weights * scores['label']).sum() / total) if total > 0 else None
    found = {name: METRICS[name](scores) for name in _METRICS}
    clicks = int((np.asarray(scores['label']) > 0.5).sum())
    return Segment(column, value, len(weights), rate, **found, clicks=clicks, rest=rest)


def _worst_first(segment: Segment) -> tuple[float, int]:
    entropy = segment.normalized_entropy
    return (math.inf if entropy is None else -entropy), -segment.rows
