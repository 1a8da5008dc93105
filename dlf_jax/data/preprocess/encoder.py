"""Encoder from values to ids and numbers: fitted to the training part, used by preparation and serving.

It is saved as `encoder.json` (version, schema, statistics of numbers) and `vocabulary.parquet` (field,
value, count; in the order of the ids).

A chunk becomes features in two steps. `Coder` makes codes and float64s of the columns (`CodedRows`), which
can be staged on disk until the vocabulary is known; `Encoder.encode` makes ids and float32s of those.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dlf_jax.data.preprocess.coder import CodedRows, Coder
from dlf_jax.data.preprocess.dictionary import NULL, PAD, UNKNOWN, Dictionary
from dlf_jax.data.preprocess.id_tables import IdTables
from dlf_jax.data.preprocess.statistics import Moments, Statistics
from dlf_jax.data.readers.chunk import Chunk
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import OUT_OF_VOCABULARY, RESERVED, Field, Schema
from dlf_jax.errors import UserError

VERSION = 2


class Encoder:
    """Encoder from values to ids and numbers.

    Ids of a field with a vocabulary: 0 out of vocabulary, 1 missing, then its values by falling count
    (ties by value). Ids of a field without one: 0 unused, 1 missing, then the hash buckets or ranges. All
    are offset into the fused table. Numeric fields: a missing value becomes the training mean (0 under
    `none`), then the treatment is applied. A multi-valued field without a value holds the id of missing.
    """

    def __init__(
        self,
        schema: Schema,
        vocabularies: dict[str, pl.DataFrame],
        moments: dict[str, Moments],
        boundaries: dict[str, np.ndarray],
    ):
        """Takes what was fitted to the training part.

        Args:
          schema: the features, their fields with sizes.
          vocabularies: `value` (String) and `count` in the order of the ids, by owning field.
          moments: moments by numeric field.
          boundaries: first values of the second and later ranges, float64, rising, by `bucket` field.
        """
        self.schema = schema
        self.vocabularies = vocabularies
        self.moments = moments
        self.boundaries = boundaries

    def transform(self, chunk: Chunk) -> tuple[Rows, dict[str, np.ndarray]]:
        """Encodes the rows of a chunk that holds the features' columns.

        Returns:
          The features, see `encode`; and by field with a vocabulary the number of values outside it and
          the number of values, int64 [2].

        Raises:
          UserError: an infinite number, or a column of another kind than its field.
        """
        coder, tables = self._coding
        coded = coder.code(chunk)
        return self.encode(coded, tables), self._unknown(coded)

    @functools.cached_property
    def _coding(self) -> tuple[Coder, IdTables]:
        """Coder of the vocabularies' values, and the id tables of its codes."""
        dictionaries = {name: Dictionary(self.typed_values(name)) for name in self.vocabularies}
        known = {name: np.arange(len(d), dtype=np.int32) + RESERVED for name, d in dictionaries.items()}
        return Coder(self.schema, dictionaries), IdTables.of(self.schema, known)

    def id_tables(self, dictionaries: Mapping[str, Dictionary]) -> IdTables:
        """Id tables for the codes of dictionaries that hold the vocabularies among other values.

        Args:
          dictionaries: dictionaries by owning field.
        """
        known = {}
        for name, dictionary in dictionaries.items():
            ids = np.full(len(dictionary), OUT_OF_VOCABULARY, np.int32)
            values = self.typed_values(name)
            ids[dictionary.find(values)] = np.arange(len(values), dtype=np.int32) + RESERVED
            known[name] = ids
        return IdTables.of(self.schema, known)

    def typed_values(self, owner: str) -> pl.Series:
        """Vocabulary of a field in the order of the ids, with the dtype of its dictionary."""
        values = self.vocabularies[owner]['value']
        number = next(f for f in self.schema.owners if f.name == owner).number
        return values.cast(pl.Int64) if number else values

    def _unknown(self, rows: CodedRows) -> dict[str, np.ndarray]:
        counts, at = {}, len(self.schema.coded)
        for i, field in enumerate(self.schema.coded):
            if field.counted:
                outside = np.count_nonzero(rows.codes[:, i] == UNKNOWN)
                counts[field.name] = np.array([outside, len(rows.codes)])
        for field in self.schema.bags:
            codes = rows.codes[:, at : at + field.length]
            at += field.length
            if field.counted:
                counts[field.name] = np.array(
                    [np.count_nonzero(codes == UNKNOWN), np.count_nonzero(codes != PAD)]
                )
        return counts

    def encode(self, coded: CodedRows, tables: IdTables) -> Rows:
        """Features of coded rows.

        Args:
          coded: the rows.
          tables: tables from their codes to ids.

        Returns:
          `categorical` int32 [rows, Fc], `numeric` float32 [rows, Fn] and `bags` int32 [rows, bag_columns]
          (`PADDING` after the last value); each only where the schema has such fields.
        """
        schema = self.schema
        features: Rows = {}
        # All columns in one operation, in the column order of the input, and transposed at the end.
        if schema.categorical:
            codes = coded.codes[:, : len(schema.coded)].T
            if schema.ranged:
                columns, ranged = iter(codes), iter(coded.numbers.T[len(schema.numeric) :])
                codes = np.stack(
                    [
                        self._ranges(next(ranged), field) if field.treatment == 'bucket' else next(columns)
                        for field in schema.categorical
                    ]
                )
            ids = tables.lookup(codes, [field.owner for field in schema.categorical])
            features['categorical'] = np.ascontiguousarray(ids.T)
        if schema.numeric:
            values = coded.numbers[:, : len(schema.numeric)].T
            missing, shift, scale = self._treatments
            treated = (np.where(np.isnan(values), missing, values) - shift) / scale
            features['numeric'] = np.ascontiguousarray(treated.T, np.float32)
        if schema.bags:
            codes = coded.codes[:, len(schema.coded) :].T
            ids = tables.lookup(codes, [field.owner for field in schema.bags for _ in range(field.length)])
            features['bags'] = np.ascontiguousarray(ids.T)
        return features

    def _ranges(self, values: np.ndarray, field: Field) -> np.ndarray:
        codes = np.searchsorted(self.boundaries[field.name], values, side='right')
        return np.where(np.isnan(values), NULL, codes)

    @functools.cached_property
    def _treatments(self) -> np.ndarray:
        """Replacement of a missing value, shift and scale of the numeric fields, float64 [3, Fn, 1]."""

        def treatment(field: Field) -> tuple[float, float, float]:
            moments = self.moments[field.name]
            if field.treatment == 'none':
                return 0.0, 0.0, 1.0
            if field.treatment == 'standard':
                return moments.mean, moments.mean, moments.deviation or 1.0
            return moments.mean, moments.low, (moments.high - moments.low) or 1.0

        return np.array([treatment(field) for field in self.schema.numeric]).T[..., None]

    def save(self, folder: str | Path) -> None:
        """Writes `encoder.json` and `vocabulary.parquet` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        frames = [
            frame.select(pl.lit(name).alias('field'), 'value', 'count')
            for name, frame in self.vocabularies.items()
        ]
        empty = pl.DataFrame(schema={'field': pl.String, 'value': pl.String, 'count': pl.Int64})
        pl.concat([empty, *frames]).write_parquet(folder / 'vocabulary.parquet')
        saved = {
            'version': VERSION,
            'schema': self.schema.to_json(),
            'moments': {name: dataclasses.asdict(m) for name, m in self.moments.items()},
            'boundaries': {name: list(map(float, b)) for name, b in self.boundaries.items()},
        }
        (folder / 'encoder.json').write_text(json.dumps(saved, indent=1) + '\n')

    @classmethod
    def load(cls, folder: str | Path) -> Encoder:
        """Reads what `save` wrote, now or in an older version of dlf_jax.

        Raises:
          UserError: missing, damaged, or written by a newer version.
        """
        path = Path(folder) / 'encoder.json'
        with _readable(path):
            saved, schema = _load_json(path)
            moments = {name: Moments(**m) for name, m in saved['moments'].items()}
            # Version 1 had no ranges.
            boundaries = {name: np.array(b) for name, b in saved.get('boundaries', {}).items()}
        path = Path(folder) / 'vocabulary.parquet'
        with _readable(path):
            values = pl.read_parquet(path).partition_by('field', as_dict=True, include_key=False)
            empty = pl.DataFrame(schema={'value': pl.String, 'count': pl.Int64})
            counted = [f for f in schema.owners if f.counted]
            vocabularies = {f.name: values.get((f.name,), empty) for f in counted}
            for field in counted:
                found = vocabularies[field.name].height + RESERVED
                if found != field.size:
                    raise UserError(
                        f'{path}: field {field.name!r} has {found} ids where encoder.json says '
                        f'{field.size}; prepare the data again'
                    )
        return cls(schema, vocabularies, moments, boundaries)


def load_schema(folder: str | Path) -> Schema:
    """Schema of a saved encoder, with the fields' sizes; the vocabularies are not read.

    Args:
      folder: folder that `Encoder.save` wrote to.

    Raises:
      UserError: missing, damaged, or written by a newer version.
    """
    path = Path(folder) / 'encoder.json'
    with _readable(path):
        return _load_json(path)[1]


def _load_json(path: Path) -> tuple[dict[str, Any], Schema]:
    saved = json.loads(path.read_text())
    version = saved['version']
    if version > VERSION:
        raise UserError(
            f'{path}: written by a newer dlf_jax (encoder version {version}, this one reads '
            f'up to {VERSION}); upgrade dlf_jax'
        )
    return saved, Schema.from_json(saved['schema'])


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what goes wrong in reading a file of an encoder into a UserError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f'{path}: missing; prepare the data again') from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError) as error:
        raise UserError(f'{path}: cannot be read ({error}); prepare the data again') from error


def fit(schema: Schema, found: Statistics) -> Encoder:
    """Fits an encoder to the statistics of the training part.

    Args:
      schema: the features, their fields without sizes.
      found: statistics of all training rows.

    Raises:
      UserError: no rows.
    """
    if not found.rows:
        raise UserError('the training part has no rows')
    by_name = {f.name: f for f in schema.owners}
    vocabularies = {name: _vocabulary(counts, by_name[name]) for name, counts in found.counts.items()}
    boundaries = {f.name: found.samples[f.name].boundaries(f.buckets) for f in schema.ranged}

    def size(field: Field) -> int:
        if field.name not in by_name:
            return 0
        if field.hash_buckets:
            return field.hash_buckets + RESERVED
        if field.name in boundaries:
            return len(boundaries[field.name]) + 1 + RESERVED
        return vocabularies[field.name].height + RESERVED

    fields = tuple(dataclasses.replace(f, size=size(f)) for f in schema.fields)
    schema = dataclasses.replace(schema, fields=fields)
    return Encoder(schema, vocabularies, found.merged_moments(), boundaries)


def _vocabulary(counts: pl.DataFrame, field: Field) -> pl.DataFrame:
    values = counts.filter(pl.col('count') >= field.min_count).cast({'value': pl.String})
    values = values.sort(['count', 'value'], descending=[True, False])
    return values.head(field.max_size) if field.max_size else values
