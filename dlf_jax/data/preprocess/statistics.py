"""What the encoder needs to know of the training part: counts of values, moments, samples.

Measured a chunk at a time and merged; the result does not depend on the order of merging, so several
machines find what one finds.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl

from dlf_jax.data.hashing import row_hash
from dlf_jax.data.preprocess.dictionary import Dictionary
from dlf_jax.data.schema import Schema

SAMPLE_ROWS = 1 << 18


@dataclasses.dataclass(frozen=True)
class Moments:
    """Statistics of a numeric column over the training part; missing values left out."""

    count: int = 0
    mean: float = 0.0
    deviation: float = 0.0  # population standard deviation
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        """Of float64 values, NaN where missing."""
        values = values[~np.isnan(values)]
        if not values.size:
            return cls()
        low, high = float(values.min()), float(values.max())
        return cls(values.size, float(values.mean()), float(values.std()), low, high)

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


@dataclasses.dataclass(frozen=True)
class Sample:
    """A uniform sample of a column: the rows whose hashes are least. All rows, up to `SAMPLE_ROWS`.

    Attributes:
      hashes: of the rows' numbers, uint64 [n].
      values: float64 [n].
    """

    hashes: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, rows: np.ndarray) -> Sample:
        """Of float64 values, NaN where missing, and their rows' numbers in the table."""
        there = ~np.isnan(values)
        return cls(row_hash(rows[there], 0), values[there]).cut()

    def cut(self) -> Sample:
        """No more than `SAMPLE_ROWS`."""
        if self.hashes.size <= SAMPLE_ROWS:
            return self
        least = np.argpartition(self.hashes, SAMPLE_ROWS)[:SAMPLE_ROWS]
        return Sample(self.hashes[least], self.values[least])

    def merge(self, other: Sample) -> Sample:
        return Sample(
            np.concatenate([self.hashes, other.hashes]), np.concatenate([self.values, other.values])
        ).cut()

    def boundaries(self, buckets: int) -> np.ndarray:
        """Where the second and later of so many ranges with as many rows each begin, float64, rising;
        fewer where values repeat."""
        if not self.values.size:
            return np.empty(0)
        values = np.sort(self.values)
        found = np.unique(values[np.arange(1, buckets) * values.size // buckets])
        return found[found > values[0]]


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Of some training rows.

    Attributes:
      rows: how many.
      counts: by owning field with a vocabulary, its values: `value` (String or Int64), `count`.
      moments: (number of the chunk, moments by numeric field); merged in the chunks' order at the
        end, since sums of floats depend on it.
      samples: by `bucket` field.
    """

    rows: int
    counts: dict[str, pl.DataFrame]
    moments: tuple[tuple[int, dict[str, Moments]], ...]
    samples: dict[str, Sample]

    def merge(self, other: Statistics) -> Statistics:
        """The statistics of both together."""
        counts = {
            name: pl.concat([frame, other.counts[name]]).group_by('value').agg(pl.col('count').sum())
            for name, frame in self.counts.items()
        }
        samples = merge_samples([self.samples, other.samples])
        return Statistics(self.rows + other.rows, counts, (*self.moments, *other.moments), samples)

    def merged_moments(self) -> dict[str, Moments]:
        """Moments by numeric field over all chunks."""
        ordered = [found for _, found in sorted(self.moments, key=lambda pair: pair[0])]
        names = ordered[0] if ordered else {}
        return {name: functools.reduce(Moments.merge, (found[name] for found in ordered)) for name in names}


def measured(
    schema: Schema, chunk: int, numbers: np.ndarray, rows: np.ndarray
) -> tuple[tuple[int, dict[str, Moments]], dict[str, Sample]]:
    """Moments and samples of the training rows of a chunk.

    Args:
      chunk: its number.
      numbers: of its training rows, as `Raw.numbers`.
      rows: their numbers in the table, int64.
    """
    numeric = schema.numeric
    moments = {f.name: Moments.of(numbers[:, i]) for i, f in enumerate(numeric)}
    samples = {f.name: Sample.of(numbers[:, len(numeric) + i], rows) for i, f in enumerate(schema.ranged)}
    return (chunk, moments), samples


def merge_samples(found: Iterable[dict[str, Sample]]) -> dict[str, Sample]:
    """Samples by field over all chunks."""
    merged: dict[str, Sample] = {}
    for samples in found:
        for name, sample in samples.items():
            merged[name] = merged[name].merge(sample) if name in merged else sample
    return merged


def count_codes(schema: Schema, codes: np.ndarray, counts: dict[str, np.ndarray]) -> None:
    """Adds how often each code comes in some rows.

    Args:
      codes: as `Raw.codes`.
      counts: begun by `no_counts`; added to in place.
    """

    def add(owner: str, found: np.ndarray) -> None:
        # Not bincount, which takes time for every code there is, in this chunk or not.
        np.add.at(counts[owner], found.astype(np.intp), 1)

    for i, field in enumerate(schema.coded):
        if field.counted:
            add(field.owner, codes[:, i])
    at = len(schema.coded)
    for field in schema.bags:
        if field.counted:
            add(field.owner, codes[:, at : at + field.length].ravel())
        at += field.length


def no_counts(dictionaries: Mapping[str, Dictionary]) -> dict[str, np.ndarray]:
    """Zeros by owning field, int64 [codes + 3]: a place for each code, the negative ones at the end."""
    return {name: np.zeros(len(d) + 3, np.int64) for name, d in dictionaries.items()}


def value_counts(values: pl.Series, counts: np.ndarray) -> pl.DataFrame:
    """`value` and `count` of the values that came at all; `counts` from `count_codes`."""
    frame = pl.DataFrame({'value': values, 'count': counts[: len(values)]})
    return frame.filter(pl.col('count') > 0)
