"""Fit on the training part, transform anything; the same object prepares records and serves.

Saved in an open form: `encoder.json` (version, schema, statistics of numbers) and
`vocabulary.parquet` (field, value, count; in the order of the ids).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl

from dlf_jax.data.schema import CATEGORICAL, MISSING, OUT_OF_VOCABULARY, RESERVED, Field, Schema
from dlf_jax.data.sources import Chunk
from dlf_jax.errors import UserError

VERSION = 1
# Partial counts of a column are merged when they hold more rows than this.
_MERGE_ROWS = 4_000_000


@dataclasses.dataclass(frozen=True)
class Moments:
    """Statistics of a numeric column over the training part; missing values left out."""

    count: int = 0
    mean: float = 0.0
    deviation: float = 0.0  # population standard deviation
    low: float = math.inf
    high: float = -math.inf

    def merge(self, other: Moments) -> Moments:
        """The statistics of both parts together (Chan et al. 1979)."""
        if not self.count or not other.count:
            return other if other.count else self
        count = self.count + other.count
        delta = other.mean - self.mean
        squares = (
            self.deviation**2 * self.count
            + other.deviation**2 * other.count
            + delta**2 * self.count * other.count / count
        )
        return Moments(
            count,
            self.mean + delta * other.count / count,
            math.sqrt(squares / count),
            min(self.low, other.low),
            max(self.high, other.high),
        )


class Encoder:
    """Values to ids and numbers.

    A categorical field's ids: 0 out of vocabulary, 1 missing, then its values by falling count (ties
    by value), all offset into the one fused table. A numeric field: missing takes the training mean
    (0 under `none`), then the treatment.
    """

    def __init__(self, schema: Schema, vocabularies: dict[str, pl.DataFrame], moments: dict[str, Moments]):
        """Args:
        schema: with the fields' sizes filled in.
        vocabularies: per categorical field its `value` (String) and `count`, in id order.
        moments: per numeric field.
        """
        self.schema = schema
        self.vocabularies = vocabularies
        self.moments = moments
        self._enums = {name: pl.Enum(v['value']) for name, v in vocabularies.items()}

    def transform(self, chunk: Chunk) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Encodes the rows of a chunk that holds the schema's columns.

        Returns:
          The features, `categorical` int32 [rows, Fc] and `numeric` float32 [rows, Fn], and the
          number of out-of-vocabulary values per categorical field, int64 [Fc].

        Raises:
          UserError: an infinite number.
        """
        rows = chunk.frame.height
        categorical = np.empty((rows, len(self.schema.categorical)), np.int32)
        unknown = np.zeros(len(self.schema.categorical), np.int64)
        offsets = self.schema.offsets
        for i, field in enumerate(self.schema.categorical):
            values = categories(chunk, field)
            codes = values.cast(self._enums[field.name], strict=False).to_physical()
            ids = codes.cast(pl.Int32) + RESERVED
            # What is null now was missing, unless the value was there: then it is unknown.
            found = ids.fill_null(OUT_OF_VOCABULARY).to_numpy()
            if values.null_count():
                found = np.where(values.is_null().to_numpy(), np.int32(MISSING), found)
            unknown[i] = np.count_nonzero(found == OUT_OF_VOCABULARY)
            categorical[:, i] = found + np.int32(offsets[i])
        numeric = np.empty((rows, len(self.schema.numeric)), np.float32)
        for i, field in enumerate(self.schema.numeric):
            numeric[:, i] = self._treat(numbers(chunk, field.name), field)
        return {'categorical': categorical, 'numeric': numeric}, unknown

    def _treat(self, values: np.ndarray, field: Field) -> np.ndarray:
        moments = self.moments[field.name]
        if field.treatment == 'none':
            return np.where(np.isnan(values), 0.0, values)
        values = np.where(np.isnan(values), moments.mean, values)
        if field.treatment == 'standard':
            return (values - moments.mean) / (moments.deviation or 1.0)
        return (values - moments.low) / ((moments.high - moments.low) or 1.0)

    def save(self, folder: str | Path) -> None:
        """Writes `encoder.json` and `vocabulary.parquet` into the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        frames = [
            self.vocabularies[f.name].select(pl.lit(f.name).alias('field'), 'value', 'count')
            for f in self.schema.categorical
        ]
        empty = pl.DataFrame(schema={'field': pl.String, 'value': pl.String, 'count': pl.Int64})
        pl.concat([empty, *frames]).write_parquet(folder / 'vocabulary.parquet')
        saved = {
            'version': VERSION,
            'schema': self.schema.to_json(),
            'moments': {name: dataclasses.asdict(m) for name, m in self.moments.items()},
        }
        (folder / 'encoder.json').write_text(json.dumps(saved, indent=1) + '\n')

    @classmethod
    def load(cls, folder: str | Path) -> Encoder:
        """Reads what `save` wrote. Raises UserError where it is missing, damaged or newer."""
        folder = Path(folder)
        path = folder / 'encoder.json'
        try:
            saved = json.loads(path.read_text())
            version = saved['version']
            if version > VERSION:
                raise UserError(
                    f'{path}: written by a newer dlf_jax (encoder version {version}, this one reads '
                    f'up to {VERSION}); upgrade dlf_jax'
                )
            schema = Schema.from_json(saved['schema'])
            path = folder / 'vocabulary.parquet'
            values = pl.read_parquet(path).partition_by('field', as_dict=True, include_key=False)
            empty = pl.DataFrame(schema={'value': pl.String, 'count': pl.Int64})
            vocabularies = {f.name: values.get((f.name,), empty) for f in schema.categorical}
            for field in schema.categorical:
                found = vocabularies[field.name].height + RESERVED
                if found != field.size:
                    raise UserError(
                        f'{path}: field {field.name!r} has {found} ids where encoder.json says '
                        f'{field.size}; prepare the data again'
                    )
            moments = {name: Moments(**m) for name, m in saved['moments'].items()}
        except FileNotFoundError as error:
            raise UserError(f'{path}: missing; prepare the data again') from error
        except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
            raise UserError(f'{path}: cannot be read ({error}); prepare the data again') from error
        return cls(schema, vocabularies, moments)


def fit(schema: Schema, chunks: Iterable[Chunk]) -> Encoder:
    """Counts the values and measures the numbers of the training part, a chunk at a time.

    Args:
      schema: fields with size 0.
      chunks: the training part; memory grows with the vocabularies, not with the rows.

    Raises:
      UserError: no rows, an infinite number, or a number column without a number.
    """
    counts: dict[str, list[pl.DataFrame]] = {f.name: [] for f in schema.categorical}
    moments = {f.name: Moments() for f in schema.numeric}
    rows = 0
    for chunk in chunks:
        rows += chunk.frame.height
        for field in schema.categorical:
            parts = counts[field.name]
            values = categories(chunk, field).drop_nulls().rename('value')
            parts.append(values.value_counts(name='count').cast({'count': pl.Int64}))
            if sum(p.height for p in parts[1:]) > max(_MERGE_ROWS, parts[0].height):
                counts[field.name] = [_merge(parts)]
        for field in schema.numeric:
            values = numbers(chunk, field.name)
            values = values[~np.isnan(values)]
            if values.size:
                part = Moments(
                    values.size,
                    float(values.mean()),
                    float(values.std()),
                    float(values.min()),
                    float(values.max()),
                )
                moments[field.name] = moments[field.name].merge(part)
    if not rows:
        raise UserError('the training part has no rows')
    vocabularies, fields = {}, []
    for field in schema.fields:
        if field.kind == CATEGORICAL:
            values = _vocabulary(counts.pop(field.name), field)
            vocabularies[field.name] = values
            field = dataclasses.replace(field, size=values.height + RESERVED)
        fields.append(field)
    return Encoder(Schema(tuple(fields), schema.label), vocabularies, moments)


def _merge(parts: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts).group_by('value').agg(pl.col('count').sum())


def _vocabulary(parts: list[pl.DataFrame], field: Field) -> pl.DataFrame:
    values = _merge(parts).filter(pl.col('count') >= field.min_count)
    values = values.sort(['count', 'value'], descending=[True, False])
    return values.head(field.max_size) if field.max_size else values


def categories(chunk: Chunk, field: Field) -> pl.Series:
    """The column as categories (String, null where missing)."""
    if not field.number:
        return chunk.frame[field.name]
    values = pl.Series(field.name, numbers(chunk, field.name), nan_to_null=True)
    large = pl.col(field.name).log().pow(2).floor()
    category = pl.when(pl.col(field.name) > 2).then(large).otherwise(pl.col(field.name).floor())
    return values.to_frame().select(category.cast(pl.Int64).cast(pl.String)).to_series()


def numbers(chunk: Chunk, name: str) -> np.ndarray:
    """The column as float64, NaN where missing. Raises UserError on an infinite number."""
    values = chunk.frame[name].to_numpy()
    infinite = np.flatnonzero(np.isinf(values))
    if infinite.size:
        raise UserError(
            f'{chunk.where(int(infinite[0]))}: column {name!r}: expected a finite number or an empty '
            f'field, found {values[infinite[0]]}'
        )
    return values


def labels(chunk: Chunk, name: str) -> np.ndarray:
    """The label column as float32. Raises UserError, with the line, where one is not 0 or 1."""
    values = chunk.frame[name].to_numpy()
    wrong = np.flatnonzero(~((values == 0) | (values == 1)))
    if wrong.size:
        found = values[wrong[0]]
        raise UserError(
            f'{chunk.where(int(wrong[0]))}: label {name!r}: expected 0 or 1, '
            f'found {"an empty field" if np.isnan(found) else found}'
        )
    return values.astype(np.float32)
