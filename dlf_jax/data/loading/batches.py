"""Batches: block records to shuffled, sharded, resumable batches, in the order that `order` defines.

A host owns whole lanes, which are a contiguous slice of each batch. So the global batch is the same for every
number of hosts that divides `W`, and a host reads only the blocks of its own lanes and those of the tail (at
most `2 W`). Lanes are read turn by turn, a turn being one block of each lane, while the turn before is dealt
into batches: memory is about `2 W` blocks whatever the size of the data, and `W` more at the end of an epoch.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Protocol

import grain
import numpy as np

from dlf_jax.data.loading.order import MAX_LANES, Order, even_batch, lanes_for
from dlf_jax.data.loading.records import Blocks
from dlf_jax.data.rows import Rows
from dlf_jax.errors import UserError

# By name, arrays of [batch size, ...]; `label` and `weight` are always there.
Batch = dict[str, np.ndarray]
# Number of threads that read and permute blocks, mostly without holding the interpreter lock.
READERS = 2


class _Turns:
    """Reader of one host's rows: the blocks of its lanes turn by turn, then the tail."""

    def __init__(self, blocks: Blocks, order: Order, lanes: slice):
        self._blocks, self._order, self._lanes = blocks, order, lanes
        # Memory is reused: the system would clear the pages of a new allocation for every turn.
        self._slots: dict[int, Rows] = {}
        self._readers = futures.ThreadPoolExecutor(READERS, 'read')
        # glibc returns the memory of every record to the system until it has seen an allocation as large as
        # this one freed; untouched, it costs nothing.
        np.empty(30 << 20, np.uint8)

    def read(self, slot: int, epoch: int, turn: int) -> Rows:
        """Reads the host's blocks of a turn.

        Args:
          slot: number of the memory to use; what was read into the same slot before is overwritten.
          epoch: number of the epoch.
          turn: number of the turn. The one after the last stands for the tail.

        Returns:
          The rows in the epoch's order, [lanes, block_rows, ...] each; the tail's, before it is permuted,
          [rows, ...].
        """
        if turn == self._order.lane_blocks:
            return self._read_tail(epoch)
        lanes = list(enumerate(self._order.turn_blocks(epoch, turn)[self._lanes].tolist()))
        joined = self._slots.setdefault(slot, {})
        if not joined:
            # The first block determines the shapes.
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
            # Permuted while the block is in the processor's cache, which is faster than gathering the
            # rows of each batch from all over the lanes. `clip` because `raise` makes a copy first; as
            # bytes because records are unaligned.
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


class _ReadAhead:
    """Results of a function, computed in a thread before they are requested; the latest few are kept.

    The function is called as `function(slot, *key)`, with a slot, one of `keep`, that is free for its result.
    """

    def __init__(self, function: Callable[..., Rows], keep: int):
        self._function = function
        self._free = list(range(keep))
        # Slot and result by key, the most recently used last.
        self._kept = collections.OrderedDict[tuple[int, ...], tuple[int, futures.Future[Rows]]]()
        self._thread = futures.ThreadPoolExecutor(1, 'read-ahead')

    def begin(self, *key: int) -> None:
        """Starts the computation of a result. Returns at once."""
        if key not in self._kept:
            if not self._free:
                # The least recently used one. If it is being computed, the same thread ends it first.
                _, (slot, unused) = self._kept.popitem(last=False)
                unused.cancel()
                self._free.append(slot)
            slot = self._free.pop()
            self._kept[key] = slot, self._thread.submit(self._function, slot, *key)
        self._kept.move_to_end(key)

    def get(self, *key: int) -> Rows:
        """Result of the function, valid until `keep` others have begun. Raises what the function raised."""
        self.begin(*key)
        return self._kept[key][1].result()


class Batches(Protocol):
    """Batches by number, a data source of Grain."""

    def __len__(self) -> int:
        """Number of batches."""

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step."""


class TrainingBatches:
    """One host's share of every global training batch, by step; a data source of Grain.

    Element `s` is batch `s % steps` of epoch `s // steps`: `categorical` int32 [b, Fc], `numeric`
    float32 [b, Fn], `bags` int32 [b, bag_columns], `label` and `weight` float32 [b] and `group` int64 [b],
    with b = batch_size / hosts; those that the blocks have, and `weight` always.
    """

    def __init__(self, blocks: Blocks, order: Order, epochs: int, host: int = 0, hosts: int = 1):
        """Defines the batches; reads nothing.

        Args:
          blocks: blocks of the training part.
          order: order of the rows.
          epochs: number of epochs.
          host: number of this host.
          hosts: number of hosts.

        Raises:
          UserError: the hosts cannot share a batch evenly; names a batch size that they can share.
        """
        if order.lanes % hosts:
            raise UserError(
                f'config.training.batch_size={order.batch_size} is read in {order.lanes} lanes, which '
                f'{hosts} hosts cannot share evenly; {_advice(order.batch_size, hosts)}'
            )
        self.order, self._epochs, self._blocks = order, epochs, blocks
        self._host, self._hosts = host, hosts
        share = order.lanes // hosts
        turns = _Turns(blocks, order, slice(host * share, (host + 1) * share))
        # As many turns as a batch spans, which is two unless blocks are very small; the last one is read
        # ahead.
        self._turns = _ReadAhead(turns.read, max(2, (order.lane_rows - 2) // order.block_rows + 2))
        self._lock = threading.Lock()
        self._tail_order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Number of steps of all epochs."""
        return self.order.steps * self._epochs

    def __getitem__(self, step: int) -> Batch:
        """The host's share of the batch of a step."""
        epoch, k = divmod(step, self.order.steps)
        with self._lock:
            if k < self.order.lane_steps:
                return self._from_lanes(epoch, k)
            return self._from_tail(epoch, k - self.order.lane_steps)

    def _from_lanes(self, epoch: int, k: int) -> Batch:
        order = self.order
        segments = list(order.segments(k * order.lane_rows, (k + 1) * order.lane_rows))
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
        """Begins to read what follows a turn: the next one, the tail, or the first of the next epoch."""
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
            # All tail: the same rows in every epoch.
            tail = self._turns.get(0, 0)
        return pad(weighted({name: np.take(v, rows, axis=0) for name, v in tail.items()}), share)


