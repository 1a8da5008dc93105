"""Encoding of few rows: the features of `Encoder.transform`, all columns in one pass.

`Encoder.transform` takes a column at a time, which is fastest for the chunks of a file. Of one row, or of
hundreds, it would spend all its time between the columns.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl

from dlf_jax.data.hashing import stable_hash
from dlf_jax.data.preprocess.coder import places
from dlf_jax.data.preprocess.dictionary import NULL, UNKNOWN, Dictionary, keys_of
from dlf_jax.data.preprocess.encoder import Encoder, OutOfRange
from dlf_jax.data.preprocess.joined_dictionaries import JoinedDictionaries
from dlf_jax.data.readers import columns
from dlf_jax.data.readers.chunk import Chunk
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import MISSING, OUT_OF_VOCABULARY, PADDING, RESERVED, Field, Schema
from dlf_jax.data.values import canonical, markers_of, perhaps_rewritten
from dlf_jax.errors import UserError

# What errors call the rows.
NAME = 'the request'


@dataclasses.dataclass(frozen=True)
class TypedRows:
    """A few rows as Python's values, row after row; the fields of each part are those of `Parts`.

    Attributes:
      rows: number of rows.
      texts: values of the fields with a vocabulary, [rows * fields], None where missing.
      hashed: those of the fields with hash buckets.
      lists: by multi-valued field, the values of each row; None where there are none.
      numbers: numbers as they are written, float64 [rows, fields]; NaN where missing.
    """

    rows: int
    texts: list[str | None]
    hashed: list[str | None]
    lists: list[list[list[str | None] | None]]
    numbers: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[TypedRows]) -> TypedRows:
        """The rows of several, one after another."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            sum(part.rows for part in parts),
            _chained(part.texts for part in parts),
            _chained(part.hashed for part in parts),
            [_chained(lists) for lists in zip(*(part.lists for part in parts), strict=True)],
            np.concatenate([part.numbers for part in parts]),
        )


def _chained(parts: Iterable[list]) -> list:
    return list(itertools.chain.from_iterable(parts))


