"""Rising curves that numbers follow under the treatments `quantile`, `piecewise` and `periodic`.

A curve is float64 [2, knots]: numbers, strictly rising, and the values that they take. Between two knots it
is a straight line, beyond the first and the last it is level: a number out of the training part's range is
clipped to it. It is fitted to a sample of the training part.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dlf_jax.data.schema import Field

# Maximum number of knots of normal scores.
_KNOTS = 256
# Rows that a range of `piecewise` has at least: fewer teach its slope nothing but noise.
_ROWS_OF_RANGE = 25
# From so many rows on, and so many for each numeric field, a line of pieces learns more than it overfits.
_ROWS_OF_PIECES, _ROWS_OF_FIELD = 3000, 50
# Where so large a share of the rows has the same number, normal scores leave little room for the others.
_FREQUENT = 0.9


def suited(rows: int, most_frequent: int, fields: int) -> str:
    """The treatment that `auto` stands for, `piecewise` or `quantile`.

    Args:
      rows: number of training rows that have a number.
      most_frequent: number of those that have the most frequent one.
      fields: number of numeric fields.
    """
    many = rows >= max(_ROWS_OF_PIECES, _ROWS_OF_FIELD * fields)
    return 'piecewise' if many or most_frequent >= _FREQUENT * rows else 'quantile'


def decided(field: Field, values: np.ndarray, fields: int) -> Field:
    """A field of the treatment `auto` with the one that it stands for.

    Args:
      field: of the treatment `auto`.
      values: sample of the training part, float64 [n], none missing.
      fields: number of numeric fields.
    """
    _, counts = np.unique(values, return_counts=True)
    treatment = suited(values.size, int(counts.max(initial=0)), fields)
    return dataclasses.replace(
        field, treatment=treatment, buckets=field.buckets if treatment == 'piecewise' else 0
    )


def fit(field: Field, values: np.ndarray) -> np.ndarray:
    """The curve of a field, float64 [2, knots].

    Args:
      field: its treatment is one of `schema.CURVED`.
      values: sample of the training part, float64 [n], none missing.
    """
    if not values.size:
        return np.zeros((2, 1))
    distinct, counts = np.unique(values, return_counts=True)
    if field.treatment != 'piecewise':
        return _normal(distinct, counts)
    return _pieces(distinct, counts, max(min(field.buckets, values.size // _ROWS_OF_RANGE), 1))


def follow(curve: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What the curve makes of numbers, float64 [n]; NaN stays NaN."""
    return np.interp(values, *curve)


def _pieces(distinct: np.ndarray, counts: np.ndarray, buckets: int) -> np.ndarray:
    """Positions on a scale of at most so many ranges: 0 at the lowest number, 1 at the first range's end.

    A number that would fill a range on its own has one that ends at the next number, so that 0 and 1 can
    differ where most are 0; the others are cut into ranges of as many rows each.

    Args:
      distinct: numbers, float64 [n], rising.
      counts: rows of each, int64 [n].
      buckets: maximum number of ranges.
    """
    frequent = counts * buckets > counts.sum()
    after = np.append(False, frequent[:-1])
    ends = np.isin(np.arange(len(distinct)), (0, len(distinct) - 1))
    bounds = ends | frequent | after
    if bounds.sum() > buckets + 1:
        bounds = ends | frequent
    rest, rows = distinct[~bounds], counts[~bounds]
    ranges = buckets + 2 - int(bounds.sum())
    # The first number of each range but the first.
    inner = np.searchsorted(np.cumsum(rows), np.arange(1, ranges) * rows.sum() / ranges)
    knots = np.unique(np.concatenate([distinct[bounds], rest[inner] if rest.size else rest]))
    return np.stack([knots, np.arange(len(knots), dtype=np.float64)])


def _normal(distinct: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Normal scores: quantiles of the standard normal distribution at the numbers' mean ranks.

    Args:
      distinct: numbers, float64 [n], rising.
      counts: rows of each, int64 [n].
    """
    # Here: a command that finds its data prepared need not wait for it.
    from scipy import special

    scores = special.ndtri((np.cumsum(counts) - counts / 2) / counts.sum())
    if len(distinct) > _KNOTS:
        # As far apart in the tails as in the middle.
        even = np.unique(np.searchsorted(scores, np.linspace(scores[0], scores[-1], _KNOTS)))
        distinct, scores = distinct[even], scores[even]
    return np.stack([distinct, scores])
