"""Segments of a part by each field, from its prepared records and the run's stored scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from dlf_jax.analysis import number_ranges
from dlf_jax.analysis.explanation.field_values import FieldValues
from dlf_jax.analysis.prepared import Sample, sample
from dlf_jax.analysis.segments import Segment, segments
from dlf_jax.data.loading.records import Blocks
from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import PADDING, Field, Schema


def aligned(
    blocks: Blocks, schema: Schema, scores: Mapping[str, np.ndarray], most: int
) -> tuple[Rows, dict[str, np.ndarray]] | None:
    """Records of a part with the scores of the same rows.

    Stored scores are those of the rows whose weight is above 0, in the order of the records.

    Args:
      blocks: of the part.
      schema: of the data.
      scores: `logit`, `label`, `weight` and perhaps `group` of the part, [scored rows].
      most: number of rows after which no further block is read.

    Returns:
      The rows and their scores; None where the scores are of other rows.
    """
    taken = sample(blocks, most)
    places = _places(blocks, schema, taken)
    kept = places >= 0
    if not kept.any() or places.max() >= len(scores['label']):
        return None
    if not schema.weight and len(scores['label']) != blocks.rows:
        return None
    rows = {name: values[kept] for name, values in taken.rows.items()}
    own = {name: values[places[kept]] for name, values in scores.items()}
    return (rows, own) if np.array_equal(rows['label'], own['label']) else None


def _places(blocks: Blocks, schema: Schema, taken: Sample) -> np.ndarray:
    """Place of each row among those whose weight is above 0; -1 of one that is not, int [rows]."""
    if not schema.weight:
        return taken.numbers
    weighs = np.concatenate([blocks.read(block)['weight'] > 0 for block in range(len(blocks))])
    return np.where(weighs, np.cumsum(weighs) - 1, -1)[taken.numbers]


def by_field(
    encoder: Encoder, rows: Rows, scores: Mapping[str, np.ndarray], top: int
) -> Iterator[tuple[Field, list[Segment]]]:
    """Yields each field with the segments of its values, the worst first.

    Args:
      encoder: of the run.
      rows: encoded rows.
      scores: of the same rows.
      top: number of values that are told apart.
    """
    values = FieldValues(encoder)
    for field in encoder.schema.fields:
        codes, names, entries = _coded(values, field, rows)
        yield field, segments(field.name, codes, names, scores, top, entries)


def _coded(values: FieldValues, field: Field, rows: Rows) -> tuple[np.ndarray, list[str], np.ndarray | None]:
    """Codes of a field's values with their names; and the row of each, where a row may have several."""
    column = values.column(field, rows)
    if field.kind == 'numeric':
        return *number_ranges.coded(values.numbers(field, column), number_ranges.RANGES), None
    entries = None
    if field.bag:
        entries, places = np.nonzero(column != PADDING)
        column = column[entries, places]
    ids, codes = np.unique(column, return_inverse=True)
    return codes, [str(values.text(field, int(value))) for value in ids], entries
