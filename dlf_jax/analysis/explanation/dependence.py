"""Partial dependence: the mean probability of the rows when a field has the same value in all of them.

Friedman 2001, "Greedy function approximation", section 8.2. It tells the model's curve of a number, or its
levels of a category, with everything else as it is in the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlf_jax.analysis.explanation.field_values import FieldValues
from dlf_jax.analysis.explanation.probabilities import probabilities
from dlf_jax.analysis.explanation.replacing import Replacing
from dlf_jax.analysis.explanation.sample import Sample
from dlf_jax.data.schema import PADDING, Field
from dlf_jax.serving.predict import Predictor


def partial_dependence(
    predictor: Predictor,
    replacing: Replacing,
    detail: Sample,
    sample: Sample,
    values: FieldValues,
    fields: Sequence[Field],
    points: int,
) -> list[dict[str, Any]]:
    """Partial dependence of fields, as JSON, in their order.

    A point has the `value` as it is in the data (a number, None for a missing one, or a category's text), the
    mean `probability`, and the number of sampled `rows` that have the value; of a number, that are nearest.

    Args:
      predictor: the model, whose calibrator is applied where it has one.
      replacing: scores rows.
      detail: rows that are averaged over.
      sample: rows that the values are taken from.
      values: tells what ids and treated numbers stand for.
      fields: the fields.
      points: maximum number of values of a field.
    """
    weights = np.asarray(detail.rows['weight'], np.float64)
    found = []
    for field in fields:
        column = values.column(field, sample.rows)
        number = field.kind == 'numeric'
        chosen, rows = _of_number(column, points) if number else _of_category(column, points)
        settings = [(field.name, values.row_with(field, value)) for value in chosen]
        logits = replacing.set_to(detail.rows, settings)
        probability = np.average(probabilities(predictor, logits), axis=1, weights=weights)
        found.append(
            {
                'field': field.name,
                'kind': 'number' if number else 'category',
                'points': [
                    {'value': _told(values, field, value), 'probability': float(p), 'rows': int(count)}
                    for value, p, count in zip(chosen, probability, rows, strict=True)
                ],
            }
        )
    return found


def _told(values: FieldValues, field: Field, value: float | int) -> str | float | None:
    if field.kind != 'numeric':
        return values.text(field, int(value))
    return None if np.isnan(value) else float(values.numbers(field, np.asarray(value)))


def _of_number(column: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Treated numbers at even distances of rank, rising, NaN last where some are missing, and their rows."""
    there = column[~np.isnan(column)]
    missing = len(column) - len(there)
    grid = np.zeros(0, column.dtype)
    if len(there):
        # Numbers that rows have, the lowest and the highest among them.
        grid = np.unique(np.quantile(there, np.linspace(0, 1, points - bool(missing)), method='nearest'))
    nearest = np.searchsorted((grid[1:] + grid[:-1]) / 2, there)
    counts = np.bincount(nearest, minlength=len(grid))
    if missing:
        grid, counts = np.append(grid, np.float32(np.nan)), np.append(counts, missing)
    return grid, counts


def _of_category(column: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """The most frequent ids, and the number of rows that have each."""
    ids, counts = np.unique(column[column != PADDING], return_counts=True)
    order = np.argsort(-counts, kind='stable')[:points]
    return ids[order], counts[order]
