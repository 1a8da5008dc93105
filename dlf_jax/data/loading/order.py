"""Order of the rows in training batches: a shuffle that is arithmetic alone.

Batch `k` of epoch `e` is a pure function of `(seed, e, k)`: it depends neither on the number of hosts or
workers nor on restarts.

The full blocks are permuted each epoch and dealt to `W` lanes like cards; the rows of each block are
permuted; a batch takes `B / W` consecutive rows of every lane. The tail consists of the rows that the lanes
leave over (fewer than `B`), the blocks that do not fill a round of `W`, and the short last block; its rows
are permuted all together. A part of fewer than `W` blocks is all tail: held in memory and shuffled uniformly.
Every row comes exactly once an epoch, and the last batch is padded with rows of weight 0.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator

import numpy as np

MAX_LANES = 64

# Purposes of the random streams, which go into their seeds.
_BLOCKS, _ROWS, _TAIL = range(3)


def _permutation(size: int, *seed: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))).permutation(size)


@functools.cache
def lanes_for(batch_size: int) -> int:
    """Number of lanes: the divisor of the batch size, up to `MAX_LANES`, that most hosts can share."""
    divisors = [d for d in range(1, min(batch_size, MAX_LANES) + 1) if batch_size % d == 0]
    return max(divisors, key=lambda d: (math.gcd(d, 8), d))


def even_batch(size: int, shares: int) -> int:
    """Smallest batch size of at least `size` rows that hosts or devices can share evenly.

    For evaluation and prediction, whose results do not depend on the batch size: the rows that pad the last
    batch have weight 0.

    Args:
      size: requested number of rows of a global batch.
      shares: number of hosts, or of all devices.
    """
    return -(-size // shares) * shares


@dataclasses.dataclass(frozen=True)
class Order:
    """Order of the rows in the batches of an epoch: pure arithmetic, which reads nothing.

    Attributes:
      rows: number of rows of the part.
      block_rows: rows of every block but the last.
      batch_size: rows of a global batch, B.
      seed: seed of the shuffle.
    """

    rows: int
    block_rows: int
    batch_size: int
    seed: int

    @functools.cached_property
    def lanes(self) -> int:
        """Number of lanes, W."""
        return lanes_for(self.batch_size)

    @functools.cached_property
    def lane_rows(self) -> int:
        """Rows of a batch from each lane, B / W."""
        return self.batch_size // self.lanes

    @functools.cached_property
    def lane_blocks(self) -> int:
        """Number of full blocks of each lane."""
        return self.rows // self.block_rows // self.lanes

    @functools.cached_property
    def lane_steps(self) -> int:
        """Number of batches from the lanes; the others are from the tail."""
        return self.lane_blocks * self.block_rows // self.lane_rows

    @functools.cached_property
    def tail_rows(self) -> int:
        """Number of rows of the tail."""
        return self.rows - self.lane_steps * self.batch_size

    @functools.cached_property
    def steps(self) -> int:
        """Number of batches of an epoch."""
        return self.lane_steps + -(-self.tail_rows // self.batch_size)

    def batch_rows(self, step: int) -> int:
        """Number of rows of the global batch of a step, without those that pad the last one of an epoch."""
        last = step % self.steps == self.steps - 1
        return self.rows - (self.steps - 1) * self.batch_size if last else self.batch_size

    # The cache is shared by the orders of all seeds that are trained together.
    @functools.lru_cache(maxsize=64)  # noqa: B019 - the order outlives no iterator
    def blocks(self, epoch: int) -> np.ndarray:
        """Full blocks in the epoch's order, int64; lane `j` reads every `W`-th from the `j`-th on."""
        return _permutation(self.rows // self.block_rows, self.seed, epoch, _BLOCKS)

    def block_order(self, epoch: int, block: int) -> np.ndarray:
        """Permutation of the rows inside a full block, int64 [block_rows]."""
        return _permutation(self.block_rows, self.seed, epoch, _ROWS, block)

    def tail_order(self, epoch: int) -> np.ndarray:
        """Permutation of the tail's rows, int64 [tail_rows]."""
        return _permutation(self.tail_rows, self.seed, epoch, _TAIL)

    def segments(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yields (turn, first, last): the row ranges of permuted blocks that cover rows [start, stop) of a
        lane. The block of turn `n` is the lane's `n`-th."""
        while start < stop:
            turn, first = divmod(start, self.block_rows)
            last = min(self.block_rows, first + stop - start)
            yield turn, first, last
            start += last - first

    def turn_blocks(self, epoch: int, turn: int) -> np.ndarray:
        """Blocks of all lanes in a turn, int64 [lanes]."""
        return self.blocks(epoch)[turn * self.lanes : (turn + 1) * self.lanes]

    def tail_segments(self, epoch: int) -> Iterator[tuple[int, int, int, bool]]:
        """Yields (block, first, last, permuted): the row ranges that make up the tail, in its order."""
        used, end = self.lane_steps * self.lane_rows, self.lane_blocks * self.block_rows
        for lane in range(self.lanes if self.lane_blocks else 0):
            for turn, first, last in self.segments(used, end):
                yield int(self.turn_blocks(epoch, turn)[lane]), first, last, True
        rest = self.blocks(epoch)[self.lane_blocks * self.lanes :]
        # All tail: file order, so that one copy in memory serves every epoch.
        for block in rest if self.lane_blocks else np.sort(rest):
            yield int(block), 0, self.block_rows, False
        if self.rows % self.block_rows:
            yield self.rows // self.block_rows, 0, self.rows % self.block_rows, False
