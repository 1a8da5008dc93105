"""Block records -> shuffled, sharded, resumable batches.

Batch `k` of epoch `e` is a pure function of `(seed, e, k)`: not of hosts, workers or restarts.

The order. The full blocks are permuted each epoch and dealt to `W` lanes like cards; the rows of
each block are permuted; a batch takes `B / W` consecutive rows of every lane. What the lanes leave
over (fewer than `B` rows), the blocks that did not fill a round of `W`, and the short last block are
the tail: its rows are permuted all together. A data set of fewer than `W` blocks is all tail: held in
memory and shuffled uniformly. Every row comes exactly once an epoch; the last batch is padded with
rows of weight 0.

A host owns whole lanes, which are a contiguous part of each batch, so the global batch is the same
for every number of hosts that divides `W`, and a host reads only its own lanes' blocks (and the
tail's, at most `W` blocks). Memory is about `2 W` blocks whatever the data set.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import math
import threading
from collections.abc import Iterator

import grain
import numpy as np

from dlf_jax.data.records import Blocks, Rows
from dlf_jax.errors import UserError

Batch = dict[str, np.ndarray]
MAX_LANES = 64

# What a random stream is for; part of its seed.
_BLOCKS, _ROWS, _TAIL = range(3)


def _permutation(size: int, *seed: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))).permutation(size)


def lanes_for(batch_size: int) -> int:
    """The number of lanes: a divisor of the batch size, at most 64, that many hosts can share."""
    divisors = [d for d in range(1, min(batch_size, MAX_LANES) + 1) if batch_size % d == 0]
    return max(divisors, key=lambda d: (math.gcd(d, 8), d))


@dataclasses.dataclass(frozen=True)
class Order:
    """Which row stands where in the batches of an epoch. Pure arithmetic; reads nothing.

    Attributes:
      rows: in the split.
      block_rows: rows of every block but the last.
      batch_size: rows of a global batch, B.
      seed: of the shuffle.
    """

    rows: int
    block_rows: int
    batch_size: int
    seed: int

    @property
    def lanes(self) -> int:
        return lanes_for(self.batch_size)

    @property
    def take(self) -> int:
        """Rows that a batch takes of a lane."""
        return self.batch_size // self.lanes

    @property
    def lane_blocks(self) -> int:
        """Full blocks in each lane."""
        return self.rows // self.block_rows // self.lanes

    @property
    def lane_steps(self) -> int:
        """Batches that the lanes give; the tail gives the rest."""
        return self.lane_blocks * self.block_rows // self.take

    @property
    def tail_rows(self) -> int:
        return self.rows - self.lane_steps * self.batch_size

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.lane_steps + -(-self.tail_rows // self.batch_size)

    # Shared by the orders of all seeds that are trained together.
    @functools.lru_cache(maxsize=64)  # noqa: B019 - the order outlives no iterator
    def blocks(self, epoch: int) -> np.ndarray:
        """The full blocks in the epoch's order; lane `j` reads every `W`-th from the `j`-th on."""
        return _permutation(self.rows // self.block_rows, self.seed, epoch, _BLOCKS)

    def block_order(self, epoch: int, block: int) -> np.ndarray:
        """The epoch's permutation of the rows inside a full block, int64 [block_rows]."""
        return _permutation(self.block_rows, self.seed, epoch, _ROWS, block)

    def tail_order(self, epoch: int) -> np.ndarray:
        """The epoch's permutation of the tail's rows, int64 [tail_rows]."""
        return _permutation(self.tail_rows, self.seed, epoch, _TAIL)

    def lane_pieces(self, epoch: int, lane: int, start: int, stop: int) -> Iterator[tuple]:
        """Yields (block, first, last) that cover positions [start, stop) of a lane's row stream,
        in positions of the permuted block."""
        while start < stop:
            turn, first = divmod(start, self.block_rows)
            last = min(self.block_rows, first + stop - start)
            yield int(self.blocks(epoch)[turn * self.lanes + lane]), first, last
            start += last - first

    def tail_pieces(self, epoch: int) -> Iterator[tuple[int, int, int | None, bool]]:
        """Yields (block, first, last, permuted) that make up the tail, in its order."""
        used, end = self.lane_steps * self.take, self.lane_blocks * self.block_rows
        for lane in range(self.lanes if self.lane_blocks else 0):
            for block, first, last in self.lane_pieces(epoch, lane, used, end):
                yield block, first, last, True
        rest = self.blocks(epoch)[self.lane_blocks * self.lanes :]
        # All tail: keep file order, so that one copy in memory serves every epoch.
        for block in rest if self.lane_blocks else np.sort(rest):
            yield int(block), 0, None, False
        if self.rows % self.block_rows:
            yield self.rows // self.block_rows, 0, None, False


class _Reader:
    """Blocks with the least recently used ones forgotten."""

    def __init__(self, blocks: Blocks, keep: int):
        self._blocks = blocks
        self._keep = keep
        self._cache: collections.OrderedDict[tuple, Rows] = collections.OrderedDict()

    def block(self, block: int, epoch: int, order: Order) -> Rows:
        """A block with its rows in the epoch's order."""
        key = (epoch, block)
        if key not in self._cache:
            rows, permutation = self._blocks.read(block), order.block_order(epoch, block)
            self._cache[key] = {k: v[permutation] for k, v in rows.items()}
            while len(self._cache) > self._keep:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]


