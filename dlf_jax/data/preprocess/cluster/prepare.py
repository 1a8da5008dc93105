"""The phases of a preparation on a cluster, as the process that asks for it sees them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from dlf_jax.data.loading.label_counts import LabelCounts, join_sums
from dlf_jax.data.preprocess import growing
from dlf_jax.data.preprocess.cluster import counting, staged, workers, writing
from dlf_jax.data.preprocess.cluster.connection import connected
from dlf_jax.data.preprocess.cluster.counting import Measured
from dlf_jax.data.preprocess.cluster.jobs import Jobs
from dlf_jax.data.preprocess.cluster.options import Options
from dlf_jax.data.preprocess.cluster.staged import Group
from dlf_jax.data.preprocess.cluster.work import Work
from dlf_jax.data.preprocess.cluster.writing import Shard
from dlf_jax.data.preprocess.pieces import Piece, numbered
from dlf_jax.data.preprocess.statistics import Sample, Statistics
from dlf_jax.data.preprocess.task import WHOLE, Task, check_part, row_bytes, shard_bounds
from dlf_jax.errors import UserError

# Rows of a group at most: of them, its different values and a few chunks a worker has in memory at a time.
GROUP_ROWS = 1 << 18
# Groups for each job that the workers do at a time, where there are few rows.
_GROUPS_PER_THREAD = 4
# Values whose counts are summed at a time, before equal ones are joined.
_JOINED_VALUES = 8_000_000
# Files of samples that are joined at a time.
_JOINED_SAMPLES = 16


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Records that workers have written.

    Attributes:
      rows: number of rows by part.
      labels: labels in numbers by part.
      shards: (file, number of blocks) by part, in the order of the blocks; the files lie in the staging
        folder.
    """

    rows: dict[str, int]
    labels: dict[str, LabelCounts]
    shards: dict[str, list[tuple[str, int]]]


def prepare(
    task: Task,
    folder: Path,
    staging: Path,
    check_rows: Callable[[dict[str, int]], None],
    options: Options,
) -> Prepared:
    """Prepares on a cluster.

    Args:
      task: what to prepare.
      folder: folder of the prepared data; the encoder is written to `encoder/` in it.
      staging: folder for what workers hand over, which all of them see at the same path.
      check_rows: called with the number of rows of every table before the encoder is fitted; may raise.
      options: which cluster.

    Raises:
      UserError: no cluster, workers that are not fit for the work, rows that cannot be read, or a part
        without rows.
    """
    staging.mkdir(parents=True, exist_ok=True)
    work = Work.of(task, staging.absolute())
    with connected(options) as client:
        workers.check(client, work)
        return _Preparation(task, Jobs(client, work)).run(folder.absolute(), check_rows)


