"""Training, validation and test part of a table that comes as one: by time or at random."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from dlf_jax.data.sources import Chunk, Table

_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclasses.dataclass(frozen=True)
class Part:
    """The rows of a table whose position falls into [low, high) of the whole; itself a table.

    Attributes:
      table: the whole.
      low, high: bounds of the part, fractions of 1.
      rows: rows of the whole for a chronological split; 0 for a random one.
      seed: of the random split.
    """

    table: Table
    low: float
    high: float
    rows: int
    seed: int

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def columns(self) -> tuple[str, ...]:
        return self.table.columns

    @property
    def paths(self) -> tuple[str, ...]:
        return self.table.paths

    def count(self) -> int:
        return sum(chunk.frame.height for chunk in self.chunks(self.columns[:1], ()))

    def chunks(self, text: Sequence[str], numbers: Sequence[str]) -> Iterator[Chunk]:
        position = 0
        for chunk in self.table.chunks(text, numbers):
            at = np.arange(position, position + chunk.frame.height)
            position += chunk.frame.height
            place = at / self.rows if self.rows else _uniform(at, self.seed)
            kept = np.flatnonzero((self.low <= place) & (place < self.high))
            if kept.size == len(at):
                yield chunk
            elif kept.size:
                yield chunk.keep(kept)


def split(table: Table, kind: str, fractions: Sequence[float], seed: int) -> dict[str, Table]:
    """Cuts a table into train, valid and test.

    Args:
      table: the whole.
      kind: 'chronological' (file order) or 'random' (each row by a hash of its number, so that no
        pass over the file is needed).
      fractions: of train, valid and test, in any unit; a fraction of 0 leaves the part out.
      seed: of the random split.
    """
    bounds = np.cumsum([0.0, *fractions]) / sum(fractions)
    bounds[-1] = 1.0
    rows = table.count() if kind == 'chronological' else 0
    return {
        name: Part(table, float(low), float(high), rows, seed)
        for name, low, high in zip(('train', 'valid', 'test'), bounds, bounds[1:], strict=False)
        if high > low
    }


def _uniform(index: np.ndarray, seed: int) -> np.ndarray:
    """A fixed number in [0, 1) per row number (splitmix64), float64."""
    with np.errstate(over='ignore'):
        x = index.astype(np.uint64) + np.uint64(seed % (1 << 32)) * np.uint64(0x9E3779B97F4A7C15)
        x += np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * _MIX[0]
        x = (x ^ (x >> np.uint64(27))) * _MIX[1]
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53
