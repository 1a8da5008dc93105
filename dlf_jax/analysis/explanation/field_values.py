"""What ids and treated numbers stand for: the values of fields as they are in the data."""

from __future__ import annotations

import functools
import math

import numpy as np

from dlf_jax.analysis import number_ranges
from dlf_jax.analysis.segments import MISSING, UNKNOWN
from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import MISSING as MISSING_ID
from dlf_jax.data.schema import OUT_OF_VOCABULARY, PADDING, RESERVED, Field

# Values of a multi-valued field that are told of a row.
_LISTED = 20


class FieldValues:
    """Values of a field, from the columns of a batch."""

    def __init__(self, encoder: Encoder):
        """Takes what was fitted to the training data.

        Args:
          encoder: of the model.
        """
        self._encoder, self._schema = encoder, encoder.schema
        self._offsets = self._schema.offsets
        self._vocabulary = functools.cache(self._make_vocabulary)

    def column(self, field: Field, rows: Rows) -> np.ndarray:
        """A field's column of rows: ids or treated numbers [n], or a multi-valued field's ids [n, L]."""
        schema = self._schema
        if field.kind == 'numeric':
            return rows['numeric'][:, schema.numeric.index(field)]
        if field.bag:
            columns = next(columns for found, columns in schema.bag_slices() if found is field)
            return rows['bags'][:, columns]
        return rows['categorical'][:, schema.categorical.index(field)]

    def row_with(self, field: Field, value: float | int) -> Rows:
        """A row [1, ...] of zeros that has a value of a field: an id or a treated number."""
        schema = self._schema
        row: Rows = {'label': np.zeros(1, np.float32), 'weight': np.ones(1, np.float32)}
        if schema.categorical:
            row['categorical'] = np.zeros((1, len(schema.categorical)), np.int32)
        if schema.numeric:
            row['numeric'] = np.zeros((1, len(schema.numeric)), np.float32)
        if schema.bags:
            row['bags'] = np.full((1, schema.bag_columns), PADDING, np.int32)
        column = self.column(field, row)
        # A view of the row: what is written here is in it.
        column[:, ...] = PADDING if field.bag else value
        if field.bag:
            column[:, -1 if field.ordered else 0] = value
        return row

    def text(self, field: Field, value: int) -> str:
        """What an id stands for: a value of the vocabulary, a range of numbers or a hash bucket."""
        own = int(value) - self._offsets[field.owner]
        if own == MISSING_ID:
            return MISSING
        if field.treatment == 'bucket':
            return self._range(field, own - RESERVED)
        if field.hash_buckets:
            return f'(bucket {own - RESERVED})'
        return UNKNOWN if own == OUT_OF_VOCABULARY else self._vocabulary(field.owner)[own - RESERVED]

    def _make_vocabulary(self, owner: str) -> list[str]:
        field = next(field for field in self._schema.owners if field.name == owner)
        values = self._encoder.vocabularies[owner]['value'].to_list()
        if field.treatment == 'log2':
            # `floor(log(x)^2)`: the number of a class of numbers, not a number of the data.
            return [f'log2 class {value}' for value in values]
        return values

    def _range(self, field: Field, number: int) -> str:
        bounds = self._encoder.boundaries[field.name]
        if not 0 <= number <= len(bounds):
            return UNKNOWN
        return number_ranges.names(bounds, closed=False)[number]

    def numbers(self, field: Field, treated: np.ndarray) -> np.ndarray:
        """Numbers of the data of treated ones, float64 [n]; NaN stays NaN.

        Under a curve it is one of the numbers that are treated like this: those beyond the training part's
        range are all treated like its ends.
        """
        values = np.asarray(treated, np.float64)
        if field.curved:
            numbers, positions = self._encoder.curves[field.name]
            return np.where(np.isnan(values), np.nan, np.interp(values, positions, numbers))
        _, shift, scale = self._encoder.treatments[:, self._schema.numeric.index(field), 0]
        # Back to the digits that float32 has kept of it.
        finite = np.abs(values[np.isfinite(values)])
        largest = scale * max(1.0, float(finite.max(initial=0.0)))
        rounded: np.ndarray = np.round(values * scale + shift, max(0, 6 - math.ceil(math.log10(largest))))
        return rounded

    def told(self, field: Field, column: np.ndarray) -> str | float | None:
        """The value of one row for people: a text, a number, or None for a missing number.

        Args:
          field: of the value.
          column: the row's part of `column`: a scalar, or the ids [L] of a multi-valued field.
        """
        if field.kind == 'numeric':
            number = float(self.numbers(field, np.asarray(column)))
            return None if np.isnan(number) else number
        if not field.bag:
            return self.text(field, int(column))
        texts = [self.text(field, int(value)) for value in column if value != PADDING]
        return ', '.join(texts[:_LISTED]) + (', ...' if len(texts) > _LISTED else '')
