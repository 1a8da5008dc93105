"""Job that writes a shard of records from staged rows."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

from dlf_jax.data.loading.records import write_shard
from dlf_jax.data.preprocess.cluster.staged import Group, values
from dlf_jax.data.preprocess.cluster.work import Work
from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.preprocess.id_tables import IdTables
from dlf_jax.data.preprocess.task import numbered_blocks
from dlf_jax.data.rows import Rows
from dlf_jax.file_writing import writing


@dataclasses.dataclass(frozen=True)
class Shard:
    """Shard to be written.

    Attributes:
      part: name of the part.
      groups: the groups that hold its rows.
      total: number of rows of their table.
      cuts: result of `Split.time_cuts`; used by splits by time.
      skip: rows of the part in the first group that belong to the shard before.
      first: number of the first block.
      last: number of the block after the last.
      encoder: folder of the fitted encoder.
    """

    part: str
    groups: tuple[Group, ...]
    total: int
    cuts: tuple[float, ...]
    skip: int
    first: int
    last: int
    encoder: str


def write(work: Work, shard: Shard) -> tuple[str, int]:
    """Writes a shard under a name of its own.

    Returns:
      The file, and its number of blocks.

    Raises:
      UserError: a number that is beyond float32 once it is treated, or no room.
    """
    task, encoder = work.task, _encoder(shard.encoder, work.token)

    def rows() -> Iterator[Rows]:
        skip = shard.skip
        for group in shard.groups:
            part = group.part(task.split, shard.part, shard.cuts, shard.total)
            tables = _id_tables(shard.encoder, work.token, group.folder)
            yield from part.encoded(encoder, tables, skip, functools.partial(group.where, work))
            skip = 0

    path = work.new_place('shard')
    blocks = numbered_blocks(rows(), shard.first, shard.last, task.block_rows)
    with writing(f'records in {work.staging}'):
        return str(path), write_shard(path, task.schema, _emptied(blocks))


def _emptied(blocks: Iterator[tuple[int, Rows]]) -> Iterator[tuple[int, Rows]]:
    for number, block in blocks:
        yield number, block
        # Written by now. TFDS keeps the dictionaries of a shard, to count them at its end.
        block.clear()


# Of the latest preparation: its encoder, and the tables of the groups that the latest shards are made of.
@functools.lru_cache(maxsize=1)
def _encoder(folder: str, token: str) -> Encoder:
    del token
    return Encoder.load(folder)


@functools.lru_cache(maxsize=2)
def _id_tables(encoder: str, token: str, folder: str) -> IdTables:
    found = _encoder(encoder, token)
    return found.id_tables_of(values(folder, found.schema))


def forget(work: Work) -> None:
    """Frees what a worker keeps of a preparation."""
    del work
    _encoder.cache_clear()
    _id_tables.cache_clear()