class _Preparation:
    """The phases, each of them jobs on the workers."""

    def __init__(self, task: Task, jobs: Jobs):
        self._task, self._jobs = task, jobs
        self._groups: dict[str, list[Group]] = {}
        self._totals: dict[str, int] = {}
        self._cuts: tuple[float, ...] = ()
        self._measured: dict[str, list[Measured]] = {}

    def run(self, folder: Path, check_rows: Callable[[dict[str, int]], None]) -> Prepared:
        task = self._task
        for key in task.tables:
            self._groups[key] = self._stage(key)
            self._totals[key] = sum(group.staged.rows for group in self._groups[key])
        check_rows(self._totals)
        self._cuts = self._time_cuts()
        for key in task.tables:
            self._measured[key] = self._measure(key)
        rows = {part: sum(found.rows[part] for found in self._of(part)) for part in task.parts}
        for part, count in rows.items():
            check_part(task, part, count)
        encoder = growing.fit(task, self._statistics(rows['train']), folder / 'encoder')
        labels = {part: join_sums(s for m in self._of(part) for s in m.labels[part]) for part in task.parts}
        shards = {
            part: self._write(part, count, row_bytes(encoder.schema), folder / 'encoder')
            for part, count in rows.items()
        }
        self._jobs.everywhere(writing.forget)
        return Prepared(rows, labels, shards)

    def _of(self, part: str) -> list[Measured]:
        """What was found in the groups of a part's table."""
        return self._measured[self._task.table_of(part)]

    def _doing(self, what: str) -> str:
        return f'{self._task.name}: {what}'

    def _stage(self, key: str) -> list[Group]:
        """Stages the rows of a table."""
        table = self._task.tables[key]
        files = [(key, file) for file in range(max(1, len(table.paths)))]
        found = self._jobs.run(self._doing(f'looking for rows of {key}'), staged.places, files, unit='files')
        pieces = numbered(key, found)
        if not pieces:
            raise UserError(f'{table.name}: no rows')
        items = [(group,) for group in self._grouped(pieces)]
        sizes = [sum(piece.rows for piece in group) for (group,) in items]
        groups = self._jobs.run(self._doing(f'reading {key}'), staged.stage, items, sizes)
        signs: frozenset[str] = frozenset()
        for group in groups:
            if len(signs | group.signs) > 1:
                # Labels of both kinds, 0 and -1, in different groups: the job finds the line.
                self._jobs.run(self._doing(f'reading {key}'), staged.stage, [(group.pieces, signs)])
            signs |= group.signs
        return groups

    def _grouped(self, pieces: Sequence[Piece]) -> list[tuple[Piece, ...]]:
        """Consecutive pieces, of about `GROUP_ROWS` rows or of fewer where there are few."""
        total = pieces[-1].first + pieces[-1].rows
        size = min(GROUP_ROWS, -(-total // (_GROUPS_PER_THREAD * self._jobs.threads)))
        by_group = itertools.groupby(pieces, key=lambda piece: piece.first // max(size, 1))
        return [tuple(group) for _, group in by_group]

    def _time_cuts(self) -> tuple[float, ...]:
        split = self._task.split
        if not split or split.kind != 'time':
            return ()
        groups = self._groups[WHOLE]
        share = -(-len(groups) // self._jobs.threads)
        shares = [groups[i : i + share] for i in range(0, len(groups), share)]

        def count(level: int, prefix: int) -> np.ndarray:
            items = [(share, level, prefix) for share in shares]
            found = self._jobs.run(self._doing('counting times'), counting.count_times, items, unit='pieces')
            return np.sum(found, axis=0)

        return tuple(split.time_cuts(count, self._totals[WHOLE]))

    def _measure(self, key: str) -> list[Measured]:
        items = [(group, self._totals[key], self._cuts) for group in self._groups[key]]
        sizes = [group.staged.rows for group in self._groups[key]]
        return self._jobs.run(self._doing(f'counting {key}'), counting.measure, items, sizes)

    def _statistics(self, rows: int) -> Statistics:
        """Statistics of the training part, joined."""
        found = [measured for measured in self._of('train') if measured.rows['train']]
        moments = tuple(itertools.chain.from_iterable(measured.moments for measured in found))
        return Statistics(rows, self._counts(found), moments, self._samples(found))

    def _counts(self, found: Sequence[Measured]) -> dict[str, pl.DataFrame]:
        if len(found) == 1:
            return {name: pl.read_parquet(file) for name, file in found[0].counts.items()}
        items, names = [], []
        for name in found[0].counts:
            files = [measured.counts[name] for measured in found]
            buckets = -(-sum(measured.values[name] for measured in found) // _JOINED_VALUES) or 1
            items += [(files, bucket, buckets) for bucket in range(buckets)]
            names += [name] * buckets
        files = self._jobs.run(
            self._doing('joining vocabularies'), counting.join_counts, items, unit='pieces'
        )
        joined: dict[str, list[pl.DataFrame]] = {}
        for name, file in zip(names, files, strict=True):
            joined.setdefault(name, []).append(pl.read_parquet(file))
        return {name: pl.concat(frames) for name, frames in joined.items()}

    def _samples(self, found: Sequence[Measured]) -> dict[str, Sample]:
        files = [measured.samples for measured in found if measured.samples]
        while len(files) > 1:
            items = [(files[i : i + _JOINED_SAMPLES],) for i in range(0, len(files), _JOINED_SAMPLES)]
            doing = self._doing('joining samples')
            files = self._jobs.run(doing, counting.join_samples, items, unit='pieces')
        return counting.load_samples(files[0]) if files else {}

    def _write(self, part: str, rows: int, row_size: int, encoder: Path) -> list[tuple[str, int]]:
        """Writes the shards of a part."""
        task, key = self._task, self._task.table_of(part)
        groups, ends = self._groups[key], np.cumsum([found.rows[part] for found in self._of(part)])
        items, sizes = [], []
        for first, last in shard_bounds(rows, task.block_rows, row_size):
            start, stop = first * task.block_rows, min(last * task.block_rows, rows)
            low = int(np.searchsorted(ends, start, side='right'))
            high = int(np.searchsorted(ends, stop, side='left')) + 1
            skip = start - (int(ends[low - 1]) if low else 0)
            own = tuple(groups[low:high])
            shard = Shard(part, own, self._totals[key], self._cuts, skip, first, last, str(encoder))
            items.append((shard,))
            sizes.append(stop - start)
        return self._jobs.run(self._doing(f'writing {part}'), writing.write, items, sizes)
