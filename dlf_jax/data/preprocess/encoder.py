"""Encoder from values to ids and numbers: fitted to the training part, used by preparation and serving.

It is saved as `encoder.json` (version, schema, statistics of numbers, types of columns) and
`vocabulary.parquet` (field, value, count; in the order of the ids).

A chunk becomes features in two steps. `Coder` makes codes and float64s of the columns (`CodedRows`), which
can be staged on disk until the vocabulary is known; `Encoder.encode` makes ids and float32s of those.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dlf_jax.data.preprocess.coder import CodedRows, Coder
from dlf_jax.data.preprocess.curves import follow
from dlf_jax.data.preprocess.dictionary import NULL, PAD, UNKNOWN, Dictionary
from dlf_jax.data.preprocess.id_tables import IdTables
from dlf_jax.data.preprocess.statistics import Moments
from dlf_jax.data.readers.chunk import Chunk
from dlf_jax.data.readers.columns import FLOAT32
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import MISSING, OUT_OF_VOCABULARY, RESERVED, Field, Schema
from dlf_jax.data.values import canonical
from dlf_jax.errors import UserError
from dlf_jax.file_writing import to_json

VERSION = 4
# Files of a saved encoder.
FILES = ('encoder.json', 'vocabulary.parquet')
_log = logging.getLogger(__name__)


class Encoder:
    """Encoder from values to ids and numbers.

    Ids of a field with a vocabulary: 0 out of vocabulary, 1 missing, then its values by falling count
    (ties by value). Ids of a field without one: 0 unused, 1 missing, then the hash buckets or ranges. All
    are offset into the fused table. Numeric fields: a missing value becomes the training mean, then the
    treatment is applied; under `fill='own'` it is NaN. A multi-valued field without a value holds the id of
    missing, an ordered one holds nothing.
    """

    def __init__(
        self,
        schema: Schema,
        vocabularies: dict[str, pl.DataFrame],
        moments: dict[str, Moments],
        boundaries: dict[str, np.ndarray],
        curves: dict[str, np.ndarray] | None = None,
        families: dict[str, str] | None = None,
        expected_unknown: dict[str, float] | None = None,
        growth: dict[str, dict[str, int]] | None = None,
    ):
        """Takes what was fitted to the training part.

        Args:
          schema: the features, their fields with sizes.
          vocabularies: `value` (String) and `count` in the order of the ids, by owning field; of a grown
            encoder also `unseen`, the number of generations since the latest with the value.
          moments: moments by numeric field.
          boundaries: first values of the second and later ranges, float64, rising, by `bucket` field.
          curves: curves (`preprocess.curves`) by field with such a treatment.
          families: what columns with a type of their own held (`Table.families`), by name.
          expected_unknown: share of values outside the vocabulary to expect in further rows of the same
            kind, by field with a vocabulary of its own.
          growth: numbers of values `kept`, `new` and `forgotten` against the encoder that it grew from, by
            field with a vocabulary; None where it did not grow (`preprocess.growing`).
        """
        self.schema = schema
        self.vocabularies = vocabularies
        self.moments = moments
        self.boundaries = boundaries
        self.curves = curves or {}
        self.families = families or {}
        self.expected_unknown = expected_unknown or {}
        self.growth = growth or {}

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
        try:
            return self.encode(coded, tables), self._unknown(coded)
        except OutOfRange as error:
            raise UserError(f'{chunk.where(error.row)}: {error}') from error

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
            at = dictionary.find(values)
            there = at != UNKNOWN
            ids[at[there]] = np.flatnonzero(there).astype(np.int32) + RESERVED
            if values.dtype == pl.String:
                self._add_other_spellings(name, dictionary.values, ids)
            known[name] = ids
        return IdTables.of(self.schema, known)

    def id_tables_of(self, values: Mapping[str, pl.Series]) -> IdTables:
        """Id tables for codes that number values as they are written.

        Unlike `id_tables`, which takes time by the vocabularies, takes time by the values.

        Args:
          values: values in the order of their codes, by owning field.
        """
        coder, _ = self._coding
        known = {}
        for name, written in values.items():
            codes = coder.codes(self._field(name), written)
            ids = np.where(codes == UNKNOWN, OUT_OF_VOCABULARY, codes + RESERVED)
            known[name] = np.where(codes == NULL, MISSING, ids).astype(np.int32)
        return IdTables.of(self.schema, known)

    def _add_other_spellings(self, owner: str, written: pl.Series, ids: np.ndarray) -> None:
        """Sets the ids of values that are written otherwise than in the vocabulary, or missing, in place."""
        field = self._field(owner)
        found = canonical(written, field.missing, field.verbatim)
        other = written.ne_missing(found).arg_true()
        if not len(other):
            return
        vocabulary = Dictionary(self.typed_values(owner))
        codes = vocabulary.find(found.gather(other))
        ids[other.to_numpy()] = np.where(
            codes == NULL, MISSING, np.where(codes == UNKNOWN, OUT_OF_VOCABULARY, codes + RESERVED)
        )

    def _field(self, owner: str) -> Field:
        return next(field for field in self.schema.owners if field.name == owner)

    def typed_values(self, owner: str) -> pl.Series:
        """Vocabulary of a field in the order of the ids, with the dtype of its dictionary."""
        values = self.vocabularies[owner]['value']
        return values.cast(pl.Int64) if self._field(owner).number else values

    def _unknown(self, rows: CodedRows) -> dict[str, np.ndarray]:
        counts = {}
        for i, field in enumerate(self.schema.coded):
            if field.counted:
                outside = np.count_nonzero(rows.codes[:, i] == UNKNOWN)
                counts[field.name] = np.array([outside, len(rows.codes)])
        for field, columns in self.schema.bag_slices(len(self.schema.coded)):
            codes = rows.codes[:, columns]
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
          (`PADDING` after the last value, of
          ordered fields before the first); each only where the schema has such fields.

        Raises:
          OutOfRange: a number that is beyond float32 once it is treated.
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
                        self.ranges(next(ranged), field) if field.treatment == 'bucket' else next(columns)
                        for field in schema.categorical
                    ]
                )
            ids = tables.lookup(codes, [field.owner for field in schema.categorical])
            features['categorical'] = np.ascontiguousarray(ids.T)
        if schema.numeric:
            features['numeric'] = self.treated(coded.numbers[:, : len(schema.numeric)].T)
        if schema.bags:
            codes = coded.codes[:, len(schema.coded) :].T
            ids = tables.lookup(codes, [field.owner for field in schema.bags for _ in range(field.length)])
            features['bags'] = np.ascontiguousarray(ids.T)
        return features

    def treated(self, values: np.ndarray) -> np.ndarray:
        """Numeric features, float32 [rows, Fn], of numbers, float64 [Fn, rows].

        Raises:
          OutOfRange: a number that is beyond float32 once it is treated.
        """
        missing, shift, scale = self.treatments
        filled = np.where(np.isnan(values), missing, values)
        treated = (filled - shift) / scale
        for i, field in enumerate(self.schema.numeric):
            if field.curved:
                treated[i] = follow(self.curves[field.name], filled[i])
        if (np.abs(treated) > FLOAT32).any():
            treated = self._in_range(values, treated, (missing - shift) / scale)
        return np.ascontiguousarray(treated.T, np.float32)

    def _in_range(self, values: np.ndarray, treated: np.ndarray, missing: np.ndarray) -> np.ndarray:
        """Treated numbers [Fn, rows] with those beyond float32 as missing ones, where the field says so."""
        beyond = np.abs(treated) > FLOAT32
        for i, field in enumerate(self.schema.numeric):
            if field.out_of_range != 'missing' and beyond[i].any():
                row = int(np.argmax(beyond[i]))
                raise OutOfRange(field, row, float(values[i, row]), float(treated[i, row]))
        return np.where(beyond, missing, treated)

    def ranges(self, values: np.ndarray, field: Field) -> np.ndarray:
        """Ranges of numbers, float64 [n], from 0 on; `NULL` where NaN."""
        codes = np.searchsorted(self.boundaries[field.name], values, side='right')
        return np.where(np.isnan(values), NULL, codes)

    @functools.cached_property
    def treatments(self) -> np.ndarray:
        """Replacement of a missing value, shift and scale of the numeric fields, float64 [3, Fn, 1]."""

        def treatment(field: Field) -> tuple[float, float, float]:
            moments = self.moments[field.name]
            missing = math.nan if field.fill == 'own' else moments.mean
            if field.treatment == 'none' or field.curved:
                return missing, 0.0, 1.0
            if not moments.varies:
                return missing, moments.mean, 1.0
            if field.treatment == 'standard':
                return missing, moments.mean, moments.deviation
            return missing, moments.low, moments.high - moments.low

        return np.array([treatment(field) for field in self.schema.numeric]).T[..., None]

    def save(self, folder: str | Path) -> None:
        """Writes `encoder.json` and `vocabulary.parquet` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        columns = {'value': pl.String, 'count': pl.Int64, **({'unseen': pl.Int64} if self.growth else {})}
        frames = [
            frame.select(pl.lit(name).alias('field'), *columns) for name, frame in self.vocabularies.items()
        ]
        empty = pl.DataFrame(schema={'field': pl.String, **columns})
        pl.concat([empty, *frames]).write_parquet(folder / 'vocabulary.parquet')
        saved = {
            'version': VERSION,
            'schema': self.schema.to_json(),
            'moments': {name: m.to_json() for name, m in self.moments.items()},
            'boundaries': {name: list(map(float, b)) for name, b in self.boundaries.items()},
            'curves': {name: curve.tolist() for name, curve in self.curves.items()},
            'families': self.families,
            'expected_unknown': self.expected_unknown,
            **({'growth': self.growth} if self.growth else {}),
        }
        (folder / 'encoder.json').write_text(to_json(saved, indent=1) + '\n')

    @classmethod
    def load(cls, folder: str | Path) -> Encoder:
        """Reads what `save` wrote, now or in an older version of dlf_jax.

        Raises:
          UserError: missing, damaged, or written by a newer version.
        """
        path = Path(folder) / 'encoder.json'
        with _readable(path):
            saved, schema = _load_json(path)
            moments = {name: Moments.from_json(m) for name, m in saved['moments'].items()}
            # Version 1 had no ranges.
            boundaries = {name: np.array(b) for name, b in saved.get('boundaries', {}).items()}
            curves = {name: np.array(curve) for name, curve in saved.get('curves', {}).items()}
        path = Path(folder) / 'vocabulary.parquet'
        with _readable(path):
            values = pl.read_parquet(path).partition_by('field', as_dict=True, include_key=False)
            empty = pl.DataFrame(schema={'value': pl.String, 'count': pl.Int64, 'unseen': pl.Int64})
            counted = [f for f in schema.owners if f.counted]
            vocabularies = {f.name: values.get((f.name,), empty) for f in counted}
            for field in counted:
                found = vocabularies[field.name].height + RESERVED
                if found != field.size:
                    raise UserError(
                        f'{path}: field {field.name!r} has {found} ids where encoder.json says '
                        f'{field.size}; prepare the data again'
                    )
        if saved['version'] < 3:
            # Missing numbers were 0 under `none`, and a whole float was told apart from the integer.
            for field in schema.numeric:
                if field.treatment == 'none':
                    moments[field.name] = dataclasses.replace(moments[field.name], mean=0.0)
            for field in counted:
                if not field.number:
                    vocabularies[field.name] = _respelled(vocabularies[field.name])
        others = (saved.get(key, {}) for key in ('families', 'expected_unknown', 'growth'))
        return cls(schema, vocabularies, moments, boundaries, curves, *others)


