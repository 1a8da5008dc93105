"""Coding of chunks: columns to codes and float64 numbers, before a vocabulary is known or with one."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl

from dlf_jax.data.hashing import stable_hash
from dlf_jax.data.prefetch import column_pool
from dlf_jax.data.preprocess.dictionary import NULL, PAD, UNKNOWN, Dictionary
from dlf_jax.data.readers.chunk import Chunk
from dlf_jax.data.readers.columns import categories, elements, extras, numbers, times
from dlf_jax.data.schema import Field, Schema
from dlf_jax.data.values import canonical_rows


@dataclasses.dataclass(frozen=True)
class CodedRows:
    """Rows as codes and numbers, between the file and the features.

    Attributes:
      codes: int32 [rows, columns]; the categorical fields that are not ranges, then the multi-valued
        ones, `length` columns each. Codes of a dictionary, or hash buckets; `NULL`, `UNKNOWN`, `PAD`.
      numbers: float64 [rows, columns]; the numeric fields, then those that become ranges; NaN where
        missing.
    """

    codes: np.ndarray
    numbers: np.ndarray


class Coder:
    """Columns to `CodedRows`, with one dictionary for each field that owns a vocabulary."""

    def __init__(self, schema: Schema, dictionaries: dict[str, Dictionary] | None = None):
        """Takes finished dictionaries, or starts with empty ones that grow.

        Args:
          schema: the features, perhaps without sizes.
          dictionaries: dictionaries of finished vocabularies, by owning field. None: new values get
            codes as they come.
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

    def code(self, chunk: Chunk) -> CodedRows:
        """Codes the rows of a chunk that holds the features' columns.

        Raises:
          UserError: an infinite number, or a column of another kind than its field.
        """
        rows = chunk.frame.height
        # Columns are contiguous: they are written and read one at a time.
        codes = np.empty((rows, len(self.schema.coded) + self.schema.bag_columns), np.int32, order='F')

        def code_owner(owner: str) -> None:
            for i, field in enumerate(self.schema.coded):
                if field.owner == owner:
                    codes[:, i] = self.codes(field, categories(chunk, field))

        # Only one thread may use a dictionary; NumPy and Polars release the interpreter lock.
        list(column_pool().map(code_owner, dict.fromkeys(field.owner for field in self.schema.coded)))
        for field, columns in self.schema.bag_slices(len(self.schema.coded)):
            codes[:, columns] = self._bag(field, chunk)
        measured = (*self.schema.numeric, *self.schema.ranged)
        values = np.empty((rows, len(measured)), order='F')
        for i, field in enumerate(measured):
            values[:, i] = numbers(chunk, field.name, field)
        return CodedRows(codes, values)

    def staged(self, chunk: Chunk, time: str, signs: set[str]) -> dict[str, np.ndarray]:
        """Arrays of a chunk as `Staging` takes them: codes, numbers, label and what else a row has.

        Args:
          chunk: with all columns of `Task.columns`.
          time: column of a split by time; '': none.
          signs: texts of 0 and -1 among the labels so far, to which the chunk's are added.

        Raises:
          UserError: see `code`; a label, weight or time that cannot be.
        """
        coded = self.code(chunk)
        arrays = {'codes': coded.codes, 'numbers': coded.numbers, **extras(chunk, self.schema, signs)}
        return {**arrays, 'time': times(chunk, time)} if time else arrays

    def codes(self, field: Field, values: pl.Series) -> np.ndarray:
        """Codes of values of a field, int32 [n]."""
        if field.hash_buckets:
            values = canonical_rows(values, field.missing, field.verbatim)
            codes = (stable_hash(values) % np.uint64(field.hash_buckets)).astype(np.int32)
            if values.null_count():
                codes[values.is_null().to_numpy()] = NULL
            return codes
        dictionary = self.dictionaries[field.owner]
        if self.growing:
            # As they are written: the encoder, which sees each value once, brings together what is the same.
            return dictionary.add(values)
        codes = dictionary.find(values)
        if values.dtype == pl.String:
            unknown = np.flatnonzero(codes == UNKNOWN)
            if unknown.size:
                found = canonical_rows(values.gather(unknown), field.missing, field.verbatim)
                codes[unknown] = dictionary.find(found)
        return codes

    def _bag(self, field: Field, chunk: Chunk) -> np.ndarray:
        values, lengths = elements(chunk, field)
        padded = np.full((len(lengths), field.length), PAD, np.int32)
        padded[places(field, lengths)] = self.codes(field, values)
        if not field.ordered:
            padded[lengths == 0, 0] = NULL
        return padded


def places(field: Field, lengths: np.ndarray) -> np.ndarray:
    """Where the values of a multi-valued field lie, bool [rows, length].

    Those of an ordered field end with the last column, so that the latest value always has the same place;
    all others begin with the first.

    Args:
      field: the field.
      lengths: number of values of each row, int64 [rows].
    """
    columns = np.arange(field.length)
    return (columns[::-1] if field.ordered else columns) < lengths[:, None]