class TrainingBatches:
    """This host's part of every global batch, by step: what Grain reads from.

    Element `s` is batch `s % steps` of epoch `s // steps`: `categorical` int32 [b, Fc], `numeric`
    float32 [b, Fn], `label` and `weight` float32 [b] with b = batch_size / hosts.
    """

    def __init__(self, blocks: Blocks, order: Order, epochs: int, host: int = 0, hosts: int = 1):
        if order.lanes % hosts:
            raise UserError(
                f'training.batch_size={order.batch_size} is read in {order.lanes} lanes, which '
                f'{hosts} hosts cannot share evenly; take a batch size divisible by {8 * hosts}'
            )
        self.order, self._epochs, self._blocks = order, epochs, blocks
        self._host, self._hosts = host, hosts
        self._reader = _Reader(blocks, 2 * order.lanes // hosts + 1)
        self._lock = threading.Lock()
        self._tail: tuple[int, Rows] | None = None
        self._tail_order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self.order.steps * self._epochs

    def __getitem__(self, step: int) -> Batch:
        epoch, k = divmod(step, self.order.steps)
        with self._lock:
            if k < self.order.lane_steps:
                return self._from_lanes(epoch, k)
            return self._from_tail(epoch, k - self.order.lane_steps)

    def _from_lanes(self, epoch: int, k: int) -> Batch:
        order = self.order
        share = order.lanes // self._hosts
        parts = [
            {name: v[first:last] for name, v in self._reader.block(block, epoch, order).items()}
            for lane in range(self._host * share, (self._host + 1) * share)
            for block, first, last in order.lane_pieces(epoch, lane, k * order.take, (k + 1) * order.take)
        ]
        batch = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        return weighted(batch)

    def _from_tail(self, epoch: int, k: int) -> Batch:
        share = self.order.batch_size // self._hosts
        start = k * self.order.batch_size + self._host * share
        if self._tail_order is None or self._tail_order[0] != epoch:
            self._tail_order = epoch, self.order.tail_order(epoch)
        rows = self._tail_order[1][start : start + share]
        tail = self._load_tail(epoch)
        return pad(weighted({name: v[rows] for name, v in tail.items()}), share)

    def _load_tail(self, epoch: int) -> Rows:
        key = epoch if self.order.lane_blocks else -1
        if self._tail is None or self._tail[0] != key:
            parts = []
            for block, first, last, permuted in self.order.tail_pieces(epoch):
                rows = self._reader.block(block, epoch, self.order) if permuted else self._blocks.read(block)
                parts.append({name: v[first:last] for name, v in rows.items()})
            self._tail = key, {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
        return self._tail[1]


class EvaluationBatches:
    """This host's part of the batches in file order; the last one padded."""

    def __init__(self, blocks: Blocks, batch_size: int, host: int = 0, hosts: int = 1):
        self._blocks, self._batch_size = blocks, batch_size
        self._host, self._hosts = host, hosts
        self._lock = threading.Lock()
        self._cached: tuple[int, Rows] | None = None

    def __len__(self) -> int:
        return -(-self._blocks.rows // self._batch_size)

    def __getitem__(self, step: int) -> Batch:
        share = self._batch_size // self._hosts
        start = step * self._batch_size + self._host * share
        stop = min(start + share, self._blocks.rows)
        parts = []
        with self._lock:
            # A host past the end still needs the shapes: it takes an empty piece of the last block.
            position = min(start, self._blocks.rows)
            while position < stop or not parts:
                block = min(position // self._blocks.block_rows, len(self._blocks) - 1)
                offset = position - block * self._blocks.block_rows
                rows = self._read(block)
                piece = {n: v[offset : offset + max(stop - position, 0)] for n, v in rows.items()}
                parts.append(piece)
                position += len(piece['label'])
        batch = {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
        return pad(weighted(batch), share)

    def _read(self, block: int) -> Rows:
        if self._cached is None or self._cached[0] != block:
            self._cached = block, self._blocks.read(block)
        return self._cached[1]


def weighted(rows: Rows) -> Batch:
    """The rows with a weight of 1 each."""
    return {**rows, 'weight': np.ones(len(rows['label']), np.float32)}


def pad(batch: Batch, rows: int) -> Batch:
    """Fills a batch up to `rows` with zeros, so with rows of weight 0."""
    missing = rows - len(batch['label'])
    if not missing:
        return batch
    return {n: np.pad(v, [(0, missing)] + [(0, 0)] * (v.ndim - 1)) for n, v in batch.items()}


@contextlib.contextmanager
def iterate(batches: TrainingBatches | EvaluationBatches, start: int = 0) -> Iterator[Iterator[Batch]]:
    """A Grain iterator over the batches from step `start` on, read ahead in a thread.

    A context manager, because a live reading thread at interpreter exit aborts the process.
    """
    dataset = grain.MapDataset.source(batches)[start:]
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    iterator = iter(dataset.to_iter_dataset(options))
    try:
        yield iterator
    finally:
        iterator.close()
