"""A random sample of encoded rows, in memory: what explanations are computed on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from dlf_jax.data.loading import batches as batching
from dlf_jax.data.loading.records import Blocks
from dlf_jax.data.rows import Rows
from dlf_jax.errors import UserError
from dlf_jax.serving.encoded_batches import EncodedBatches

# What a model or a metric reads; a group is neither.
_KEPT = ('categorical', 'numeric', 'bags', 'label', 'weight')


@dataclasses.dataclass(frozen=True)
class Sample:
    """Encoded rows, in the order of the input.

    Attributes:
      rows: arrays [n, ...] of a batch.
      numbers: place of each row in the input, counted from 0, int64 [n], rising.
      of: what the rows belong to, for errors.
      total: number of rows of the input.
    """

    rows: Rows
    numbers: np.ndarray
    of: str
    total: int

    def __len__(self) -> int:
        return len(self.numbers)

    def at(self, places: np.ndarray) -> Sample:
        """The rows at some places of the sample, int64 [n]."""
        rows = {name: values[places] for name, values in self.rows.items()}
        return Sample(rows, self.numbers[places], self.of, self.total)

    def fewer(self, count: int, seed: int) -> Sample:
        """At most so many of the rows, at random, in the order of the input."""
        if count >= len(self):
            return self
        return self.at(np.sort(np.random.default_rng([seed, 1]).choice(len(self), count, replace=False)))


def draw(stream: Iterable[Rows], count: int, seed: int, of: str, always: Sequence[int] = ()) -> Sample:
    """Draws rows of a stream, each with the same chance; memory is a few times the sample's.

    Every row gets a random number, and the rows of the lowest are kept. Rows of weight 0 are left out.

    Args:
      stream: encoded rows with label and weight, in the order of the input.
      count: number of rows; all, where there are not so many.
      seed: seed of the random numbers.
      of: what the rows belong to, for errors.
      always: numbers of rows that are drawn in any case, where their weight is above 0.

    Raises:
      UserError: there are no rows, or none has a weight.
    """
    random = np.random.default_rng([seed, 0])
    kept: list[tuple[np.ndarray, np.ndarray, Rows]] = []
    held = total = 0
    bound = np.inf
    for rows in stream:
        numbers = np.arange(total, total + len(rows['label']))
        total += len(numbers)
        keys = random.random(len(numbers))
        if always:
            keys[np.isin(numbers, always)] = -1.0
        taken = np.flatnonzero((keys < bound) & (rows['weight'] > 0))
        if not len(taken):
            continue
        # Copies: a block's arrays are views of its record.
        kept.append((keys[taken], numbers[taken], {n: rows[n][taken] for n in _KEPT if n in rows}))
        held += len(taken)
        if held > 2 * count:
            kept = [_lowest(kept, count)]
            held, bound = count, kept[0][0].max()
    if not held:
        raise UserError(f'{of}: no row with a weight above 0, so there is nothing to explain')
    _, numbers, sampled = _lowest(kept, count)
    return Sample(sampled, numbers, of, total)


def _lowest(
    pieces: list[tuple[np.ndarray, np.ndarray, Rows]], count: int
) -> tuple[np.ndarray, np.ndarray, Rows]:
    """The rows of the lowest keys, in the order of the input: keys, numbers and arrays."""
    keys, numbers = (np.concatenate([piece[i] for piece in pieces]) for i in range(2))
    rows = {n: np.concatenate([piece[2][n] for piece in pieces]) for n in pieces[0][2]}
    if len(keys) > count:
        chosen = np.sort(np.argpartition(keys, count - 1)[:count])
        keys, numbers, rows = keys[chosen], numbers[chosen], {n: v[chosen] for n, v in rows.items()}
    return keys, numbers, rows


def of_blocks(blocks: Blocks) -> Iterator[Rows]:
    """Rows of a prepared part, block by block."""
    for number in range(len(blocks)):
        yield batching.weighted(blocks.read(number))


def of_table(batches: EncodedBatches) -> Iterator[Rows]:
    """Rows of a table, batch by batch, without the rows that fill up the last one."""
    for batch, kept in batches:
        yield {name: values[: kept.height] for name, values in batch.items()}
