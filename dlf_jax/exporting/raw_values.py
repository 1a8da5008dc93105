"""Raw rows as the tensors that an exported model takes, and as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from dlf_jax.data.schema import Field, Schema


def tensors(schema: Schema, frame: pl.DataFrame) -> dict[str, np.ndarray]:
    """Inputs of a model that takes raw values.

    Args:
      schema: of the data.
      frame: the fields' columns: String, lists of it, or Float64; null where missing.

    Returns:
      By field: float64 [rows] with NaN for missing numbers; texts [rows], and [rows, elements] of lists, with
      '' for missing ones and after the last.
    """
    return {field.name: _tensor(field, frame[field.name]) for field in schema.fields}


def _tensor(field: Field, column: pl.Series) -> np.ndarray:
    if field.number:
        return column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    if column.dtype == pl.String:
        return np.array(column.fill_null('').to_list(), object)
    lists = [[value or '' for value in values or ()] for values in column.to_list()]
    width = max(map(len, lists), default=0)
    found = np.full((len(lists), max(width, 1)), '', object)
    for row, values in enumerate(lists):
        found[row, : len(values)] = values
    return found


def to_lists(array: np.ndarray) -> Any:
    """An array as nested lists for JSON, null where a number is NaN."""
    if array.dtype.kind == 'f':
        found = array.astype(object)
        found[np.isnan(array)] = None
        return found.tolist()
    return array.tolist()
