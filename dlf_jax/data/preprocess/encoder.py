"""Fit on the training part, transform anything; the same object prepares records and serves.

Saved in an open form: `encoder.json` (version, schema, statistics of numbers) and
`vocabulary.parquet` (field, value, count; in the order of the ids).

A chunk becomes features in two steps. `Reader` makes integers and float64s of the columns (`Raw`),
which can be kept on disk until the vocabulary is known; `Encoder.encode` makes ids and float32s of
those.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from dlf_jax.data.hashing import stable_hash
from dlf_jax.data.loading.records import Rows
from dlf_jax.data.preprocess import statistics
from dlf_jax.data.preprocess.dictionary import NULL, PAD, UNKNOWN, Dictionary, id_table
from dlf_jax.data.preprocess.statistics import Moments, Statistics
from dlf_jax.data.progress import threads
from dlf_jax.data.readers.columns import categories, elements, numbers
from dlf_jax.data.readers.tables import Chunk
from dlf_jax.data.schema import MISSING, OUT_OF_VOCABULARY, RESERVED, Field, Schema
from dlf_jax.errors import UserError

VERSION = 2


@dataclasses.dataclass(frozen=True)
class Raw:
    """Rows between the file and the features.

    Attributes:
      codes: int32 [rows, columns]; the categorical fields that are not ranges, then the multi-valued
        ones, `length` columns each. Codes of a dictionary, or hash buckets; `NULL`, `UNKNOWN`, `PAD`.
      numbers: float64 [rows, columns]; the numeric fields, then those that become ranges; NaN where
        missing.
    """

    codes: np.ndarray
    numbers: np.ndarray


@dataclasses.dataclass(frozen=True)
class IdTables:
    """From the codes of `Raw` to ids, the tables of all fields in one.

    Attributes:
      ids: int32.
      starts: by owning field, the place of the id of its code 0.
    """

    ids: np.ndarray
    starts: dict[str, int]

    def take(self, codes: np.ndarray, owners: Sequence[str]) -> np.ndarray:
        """Ids, int32, of codes [columns, rows], where each column's field owns its table or shares that of
        `owners`."""
        return self.ids.take(codes + np.array([[self.starts[owner]] for owner in owners]))


class Reader:
    """Columns to `Raw`, with one dictionary for each field that owns a counted vocabulary."""

    def __init__(self, schema: Schema, dictionaries: dict[str, Dictionary] | None = None):
        """Args:
        schema: fields, perhaps without sizes.
        dictionaries: of finished vocabularies, by owner; without them every value that comes gets
          a code.
        """
        self.schema = schema
        self.growing = dictionaries is None
        self.dictionaries = dictionaries if dictionaries is not None else self._empty()

    def _empty(self) -> dict[str, Dictionary]:
        return {
            f.name: Dictionary(pl.Series([], dtype=pl.Int64 if f.number else pl.String))
            for f in self.schema.owners
            if f.counted
        }

    def read(self, chunk: Chunk) -> Raw:
        """Reads the features' columns of a chunk. Raises UserError on an infinite number."""
        rows = chunk.frame.height
        # A column at a time is written and read until the features are put together.
        codes = np.empty((rows, len(self.schema.coded) + self.schema.bag_columns), np.int32, order='F')

        def read_owner(owner: str) -> None:
            for i, field in enumerate(self.schema.coded):
                if field.owner == owner:
                    codes[:, i] = self._codes(field, categories(chunk, field))

        # A dictionary is for one thread at a time; NumPy and Polars let others run meanwhile.
        list(threads().map(read_owner, dict.fromkeys(field.owner for field in self.schema.coded)))
        at = len(self.schema.coded)
        for field in self.schema.bags:
            codes[:, at : at + field.length] = self._bag(field, chunk)
            at += field.length
        measured = (*self.schema.numeric, *self.schema.ranged)
        values = np.empty((rows, len(measured)), order='F')
        for i, field in enumerate(measured):
            values[:, i] = numbers(chunk, field.name)
        return Raw(codes, values)

    def _codes(self, field: Field, values: pl.Series) -> np.ndarray:
        if field.hash_buckets:
            codes = (stable_hash(values) % np.uint64(field.hash_buckets)).astype(np.int32)
            if values.null_count():
                codes[values.is_null().to_numpy()] = NULL
            return codes
        dictionary = self.dictionaries[field.owner]
        return dictionary.add(values) if self.growing else dictionary.find(values)

    def _bag(self, field: Field, chunk: Chunk) -> np.ndarray:
        values, lengths = elements(chunk, field)
        padded = np.full((len(lengths), field.length), PAD, np.int32)
        padded[np.arange(field.length) < lengths[:, None]] = self._codes(field, values)
        padded[lengths == 0, 0] = NULL
        return padded


