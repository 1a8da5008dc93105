"""Values of columns of evaluated rows, as codes that `segments` takes: texts, lists, ranges of numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from dlf_jax.analysis import number_ranges
from dlf_jax.analysis.segments import MISSING, UNKNOWN, Segment, segments
from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import OUT_OF_VOCABULARY, Field
from dlf_jax.data.values import canonical_rows

# A column that is no feature and has at most so many different numbers has codes, such as hours.
_CODES = 50


class ColumnValues:
    """Gathers the values of one column, batch after batch.

    Attributes:
      column: its name.
    """

    def __init__(self, column: str, encoder: Encoder):
        """Gathers nothing yet.

        Args:
          column: of the evaluated files; need not be a feature.
          encoder: of the training data, which knows the values of features.
        """
        fields = {field.name: field for field in encoder.schema.fields}
        self.column, self._field, self._encoder = column, fields.get(column), encoder
        self._parts: list[pl.Series] = []
        self._unknown: list[np.ndarray] = []

    def add(self, values: pl.Series, batch: Rows) -> None:
        """Takes the values of a batch.

        Args:
          values: as they are in the file, [rows].
          batch: the rows as the encoder has them, perhaps followed by others; those of weight 0 are left out,
            as they are in scores.
        """
        counted = batch['weight'][: len(values)] > 0
        self._parts.append(values.filter(pl.Series(counted)))
        if (known_by := self._known_by()) is not None:
            self._unknown.append(known_by(batch)[: len(values)][counted])

    def _known_by(self) -> Callable[[Rows], np.ndarray] | None:
        """What tells of a batch whether the model knows each row's value; None where it cannot say."""
        field, schema = self._field, self._encoder.schema
        if field is None or field.number or field.bag or field.hash_buckets:
            return None
        place = [own.name for own in schema.categorical].index(field.name)
        unknown = schema.offsets[field.name] + OUT_OF_VOCABULARY
        return lambda batch: batch['categorical'][:, place] == unknown

    def segments(self, scores: dict[str, np.ndarray], top: int) -> list[Segment]:
        """Metrics by value; see `segments.segments`.

        Args:
          scores: `logit`, `label` and `weight` of the rows, [rows].
          top: number of values that are told apart.
        """
        values = pl.concat(self._parts)
        if values.dtype == pl.String and self._field is not None and self._field.bag:
            values = values.str.split(self._field.separator)
        if isinstance(values.dtype, pl.List | pl.Array):
            return self._of_lists(values, scores, top)
        numbers = self._numbers(values)
        texts = self._texts(values) if numbers is None else _ranges(numbers)
        if self._unknown:
            texts = pl.select(
                pl.when(pl.Series(np.concatenate(self._unknown))).then(pl.lit(UNKNOWN)).otherwise(texts)
            ).to_series()
        return segments(self.column, *_coded(texts), scores, top)

    def _texts(self, values: pl.Series) -> pl.Series:
        """The one text of each value, as the model's vocabulary has it; `MISSING` where there is none."""
        verbatim = self._field is not None and self._field.verbatim
        texts = canonical_rows(values.cast(pl.String, strict=False), self._markers(), verbatim)
        return texts.fill_null(MISSING)

    def _markers(self) -> tuple[str, ...]:
        return self._field.missing if self._field else ()

    def _numbers(self, values: pl.Series) -> pl.Series | None:
        """The values as numbers, Float64, null where missing; None where they are categories."""
        field = self._field
        if field is not None and not field.number:
            return None
        if values.dtype.is_numeric():
            found = values.cast(pl.Float64)
        elif values.dtype == pl.String:
            texts = values.str.strip_chars()
            found = texts.cast(pl.Float64, strict=False)
            if (found.is_null() & texts.is_not_null() & ~texts.is_in(['', *self._markers()])).any():
                return None
        else:
            return None
        found = found.fill_nan(None)
        return found if field is not None or found.n_unique() > _CODES else None

    def _of_lists(self, values: pl.Series, scores: dict[str, np.ndarray], top: int) -> list[Segment]:
        rows = pl.DataFrame({'row': np.arange(len(values)), 'value': values}).explode(
            'value', empty_as_null=True, keep_nulls=True
        )
        texts = self._texts(rows['value'])
        known = self._vocabulary(self._field)
        if known is not None:
            texts = pl.select(
                pl.when((texts == MISSING) | texts.is_in(known.implode()))
                .then(texts)
                .otherwise(pl.lit(UNKNOWN))
            ).to_series()
        # An empty element beside others is none.
        frame = pl.DataFrame({'row': rows['row'], 'text': texts})
        filled = frame.filter(pl.col('text') != MISSING)
        empty = frame.join(filled, on='row', how='anti').unique(maintain_order=True)
        frame = pl.concat([filled, empty])
        return segments(self.column, *_coded(frame['text']), scores, top, frame['row'].to_numpy())

    def _vocabulary(self, field: Field | None) -> pl.Series | None:
        if field is None or field.hash_buckets:
            return None
        return self._encoder.vocabularies[field.owner]['value'].cast(pl.String)


def _ranges(numbers: pl.Series) -> pl.Series:
    """Names of the ranges of numbers, `MISSING` where there is none."""
    codes, names = number_ranges.coded(numbers.fill_null(np.nan).to_numpy(), number_ranges.RANGES)
    return pl.Series(names).gather(codes)


def _coded(texts: pl.Series) -> tuple[np.ndarray, list[str]]:
    """Codes of texts, int [rows], and the text of each code, in the order in which they come first."""
    names = texts.unique(maintain_order=True)
    codes = texts.to_frame('text').join(
        pl.DataFrame({'text': names, 'code': np.arange(len(names))}),
        on='text',
        how='left',
        maintain_order='left',
    )
    return codes['code'].to_numpy(), names.to_list()