def _advice(batch_size: int, hosts: int) -> str:
    """A batch size that hosts can share, in words."""
    if hosts > MAX_LANES:
        return f'take at most {MAX_LANES} hosts'
    sizes = itertools.count(even_batch(batch_size, hosts), hosts)
    return f'take {next(size for size in sizes if lanes_for(size) % hosts == 0)}'


class EvaluationBatches:
    """One host's share of the global batches in file order, the last one padded; a data source of Grain.

    Every row is in exactly one host's share of one batch. Elements are as those of `TrainingBatches`.

    Attributes:
      batch_size: number of rows of a global batch.
      rows: number of rows of the part.
    """

    def __init__(self, blocks: Blocks, batch_size: int, host: int = 0, hosts: int = 1):
        """Defines the batches; reads nothing.

        Args:
          blocks: blocks of a part.
          batch_size: rows of a global batch; `even_batch` makes any size one that hosts can share.
          host: number of this host.
          hosts: number of hosts.

        Raises:
          UserError: the hosts cannot share a batch evenly; names the next larger size that they can share.
        """
        if batch_size % hosts:
            raise UserError(
                f'config.predict.batch_size={batch_size}: {hosts} hosts cannot share a batch evenly; '
                f'take {even_batch(batch_size, hosts)}'
            )
        self._blocks, self.batch_size, self.rows = blocks, batch_size, blocks.rows
        self._host, self._hosts = host, hosts
        self._lock = threading.Lock()
        self._read = _ReadAhead(lambda _, block: blocks.read(block), 2)

    def __len__(self) -> int:
        """Number of batches."""
        return -(-self.rows // self.batch_size)

    def __getitem__(self, step: int) -> Batch:
        """The host's share of a batch."""
        share = self.batch_size // self._hosts
        start = step * self.batch_size + self._host * share
        stop = min(start + share, self.rows)
        pieces: list[Rows] = []
        with self._lock:
            # A host past the end still needs the shapes: it takes an empty piece of the last block.
            position = min(start, self.rows)
            while position < stop or not pieces:
                block = min(position // self._blocks.block_rows, len(self._blocks) - 1)
                offset = position - block * self._blocks.block_rows
                self._read.begin(block)
                if block + 1 < len(self._blocks):
                    self._read.begin(block + 1)
                rows = self._read.get(block)
                piece = {n: v[offset : offset + max(stop - position, 0)] for n, v in rows.items()}
                pieces.append(piece)
                position += len(piece['label'])
        batch = {n: np.concatenate([p[n] for p in pieces]) for n in pieces[0]}
        return pad(weighted(batch), share)


def _as_bytes(rows: np.ndarray) -> np.ndarray:
    """View of contiguous rows as uint8 [rows, bytes]."""
    return rows.reshape(len(rows), -1).view(np.uint8)


def weighted(rows: Rows) -> Batch:
    """Adds weights of 1 to rows without weights."""
    return {'weight': np.ones(len(rows['label']), np.float32), **rows}


def pad(batch: Batch, rows: int) -> Batch:
    """Pads a batch to a number of rows with zeros, and thereby with rows of weight 0."""
    missing = rows - len(batch['label'])
    if not missing:
        return batch
    return {n: np.pad(v, [(0, missing)] + [(0, 0)] * (v.ndim - 1)) for n, v in batch.items()}


@contextlib.contextmanager
def iterate(batches: Batches, start: int = 0) -> Iterator[Iterator[Batch]]:
    """Iterates over batches from step `start` on with Grain, which reads ahead in a thread.

    A context manager, because a reading thread that is alive at the interpreter's exit aborts the process.

    Args:
      batches: the batches.
      start: number of the first step.

    Yields:
      An iterator over the batches.
    """
    dataset = grain.MapDataset.source(batches)[start:]
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    iterator = iter(dataset.to_iter_dataset(options))
    try:
        yield iterator
    finally:
        iterator.close()