class Encoder:
    """Values to ids and numbers.

    The ids of a field with a vocabulary: 0 out of vocabulary, 1 missing, then its values by falling
    count (ties by value); of a field without one: 0 unused, 1 missing, then the hash buckets or
    ranges. All are offset into the fused table. A numeric field: missing takes the training mean (0
    under `none`), then the treatment. A multi-valued field without a value holds the id of missing.
    """

    def __init__(
        self,
        schema: Schema,
        vocabularies: dict[str, pl.DataFrame],
        moments: dict[str, Moments],
        boundaries: dict[str, np.ndarray],
    ):
        """Args:
        schema: with the fields' sizes filled in.
        vocabularies: by owning field, `value` (String) and `count`, in id order.
        moments: per numeric field.
        boundaries: per `bucket` field, where its second and later ranges begin, float64, rising.
        """
        self.schema = schema
        self.vocabularies = vocabularies
        self.moments = moments
        self.boundaries = boundaries
        self._reader: Reader | None = None
        self._tables: IdTables | None = None

    def transform(self, chunk: Chunk) -> tuple[Rows, dict[str, np.ndarray]]:
        """Encodes the rows of a chunk that holds the schema's columns.

        Returns:
          The features, as `encode` returns them, and for each field with a vocabulary the number of
          values outside it and the number of values, int64 [2].

        Raises:
          UserError: an infinite number.
        """
        if self._reader is None:
            dictionaries = {name: Dictionary(self.typed_values(name)) for name in self.vocabularies}
            self._reader = Reader(self.schema, dictionaries)
            self._tables = self.id_tables(
                {name: np.arange(len(d), dtype=np.int32) + RESERVED for name, d in dictionaries.items()}
            )
        raw = self._reader.read(chunk)
        return self.encode(raw, self._tables), self._unknown(raw)

    def typed_values(self, owner: str) -> pl.Series:
        """The vocabulary of a field as a dictionary holds it, in id order."""
        values = self.vocabularies[owner]['value']
        number = next(f for f in self.schema.owners if f.name == owner).number
        return values.cast(pl.Int64) if number else values

    def _unknown(self, raw: Raw) -> dict[str, np.ndarray]:
        counts, at = {}, len(self.schema.coded)
        for i, field in enumerate(self.schema.coded):
            if field.counted:
                outside = np.count_nonzero(raw.codes[:, i] == UNKNOWN)
                counts[field.name] = np.array([outside, len(raw.codes)])
        for field in self.schema.bags:
            codes = raw.codes[:, at : at + field.length]
            at += field.length
            if field.counted:
                counts[field.name] = np.array(
                    [np.count_nonzero(codes == UNKNOWN), np.count_nonzero(codes != PAD)]
                )
        return counts

    def id_tables(self, known: dict[str, np.ndarray]) -> IdTables:
        """The tables from the codes of `Raw` to ids.

        Args:
          known: by field with a vocabulary, the id of every code, without the offset, int32.
        """
        tables, starts, offsets, size = [], {}, self.schema.offsets, 0
        for field in self.schema.owners:
            ids = known.get(field.name)
            if ids is None:
                ids = np.arange(field.size - RESERVED, dtype=np.int32) + RESERVED
            table, zero = id_table(offsets[field.name], ids, OUT_OF_VOCABULARY, MISSING)
            tables.append(table)
            starts[field.name] = size + zero
            size += len(table)
        return IdTables(np.concatenate([np.empty(0, np.int32), *tables]), starts)

    def encode(self, raw: Raw, tables: IdTables) -> Rows:
        """The features: `categorical` int32 [rows, Fc], `numeric` float32 [rows, Fn] and `bags` int32
        [rows, bag_columns] (`PADDING` after the last value), each only where there is such a field."""
        schema = self.schema
        features: Rows = {}
        # All columns in one operation, column by column as they lie, and turned round at the end.
        if schema.categorical:
            codes = raw.codes[:, : len(schema.coded)].T
            if schema.ranged:
                coded, values = iter(codes), iter(raw.numbers.T[len(schema.numeric) :])
                codes = np.stack(
                    [
                        self._ranges(next(values), field) if field.treatment == 'bucket' else next(coded)
                        for field in schema.categorical
                    ]
                )
            ids = tables.take(codes, [field.owner for field in schema.categorical])
            features['categorical'] = np.ascontiguousarray(ids.T)
        if schema.numeric:
            values = raw.numbers[:, : len(schema.numeric)].T
            missing, shift, scale = self._treatments
            treated = (np.where(np.isnan(values), missing, values) - shift) / scale
            features['numeric'] = np.ascontiguousarray(treated.T, np.float32)
        if schema.bags:
            codes = raw.codes[:, len(schema.coded) :].T
            ids = tables.take(codes, [field.owner for field in schema.bags for _ in range(field.length)])
            features['bags'] = np.ascontiguousarray(ids.T)
        return features

    def _ranges(self, values: np.ndarray, field: Field) -> np.ndarray:
        codes = np.searchsorted(self.boundaries[field.name], values, side='right')
        return np.where(np.isnan(values), NULL, codes)

    @functools.cached_property
    def _treatments(self) -> np.ndarray:
        """Of the numeric fields: what takes the place of a missing value, what is then taken away, and what
        it is divided by, float64 [3, Fn, 1]."""

        def treatment(field: Field) -> tuple[float, float, float]:
            moments = self.moments[field.name]
            if field.treatment == 'none':
                return 0.0, 0.0, 1.0
            if field.treatment == 'standard':
                return moments.mean, moments.mean, moments.deviation or 1.0
            return moments.mean, moments.low, (moments.high - moments.low) or 1.0

        return np.array([treatment(field) for field in self.schema.numeric]).T[..., None]

    def save(self, folder: str | Path) -> None:
        """Writes `encoder.json` and `vocabulary.parquet` into the folder."""
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
            counted = [f for f in schema.owners if f.counted]
            vocabularies = {f.name: values.get((f.name,), empty) for f in counted}
            for field in counted:
                found = vocabularies[field.name].height + RESERVED
                if found != field.size:
                    raise UserError(
                        f'{path}: field {field.name!r} has {found} ids where encoder.json says '
                        f'{field.size}; prepare the data again'
                    )
            moments = {name: Moments(**m) for name, m in saved['moments'].items()}
            # Version 1 knew no ranges.
            boundaries = {name: np.array(b) for name, b in saved.get('boundaries', {}).items()}
        except FileNotFoundError as error:
            raise UserError(f'{path}: missing; prepare the data again') from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError) as error:
            raise UserError(f'{path}: cannot be read ({error}); prepare the data again') from error
        return cls(schema, vocabularies, moments, boundaries)


def measure(schema: Schema, number: int, chunk: Chunk, rows: np.ndarray, first: int) -> Statistics:
    """Counts and measures some rows of one chunk, by itself.

    Args:
      schema: fields without sizes.
      number: of the chunk in the training table.
      chunk: holds the schema's columns.
      rows: positions in the chunk of those rows that are for training, int64.
      first: number of the chunk's first row in the table.
    """
    reader = Reader(schema)
    raw = reader.read(chunk)
    counts = statistics.no_counts(reader.dictionaries)
    statistics.count_codes(schema, raw.codes[rows], counts)
    moments, samples = statistics.measured(schema, number, raw.numbers[rows], rows + first)
    values = {
        name: statistics.value_counts(reader.dictionaries[name].values, count)
        for name, count in counts.items()
    }
    return Statistics(len(rows), values, (moments,), samples)


def fit(schema: Schema, found: Statistics) -> Encoder:
    """The encoder for what was counted and measured in the training part.

    Args:
      schema: fields with size 0.

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
