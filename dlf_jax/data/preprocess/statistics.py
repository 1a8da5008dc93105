"""Statistics of the training part that the encoder is fitted to: counts of values, moments, samples.

They are measured chunk by chunk and merged. The result does not depend on the order of merging, so several
machines find what one machine finds.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl

from dlf_jax.data.hashing import row_hash
from dlf_jax.data.preprocess.coder import Coder
from dlf_jax.data.readers.chunk import Chunk
from dlf_jax.data.schema import Schema

SAMPLE_ROWS = 1 << 18
EPSILON = float(np.finfo(np.float64).eps)


@dataclasses.dataclass(frozen=True)
class Moments:
    """Moments and range of a numeric column over training rows, missing values left out."""

    count: int = 0
    mean: float = 0.0
    deviation: float = 0.0  # population standard deviation
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        """Moments of values, float64 [n], NaN where missing."""
        values = values[~np.isnan(values)]
        if not values.size:
            return cls()
        low, high = float(values.min()), float(values.max())
        return cls(values.size, float(values.mean()), float(values.std()), low, high)

    @property
    def varies(self) -> bool:
        """Whether the values differ by more than the rounding of sums of float64."""
        return self.count > 0 and self.high - self.low > 8 * EPSILON * max(abs(self.low), abs(self.high))

    def to_json(self) -> dict[str, float | None]:
        """The attributes, None where there is no range."""
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, saved: Mapping[str, float | None]) -> Moments:
        """Reads what `to_json` wrote, or the numbers of an older version."""
        return cls(**{name: value for name, value in saved.items() if value is not None})  # type: ignore[arg-type]

    def merge(self, other: Moments) -> Moments:
        """Moments of the values of both (Chan et al. 1979)."""
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


@dataclasses.dataclass(frozen=True)
class Sample:
    """Uniform sample of a column: the `SAMPLE_ROWS` rows with the smallest hashes, or all rows.

    Attributes:
      hashes: hashes of the row numbers, uint64 [n].
      values: values of the rows, float64 [n].
    """

    hashes: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, rows: np.ndarray) -> Sample:
        """Sample of values, float64 [n], NaN where missing, and their row numbers, int64 [n]."""
        there = ~np.isnan(values)
        return cls(row_hash(rows[there], 0), values[there]).cut()

    def cut(self) -> Sample:
        """The sample, reduced to `SAMPLE_ROWS` rows."""
        if self.hashes.size <= SAMPLE_ROWS:
            return self
        least = np.argpartition(self.hashes, SAMPLE_ROWS)[:SAMPLE_ROWS]
        return Sample(self.hashes[least], self.values[least])

    def merge(self, other: Sample) -> Sample:
        """Sample of the rows of both."""
        return Sample(
            np.concatenate([self.hashes, other.hashes]), np.concatenate([self.values, other.values])
        ).cut()

    def boundaries(self, buckets: int) -> np.ndarray:
        """First values of the second and later of `buckets` ranges with the same number of rows each.

        Returns:
          float64, rising; fewer than `buckets - 1` where values repeat.
        """
        if not self.values.size:
            return np.empty(0)
        values = np.sort(self.values)
        found = np.unique(values[np.arange(1, buckets) * values.size // buckets])
        return found[found > values[0]]


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of some training rows.

    Attributes:
      rows: number of rows.
      counts: `value` (String or Int64) and `count`, by owning field with a vocabulary.
      moments: (number of the chunk, moments by numeric field); merged in the chunks' order at the
        end, because sums of floats depend on the order.
      samples: samples by field of `Schema.sampled`.
    """

    rows: int
    counts: dict[str, pl.DataFrame]
    moments: tuple[tuple[int, dict[str, Moments]], ...]
    samples: dict[str, Sample]

    def merge(self, other: Statistics) -> Statistics:
        """Statistics of the rows of both."""
        counts = {
            name: pl.concat([frame, other.counts[name]]).group_by('value').agg(pl.col('count').sum())
            for name, frame in self.counts.items()
        }
        samples = merge_samples([self.samples, other.samples])
        return Statistics(self.rows + other.rows, counts, (*self.moments, *other.moments), samples)

    def merged_moments(self) -> dict[str, Moments]:
        """Moments by numeric field, over all chunks."""
        ordered = [found for _, found in sorted(self.moments, key=lambda pair: pair[0])]
        names = ordered[0] if ordered else {}
        return {name: functools.reduce(Moments.merge, (found[name] for found in ordered)) for name in names}