class OutOfRange(UserError):
    """A number that is beyond float32 once it is treated.

    Attributes:
      field: its field.
      row: its row among those that were encoded together.
    """

    def __init__(self, field: Field, row: int, found: float, treated: float):
        super().__init__(
            f'column {field.name!r}: {found:g} is {treated:g} after the treatment {field.treatment!r}, '
            'beyond the numbers of float32; mend it, or train with config.dataset.out_of_range=missing, '
            'which takes it for missing'
        )
        self.field, self.row = field, row


def _respelled(vocabulary: pl.DataFrame) -> pl.DataFrame:
    """A vocabulary of an older version, its values as texts of today where no two then are the same."""
    found = canonical(vocabulary['value'])
    keep = found.is_null() | (found.is_in(vocabulary['value'].implode()) & (found != vocabulary['value']))
    keep |= found.is_duplicated()
    return vocabulary.with_columns(value=found.zip_with(~keep, vocabulary['value']))


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


def load_expected_unknown(folder: str | Path) -> dict[str, float]:
    """`expected_unknown` of a saved encoder; the vocabularies are not read. Errors as of `load_schema`."""
    path = Path(folder) / 'encoder.json'
    with _readable(path):
        return _load_json(path)[0].get('expected_unknown', {})


def load_growth(folder: str | Path) -> dict[str, dict[str, int]]:
    """`growth` of a saved encoder; the vocabularies are not read. Errors as of `load_schema`."""
    path = Path(folder) / 'encoder.json'
    with _readable(path):
        return _load_json(path)[0].get('growth', {})


def load_families(folder: str | Path) -> dict[str, str]:
    """`families` of a saved encoder; the vocabularies are not read. Errors as of `load_schema`."""
    path = Path(folder) / 'encoder.json'
    with _readable(path):
        return _load_json(path)[0].get('families', {})


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
