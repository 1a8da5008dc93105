"""Splits of one table into training, validation and test parts: by file order, by time or at random."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from dlf_jax.data.hashing import row_hash

PARTS = ('train', 'valid', 'test')
KINDS = ('chronological', 'random', 'time')


@dataclasses.dataclass(frozen=True)
class Split:
    """Split of one table into parts.

    Attributes:
      kind: 'chronological' (file order), 'random' (each row by a hash of its number) or 'time' (by a
        column; rows of the same time stay together).
      fractions: shares of train, valid and perhaps test, in any unit; a part of share 0 is left out.
      seed: seed of the random split.
    """

    kind: str
    fractions: Sequence[float]
    seed: int = 0

    @property
    def bounds(self) -> np.ndarray:
        """Bounds of the parts as fractions of 1, float64 [parts + 1]."""
        bounds = np.cumsum([0.0, *self.fractions]) / sum(self.fractions)
        bounds[-1] = 1.0
        return bounds

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that are not left out."""
        return tuple(p for p, share in zip(PARTS, self.fractions, strict=False) if share > 0)

    def assign(
        self, first: int, count: int, rows: int, times: np.ndarray | None = None, cuts: Sequence[float] = ()
    ) -> np.ndarray:
        """Assigns rows to parts.

        Args:
          first: number of the first row.
          count: number of rows.
          rows: number of rows of the whole table; used by 'chronological'.
          times: times of the rows, float64 [count]; used by 'time'.
          cuts: result of `time_cuts`; used by 'time'.

        Returns:
          The part of each row as an index into `PARTS`, int64 [count].
        """
        if self.kind == 'time':
            assert times is not None
            return np.searchsorted(np.asarray(cuts), times, side='right')
        at = np.arange(first, first + count)
        place = at / rows if self.kind == 'chronological' else _uniform(at, self.seed)
        return np.searchsorted(self.bounds[1:-1], place, side='right')

    def time_cuts(self, count: Callable[[int, int], np.ndarray], rows: int) -> list[float]:
        """Times at which the second and the third part begin.

        Args:
          count: returns `count_times` of all times for a level and a prefix; called several times.
          rows: number of times.
        """
        ranks = [min(int(np.ceil(bound * rows)), rows - 1) for bound in self.bounds[1:-1]]
        return [_select(count, rank) for rank in ranks]


def _uniform(index: np.ndarray, seed: int) -> np.ndarray:
    """Stable pseudo-random numbers in [0, 1) by row number, float64 [n]."""
    return (row_hash(index, seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def count_times(times: Iterable[np.ndarray], level: int, prefix: int) -> np.ndarray:
    """Numbers of times by their 16 bits of a level, int64 [65536]; times of several machines add up.

    Args:
      times: float64, in pieces.
      level: 0 for the highest bits, to 3.
      prefix: the higher bits of the times that count.
    """
    shift, counts = np.uint64(48 - 16 * level), np.zeros(1 << 16, np.int64)
    for piece in times:
        keys = _sortable(piece)
        if level:
            keys = keys[keys >> (shift + np.uint64(16)) == np.uint64(prefix)]
        counts += np.bincount(((keys >> shift) & np.uint64(0xFFFF)).astype(np.int64), minlength=1 << 16)
    return counts


def _select(count: Callable[[int, int], np.ndarray], rank: int) -> float:
    """Order statistic: the value of a rank, counted from 0, in passes that each find 16 of its bits."""
    prefix = np.uint64(0)
    for level in range(4):
        counts = count(level, int(prefix))
        ends = np.cumsum(counts)
        found = int(np.searchsorted(ends, rank, side='right'))
        rank -= int(ends[found] - counts[found])
        prefix = (prefix << np.uint64(16)) | np.uint64(found)
    bits = prefix ^ (np.uint64(1) << np.uint64(63)) if prefix >> np.uint64(63) else ~prefix
    return float(np.asarray(bits).view(np.float64))


def _sortable(values: np.ndarray) -> np.ndarray:
    """Unsigned integers in the order of floats, uint64 [n]."""
    # -0.0 and 0.0 are the same time.
    bits = (values + 0.0).view(np.uint64)
    negative = bits >> np.uint64(63) == 1
    return np.where(negative, ~bits, bits | np.uint64(1) << np.uint64(63))
