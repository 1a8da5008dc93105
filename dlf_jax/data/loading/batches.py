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
tail's, at most `2 W` blocks). Lanes are read a turn at a time, a turn being one block of each, while the
turn before is dealt into batches: memory is about `2 W` blocks whatever the data set, and `W` more at
the end of an epoch.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import math
import threading
from collections.abc import Callable, Iterator
from concurrent import futures

import grain
import numpy as np

from dlf_jax.data.loading.records import Blocks, Rows
from dlf_jax.errors import UserError

Batch = dict[str, np.ndarray]
MAX_LANES = 64
# Threads that read and permute blocks, nearly all of it in C and without Python's lock.
READERS = 2

# What a random stream is for; part of its seed.
_BLOCKS, _ROWS, _TAIL = range(3)


def _permutation(size: int, *seed: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))).permutation(size)


@functools.cache
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

    @functools.cached_property
    def lanes(self) -> int:
        return lanes_for(self.batch_size)

    @functools.cached_property
    def take(self) -> int:
        """Rows that a batch takes of a lane."""
        return self.batch_size // self.lanes

    @functools.cached_property
    def lane_blocks(self) -> int:
        """Full blocks in each lane."""
        return self.rows // self.block_rows // self.lanes

    @functools.cached_property
    def lane_steps(self) -> int:
        """Batches that the lanes give; the tail gives the rest."""
        return self.lane_blocks * self.block_rows // self.take

    @functools.cached_property
    def tail_rows(self) -> int:
        return self.rows - self.lane_steps * self.batch_size

    @functools.cached_property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.lane_steps + -(-self.tail_rows // self.batch_size)

    def batch_rows(self, step: int) -> int:
        """Rows of batch `step % steps`, all hosts' together and without those that pad the last one."""
        last = step % self.steps == self.steps - 1
        return self.rows - (self.steps - 1) * self.batch_size if last else self.batch_size

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

    def segments(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yields (turn, first, last): the parts of permuted blocks that cover rows [start, stop) of any
        lane's stream. A lane's block of turn `n` is its `n`-th."""
        while start < stop:
            turn, first = divmod(start, self.block_rows)
            last = min(self.block_rows, first + stop - start)
            yield turn, first, last
            start += last - first

    def turn_blocks(self, epoch: int, turn: int) -> np.ndarray:
        """The blocks of all lanes in a turn, [lanes]."""
        return self.blocks(epoch)[turn * self.lanes : (turn + 1) * self.lanes]

    def tail_segments(self, epoch: int) -> Iterator[tuple[int, int, int, bool]]:
        """Yields (block, first, last, permuted) that make up the tail, in its order."""
        used, end = self.lane_steps * self.take, self.lane_blocks * self.block_rows
        for lane in range(self.lanes if self.lane_blocks else 0):
            for turn, first, last in self.segments(used, end):
                yield int(self.turn_blocks(epoch, turn)[lane]), first, last, True
        rest = self.blocks(epoch)[self.lane_blocks * self.lanes :]
        # All tail: keep file order, so that one copy in memory serves every epoch.
        for block in rest if self.lane_blocks else np.sort(rest):
            yield int(block), 0, self.block_rows, False
        if self.rows % self.block_rows:
            yield self.rows // self.block_rows, 0, self.rows % self.block_rows, False


class _Turns:
    """What one host reads of an epoch: a turn of its lanes at a time, then the tail."""

    def __init__(self, blocks: Blocks, order: Order, lanes: slice):
        self._blocks, self._order, self._lanes = blocks, order, lanes
        # New memory for every turn costs the pages being cleared, a tenth of the time.
        self._slots: dict[int, Rows] = {}
        self._readers = futures.ThreadPoolExecutor(READERS, 'read')
        # glibc returns every record's memory to the system, and clears it again for the next, until it
        # has seen a block as large as this one freed; untouched, it costs nothing.
        np.empty(30 << 20, np.uint8)

    def read(self, slot: int, epoch: int, turn: int) -> Rows:
        """The host's blocks of a turn, their rows in the epoch's order: [lanes, block_rows, ...] each.
        The turn after the last one is the tail, in its order before it is permuted: [rows, ...].

        A turn is read into the memory of the one that was read into the same slot before.
        """
        if turn == self._order.lane_blocks:
            return self._read_tail(epoch)
        lanes = list(enumerate(self._order.turn_blocks(epoch, turn)[self._lanes].tolist()))
        joined = self._slots.setdefault(slot, {})
        if not joined:
            # The first block tells the shapes.
            self._fill(joined, epoch, lanes.pop(0))
        list(self._readers.map(functools.partial(self._fill, joined, epoch), lanes))
        return joined

    def _fill(self, joined: Rows, epoch: int, lane_and_block: tuple[int, int]) -> None:
        lane, block = lane_and_block
        rows, permutation = self._blocks.read(block), self._order.block_order(epoch, block)
        if not joined:
            lanes = self._lanes.stop - self._lanes.start
            joined.update({name: np.empty((lanes, *v.shape), v.dtype) for name, v in rows.items()})
        for name, values in rows.items():
            # While the block is in the processor's cache: rows gathered for each batch from all over
            # the lanes cost three times as much. `clip` because `raise` makes a copy first, and as
            # bytes because records are not aligned.
            np.take(_as_bytes(values), permutation, 0, _as_bytes(joined[name][lane]), mode='clip')

    def _read_tail(self, epoch: int) -> Rows:
        joined: Rows = {}
        start = 0
        for block, first, last, permuted in self._order.tail_segments(epoch):
            rows, stop = self._blocks.read(block), start + last - first
            chosen = self._order.block_order(epoch, block)[first:last] if permuted else slice(first, last)
            if not joined:
                shapes = {name: (self._order.tail_rows, *v.shape[1:]) for name, v in rows.items()}
                joined = {name: np.empty(shapes[name], v.dtype) for name, v in rows.items()}
            for name, values in rows.items():
                joined[name][start:stop] = values[chosen]
            start = stop
        return joined


class _Ahead:
    """What a function returns, worked out in a thread before it is asked for; the latest few are kept.

    The function is also told which of the `keep` slots is free for what it returns.
    """

    def __init__(self, function: Callable[..., Rows], keep: int):
        self._function = function
        self._free = list(range(keep))
        # By key, the latest used last: the slot and what is, or will be, there.
        self._kept = collections.OrderedDict[tuple[int, ...], tuple[int, futures.Future[Rows]]]()
        self._thread = futures.ThreadPoolExecutor(1, 'read-ahead')

    def begin(self, *key: int) -> None:
        """Says that `function(slot, *key)` is needed soon. Returns at once."""
        if key not in self._kept:
            if not self._free:
                # The least recently used. If it is being worked on, the same thread ends it first.
                _, (slot, unused) = self._kept.popitem(last=False)
                unused.cancel()
                self._free.append(slot)
            slot = self._free.pop()
            self._kept[key] = slot, self._thread.submit(self._function, slot, *key)
        self._kept.move_to_end(key)

    def get(self, *key: int) -> Rows:
        """`function(slot, *key)`, or what it raised; good until `keep` others have begun."""
        self.begin(*key)
        return self._kept[key][1].result()


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
        share = order.lanes // hosts
        turns = _Turns(blocks, order, slice(host * share, (host + 1) * share))
        # The turns that a batch reaches over, two but where blocks are very small; the last one of
        # them is the one read ahead.
        self._turns = _Ahead(turns.read, max(2, (order.take - 2) // order.block_rows + 2))
        self._lock = threading.Lock()
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
        segments = list(order.segments(k * order.take, (k + 1) * order.take))
        for turn, _, _ in segments:
            self._turns.begin(epoch, turn)
        self._begin_after(epoch, segments[0][0])
        pieces = [(self._turns.get(epoch, turn), first, last) for turn, first, last in segments]
        return weighted({
            name: np.concatenate([rows[name][:, first:last] for rows, first, last in pieces], axis=1)
            .reshape(-1, *pieces[0][0][name].shape[2:])
            for name in pieces[0][0]
        })  # fmt: skip

    def _begin_after(self, epoch: int, turn: int) -> None:
        """Begins to read what comes after a turn: the next, the tail, or the next epoch's first."""
        last = self.order.lane_blocks if self.order.tail_rows else self.order.lane_blocks - 1
        if turn < last:
            self._turns.begin(epoch, turn + 1)
        elif epoch + 1 < self._epochs:
            self._turns.begin(epoch + 1, 0)

    def _from_tail(self, epoch: int, k: int) -> Batch:
        share = self.order.batch_size // self._hosts
        start = k * self.order.batch_size + self._host * share
        if self._tail_order is None or self._tail_order[0] != epoch:
            self._tail_order = epoch, self.order.tail_order(epoch)
        rows = self._tail_order[1][start : start + share]
        if self.order.lane_blocks:
            self._turns.begin(epoch, self.order.lane_blocks)
            self._begin_after(epoch, self.order.lane_blocks)
            tail = self._turns.get(epoch, self.order.lane_blocks)
        else:
            # All tail: the same rows every epoch.
            tail = self._turns.get(0, 0)
        return pad(weighted({name: np.take(v, rows, axis=0) for name, v in tail.items()}), share)


class EvaluationBatches:
    """This host's part of the batches in file order; the last one padded."""

    def __init__(self, blocks: Blocks, batch_size: int, host: int = 0, hosts: int = 1):
        self._blocks, self._batch_size = blocks, batch_size
        self._host, self._hosts = host, hosts
        self._lock = threading.Lock()
        self._read = _Ahead(lambda _, block: blocks.read(block), 2)

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
                self._read.begin(block)
                if block + 1 < len(self._blocks):
                    self._read.begin(block + 1)
                rows = self._read.get(block)
                piece = {n: v[offset : offset + max(stop - position, 0)] for n, v in rows.items()}
                parts.append(piece)
                position += len(piece['label'])
        batch = {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
        return pad(weighted(batch), share)


def _as_bytes(rows: np.ndarray) -> np.ndarray:
    """A view of contiguous rows as uint8 [rows, bytes]."""
    return rows.reshape(len(rows), -1).view(np.uint8)


def weighted(rows: Rows) -> Batch:
    """The rows with a weight of 1 each where they have none."""
    return {'weight': np.ones(len(rows['label']), np.float32), **rows}


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