@dataclasses.dataclass(frozen=True)
class Parts:
    """The fields of a schema by what their columns hold.

    Attributes:
      texts: categorical text fields with a vocabulary.
      hashed: those with hash buckets.
      lists: multi-valued ones.
      numbers: fields of columns of numbers: numeric ones, categories of logarithms, ranges.
    """

    texts: tuple[Field, ...]
    hashed: tuple[Field, ...]
    lists: tuple[Field, ...]
    numbers: tuple[Field, ...]

    @classmethod
    def of(cls, schema: Schema) -> Parts:
        """The parts of a schema, each in its order."""
        text = [field for field in schema.coded if not field.number]
        return cls(
            tuple(field for field in text if not field.hash_buckets),
            tuple(field for field in text if field.hash_buckets),
            schema.bags,
            tuple(field for field in schema.fields if field.number),
        )


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Features of rows, and what was found on the way.

    Attributes:
      features: as `Encoder.encode` returns them.
      unknown: whether the value is one that the training part did not have, bool [rows, fields]; of a
        multi-valued field, whether any is.
      missing: whether there is no value, bool [rows, fields].
    """

    features: Rows
    unknown: np.ndarray
    missing: np.ndarray


class JoinedEncoder:
    """Encoder of few rows. Holds nothing that a call changes."""

    def __init__(self, encoder: Encoder):
        """Joins the encoder's dictionaries.

        Args:
          encoder: of the training data; its own dictionaries are not made.
        """
        self.schema, self._encoder = encoder.schema, encoder
        self.parts = parts = Parts.of(encoder.schema)
        owners = list(encoder.vocabularies)
        self._joined = JoinedDictionaries(Dictionary(encoder.typed_values(name)) for name in owners)
        self._number = {name: np.int64(i) for i, name in enumerate(owners)}
        self._owners_of_texts = np.array([self._number[field.owner] for field in parts.texts], np.int64)
        at = {field.name: i for i, field in enumerate(parts.numbers)}
        self._numeric = [at[field.name] for field in self.schema.numeric]
        self._ranged = self.schema.ranged
        self._text_groups = _groups(parts.texts)
        self._logarithms = [field.name for field in self.schema.coded if field.number]
        self._at = at
        places = {field.name: i for i, field in enumerate(self.schema.categorical)}
        self._text_places = [places[field.name] for field in parts.texts]
        self._places = places
        # In the order of the columns of `categorical`.
        offsets = [self.schema.offsets[field.owner] for field in self.schema.categorical]
        self._offsets = np.array(offsets, np.int32)
        self._limits = np.array(
            [columns.FLOAT32 if field.treatment == 'none' else columns.LARGEST for field in parts.numbers]
        )
        self._marked = [i for i, field in enumerate(parts.numbers) if field.missing]
        # Positions in the schema's fields.
        self._order = {field.name: i for i, field in enumerate(self.schema.fields)}
        self._order_of_categorical = [self._order[f.name] for f in self.schema.categorical]
        self._order_of_numbers = [self._order[f.name] for f in parts.numbers]

    def encode(self, rows: TypedRows) -> Encoded:
        """Encodes rows.

        Raises:
          UserError: a number that is infinite, or out of range; names the row and the column.
        """
        numbers = self._in_range(rows.numbers)
        fields = len(self.schema.fields)
        unknown, missing = np.zeros((rows.rows, fields), bool), np.zeros((rows.rows, fields), bool)
        missing[:, self._order_of_numbers] = np.isnan(numbers)
        features: Rows = {}
        if len(self._offsets):
            codes = self._codes(rows, numbers)
            nulls, others = codes == NULL, codes == UNKNOWN
            unknown[:, self._order_of_categorical] = others
            missing[:, self._order_of_categorical] = nulls
            features['categorical'] = _ids(codes, nulls, others) + self._offsets
        if self._numeric:
            try:
                features['numeric'] = self._encoder.treated(numbers[:, self._numeric].T)
            except OutOfRange as error:
                raise UserError(f'{NAME}, row {error.row + 1}: {error}') from error
        if self.schema.bags:
            bags = [
                self._bag(field, lists, unknown, missing)
                for field, lists in zip(self.parts.lists, rows.lists, strict=True)
            ]
            features['bags'] = np.concatenate(bags, axis=1)
        return Encoded(features, unknown, missing)

    def _in_range(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers [rows, fields] as `columns.numbers` gives them."""
        beyond = (np.abs(numbers) > self._limits).any(axis=0)
        treated = [*np.flatnonzero(beyond), *self._marked]
        if not treated:
            return numbers
        numbers = numbers.copy()
        for i in treated:
            field = self.parts.numbers[i]
            chunk = Chunk(pl.DataFrame({field.name: numbers[:, i]}), NAME, 1)
            numbers[:, i] = columns.numbers(chunk, field.name, field)
        return numbers

    def _codes(self, rows: TypedRows, numbers: np.ndarray) -> np.ndarray:
        """Codes of the categorical fields, int32 [rows, Fc]."""
        codes = np.empty((rows.rows, len(self._offsets)), np.int32)
        if self.parts.texts:
            codes[:, self._text_places] = self._found(rows.texts).reshape(rows.rows, -1)
        if self.parts.hashed:
            self._hash(rows, codes)
        if self._logarithms:
            values = columns.log2_categories('', numbers[:, [self._at[n] for n in self._logarithms]].ravel())
            which = np.array([self._number[name] for name in self._logarithms])
            found = self._joined.find(keys_of(values).reshape(rows.rows, -1), which)
            found[np.isnan(numbers[:, [self._at[n] for n in self._logarithms]])] = NULL
            codes[:, [self._places[name] for name in self._logarithms]] = found
        for field in self._ranged:
            ranges = self._encoder.ranges(numbers[:, self._at[field.name]], field)
            codes[:, self._places[field.name]] = ranges
        return codes

    def _found(self, texts: list[str | None]) -> np.ndarray:
        """Codes of texts, row after row, as `Coder` finds them: as they are written, or else as they are
        written canonically."""
        fields, which = self.parts.texts, self._owners_of_texts
        values = pl.Series(texts, dtype=pl.String)
        codes = self._joined.find(keys_of(values).reshape(-1, len(fields)), which).reshape(-1)
        _with_nulls(codes, values)
        unknown = np.flatnonzero(codes == UNKNOWN)
        if not unknown.size:
            return codes
        for at, field in _alike(self._text_groups, unknown, len(fields)):
            markers = set(markers_of(field.missing, field.verbatim))
            places = unknown[at].tolist()
            nulls = [i for i in places if texts[i] in markers]
            codes[nulls] = NULL
            rewritten = perhaps_rewritten([texts[i] or '' for i in places])
            if rewritten:
                others = np.array([places[i] for i in rewritten])
                found = canonical(values.gather(others), field.missing, field.verbatim)
                again = self._joined.find(keys_of(found), which[others % len(fields)])
                codes[others] = _with_nulls(again, found)
        return codes

    def _hash(self, rows: TypedRows, codes: np.ndarray) -> None:
        """Sets the codes of the fields with hash buckets."""
        fields = self.parts.hashed
        values = pl.Series(rows.hashed, dtype=pl.String)
        places = np.arange(len(values))
        buckets = np.array([field.hash_buckets for field in fields], np.uint64)
        found = np.empty(len(values), np.int32)
        for at, field in _alike(_groups(fields), places, len(fields)):
            texts = canonical(values.gather(at), field.missing, field.verbatim)
            hashes = (stable_hash(texts) % buckets[at % len(fields)]).astype(np.int32)
            found[at] = _with_nulls(hashes, texts)
        codes[:, [self._places[field.name] for field in fields]] = found.reshape(rows.rows, -1)

    def _bag(
        self,
        field: Field,
        lists: list[list[str | None] | None],
        unknown: np.ndarray,
        missing: np.ndarray,
    ) -> np.ndarray:
        """Ids of a multi-valued field, int32 [rows, length]; marks its unknown and missing ones."""
        lengths = np.array([len(values or ()) for values in lists])
        flat = pl.Series(_chained(values for values in lists if values), dtype=pl.String)
        rows = np.repeat(np.arange(len(lists)), lengths)
        flat, lengths = columns.kept_elements(flat, rows, len(lists), field)
        if field.hash_buckets:
            codes = (stable_hash(flat) % np.uint64(field.hash_buckets)).astype(np.int32)
        else:
            codes = self._joined.find(keys_of(flat), np.array(self._number[field.owner]))
        codes = _with_nulls(codes, flat)
        offset, place = self.schema.offsets[field.owner], self._order[field.name]
        ids = np.full((len(lists), field.length), PADDING, np.int32)
        ids[places(field, lengths)] = _ids(codes, codes == NULL, codes == UNKNOWN) + offset
        if not field.ordered:
            ids[lengths == 0, 0] = offset + MISSING
        unknown[np.repeat(np.arange(len(lists)), lengths)[codes == UNKNOWN], place] = True
        missing[:, place] = lengths == 0
        return ids


