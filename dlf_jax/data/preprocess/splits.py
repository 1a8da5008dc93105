"""Training, validation and test part of a table that comes as one: by time or at random."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from dlf_jax.data.hashing import row_hash

PARTS = ('train', 'valid', 'test')
KINDS = ('chronological', 'random', 'time')


@dataclasses.dataclass(frozen=True)
class Split:
    """How one table is cut.

    Attributes:
      kind: 'chronological' (file order), 'random' (each row by a hash of its number) or 'time' (by a
        column; rows of the same time stay together).
      fractions: of train, valid and perhaps test, in any unit; 0 leaves a part out.
      seed: of the random split.
    """

    kind: str
    fractions: Sequence[float]
    seed: int = 0

    @property
    def bounds(self) -> np.ndarray:
        """Where each part begins and the last one ends, fractions of 1."""
        bounds = np.cumsum([0.0, *self.fractions]) / sum(self.fractions)
        bounds[-1] = 1.0
        return bounds

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that are not left out."""
        return tuple(p for p, share in zip(PARTS, self.fractions, strict=False) if share > 0)

    def assign(
        self, first: int, count: int, rows: int, times: np.ndarray | None = None, cuts: Sequence[float] = ()
    ) -> np.ndarray:
        """The part of each of `count` rows from row `first` on, as an index into `PARTS`, int64.

        Args:
          rows: of the whole table; read by 'chronological'.
          times, cuts: the rows' times and what `time_cuts` returned; read by 'time'.
        """
        if self.kind == 'time':
            return np.searchsorted(np.asarray(cuts), times, side='right')
        at = np.arange(first, first + count)
        place = at / rows if self.kind == 'chronological' else _uniform(at, self.seed)
        return np.searchsorted(self.bounds[1:-1], place, side='right')

    def time_cuts(self, times: Callable[[], Iterable[np.ndarray]], rows: int) -> list[float]:
        """The times at which the second and third part begin.

        Args:
          times: gives all times, float64, in pieces; called several times over.
          rows: how many there are.
        """
        ranks = [min(int(np.ceil(bound * rows)), rows - 1) for bound in self.bounds[1:-1]]
        return [_select(times, rank) for rank in ranks]


def _uniform(index: np.ndarray, seed: int) -> np.ndarray:
    """A fixed number in [0, 1) per row number, float64."""
    return (row_hash(index, seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _select(values: Callable[[], Iterable[np.ndarray]], rank: int) -> float:
    """The value of a rank among all, counted from 0, in passes that each settle 16 bits of it."""
    prefix = np.uint64(0)
    for level in range(4):
        shift = np.uint64(48 - 16 * level)
        counts = np.zeros(1 << 16, np.int64)
        for part in values():
            keys = _sortable(part)
            if level:
                keys = keys[keys >> (shift + np.uint64(16)) == prefix]
            counts += np.bincount(((keys >> shift) & np.uint64(0xFFFF)).astype(np.int64), minlength=1 << 16)
        ends = np.cumsum(counts)
        found = int(np.searchsorted(ends, rank, side='right'))
        rank -= int(ends[found] - counts[found])
        prefix = (prefix << np.uint64(16)) | np.uint64(found)
    bits = prefix ^ (np.uint64(1) << np.uint64(63)) if prefix >> np.uint64(63) else ~prefix
    return float(np.asarray(bits).view(np.float64))


def _sortable(values: np.ndarray) -> np.ndarray:
    """Floats as unsigned integers of the same order, uint64."""
    # -0.0 and 0.0 are one time.
    bits = (values + 0.0).view(np.uint64)
    negative = bits >> np.uint64(63) == 1
    return np.where(negative, ~bits, bits | np.uint64(1) << np.uint64(63))