def measure_chunk(schema: Schema, number: int, chunk: Chunk, rows: np.ndarray, first: int) -> Statistics:
    """Statistics of some rows of one chunk.

    Args:
      schema: the features, their fields without sizes.
      number: number of the chunk in the training table.
      chunk: a chunk that holds the features' columns.
      rows: positions of the training rows in the chunk, int64 [n].
      first: number of the chunk's first row in the table.
    """
    coder = Coder(schema)
    coded = coder.code(chunk)
    values = {name: dictionary.values for name, dictionary in coder.dictionaries.items()}
    counts = no_counts(values)
    count_codes(schema, coded.codes[rows], counts)
    moments, samples = moments_and_samples(schema, coded.numbers[rows], rows + first)
    return Statistics(len(rows), value_counts(values, counts), ((number, moments),), samples)


def moments_and_samples(
    schema: Schema, numbers: np.ndarray, rows: np.ndarray
) -> tuple[dict[str, Moments], dict[str, Sample]]:
    """Moments by numeric field and samples by field of `Schema.sampled`, of training rows.

    Args:
      schema: the features.
      numbers: the rows' `CodedRows.numbers`.
      rows: the rows' numbers in the table, int64 [n].
    """
    columns = dict(zip((*schema.numeric, *schema.ranged), numbers.T, strict=True))
    moments = {field.name: Moments.of(columns[field]) for field in schema.numeric}
    samples = {field.name: Sample.of(columns[field], rows) for field in schema.sampled}
    return moments, samples


def merge_samples(found: Iterable[dict[str, Sample]]) -> dict[str, Sample]:
    """Samples by field of the rows of all chunks."""
    merged: dict[str, Sample] = {}
    for samples in found:
        for name, sample in samples.items():
            merged[name] = merged[name].merge(sample) if name in merged else sample
    return merged


def count_codes(schema: Schema, codes: np.ndarray, counts: dict[str, np.ndarray]) -> None:
    """Adds the numbers of occurrences of codes in some rows to counts.

    Args:
      schema: the features.
      codes: the rows' `CodedRows.codes`.
      counts: counts of `no_counts`, changed in place.
    """

    def add(owner: str, found: np.ndarray) -> None:
        # Not bincount, whose time grows with the number of all codes, in this chunk or not.
        np.add.at(counts[owner], found.astype(np.intp), 1)

    for i, field in enumerate(schema.coded):
        if field.counted:
            add(field.owner, codes[:, i])
    for field, columns in schema.bag_slices(len(schema.coded)):
        if field.counted:
            add(field.owner, codes[:, columns].ravel())


def no_counts(values: Mapping[str, pl.Series]) -> dict[str, np.ndarray]:
    """Zero counts by owning field, int64 [codes + 3]; those of negative codes are at the end.

    Args:
      values: values in the order of their codes, by owning field.
    """
    return {name: np.zeros(len(found) + 3, np.int64) for name, found in values.items()}


def value_counts(
    values: Mapping[str, pl.Series], counts: Mapping[str, np.ndarray]
) -> dict[str, pl.DataFrame]:
    """Values that occurred, with their counts.

    Args:
      values: values in the order of their codes, by owning field.
      counts: counts by code, of `count_codes`, by owning field.

    Returns:
      `value` and `count`, by owning field.
    """
    frames = {
        name: pl.DataFrame({'value': values[name], 'count': count[: len(values[name])]})
        for name, count in counts.items()
    }
    return {name: frame.filter(pl.col('count') > 0) for name, frame in frames.items()}