def _with_nulls(codes: np.ndarray, values: pl.Series) -> np.ndarray:
    """Sets the codes of nulls in place."""
    if values.null_count():
        codes[values.is_null().to_numpy()] = NULL
    return codes


def _ids(codes: np.ndarray, nulls: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Ids of codes within their field, int32."""
    ids = codes + np.int32(RESERVED)
    ids[nulls] = MISSING
    ids[unknown] = OUT_OF_VOCABULARY
    return ids


def _groups(fields: tuple[Field, ...]) -> list[tuple[Field, np.ndarray]]:
    """Fields that spell values alike: one of them, and the numbers of all."""
    groups: dict[tuple, list[int]] = {}
    for i, field in enumerate(fields):
        groups.setdefault((field.missing, field.verbatim), []).append(i)
    return [(fields[group[0]], np.array(group)) for group in groups.values()]


def _alike(
    groups: list[tuple[Field, np.ndarray]], places: np.ndarray, fields: int
) -> Iterator[tuple[np.ndarray, Field]]:
    """Yields which of some places are of each group of fields, with one of the fields.

    Args:
      groups: see `_groups`.
      places: places in values that lie row after row, int64 [n].
      fields: number of fields of a row.
    """
    if len(groups) == 1:
        yield np.arange(len(places)), groups[0][0]
        return
    for field, group in groups:
        at = np.flatnonzero(np.isin(places % fields, group))
        if at.size:
            yield at, field
