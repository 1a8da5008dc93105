"""Jobs that count and measure staged rows, and join what was found in several groups of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from dlf_jax.data.loading.label_counts import LabelSums
from dlf_jax.data.preprocess import splits
from dlf_jax.data.preprocess.cluster.staged import Group, values
from dlf_jax.data.preprocess.cluster.work import Work
from dlf_jax.data.preprocess.statistics import Moments, Sample, merge_samples
from dlf_jax.file_writing import writing


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was found in a group.

    Attributes:
      rows: number of rows by part.
      labels: sums over labels by part and chunk.
      values: number of different values of training rows, by owning field; none without such rows.
      moments: see `Statistics`.
      counts: files of `value` and `count` of the training rows, by owning field.
      samples: file of the samples of the training rows; '' where no field has one.
    """

    rows: dict[str, int]
    labels: dict[str, list[LabelSums]]
    values: dict[str, int] = dataclasses.field(default_factory=dict)
    moments: tuple[tuple[int, dict[str, Moments]], ...] = ()
    counts: dict[str, str] = dataclasses.field(default_factory=dict)
    samples: str = ''


def count_times(work: Work, groups: Sequence[Group], level: int, prefix: int) -> np.ndarray:
    """`splits.count_times` of the rows of groups."""
    del work

    def times() -> Iterator[np.ndarray]:
        for group in groups:
            for i in range(len(group.staged)):
                yield group.staged.read(i, ('time',))['time']

    return splits.count_times(times(), level, prefix)


def measure(work: Work, group: Group, total: int, cuts: Sequence[float]) -> Measured:
    """Counts the rows and labels of the parts in a group, and measures those of the training part.

    Args:
      work: the task.
      group: staged rows.
      total: number of rows of their table.
      cuts: result of `Split.time_cuts`; used by splits by time.
    """
    task = work.task
    parts = {
        name: group.part(task.split, name, cuts, total)
        for name in task.parts
        if task.table_of(name) == group.table
    }
    rows = {name: part.rows for name, part in parts.items()}
    labels = {name: part.labels() for name, part in parts.items()}
    if not rows.get('train'):
        return Measured(rows, labels)
    found = parts['train'].measure(task.schema, values(group.folder, task.schema), group.pieces[0].number)
    folder = work.new_place('measured')
    with writing(f'counts in {work.staging}'):
        folder.mkdir()
        counts = {}
        for i, (name, frame) in enumerate(found.counts.items()):
            counts[name] = str(folder / f'counts-{i}.parquet')
            frame.write_parquet(counts[name], compression='lz4')
        samples = _save_samples(folder / 'samples.npz', found.samples) if found.samples else ''
    heights = {name: frame.height for name, frame in found.counts.items()}
    return Measured(rows, labels, heights, found.moments, counts, samples)


def join_counts(work: Work, files: Sequence[str], bucket: int, buckets: int) -> str:
    """Sums the counts of a field's values over groups.

    Args:
      work: the task.
      files: files of `value` and `count`.
      bucket: number of the bucket of values to sum, by their hash: so many fit in memory at a time.
      buckets: number of buckets.

    Returns:
      The file of the sums.
    """
    target = work.new_place('joined').with_suffix('.parquet')
    frame = pl.scan_parquet(list(files))
    if buckets > 1:
        frame = frame.filter(pl.col('value').hash(1) % buckets == bucket)
    summed = frame.group_by('value').agg(pl.col('count').sum()).collect(engine='streaming')
    with writing(f'counts in {work.staging}'):
        summed.write_parquet(target, compression='lz4')
    return str(target)


def join_samples(work: Work, files: Sequence[str]) -> str:
    """Joins the samples of groups into one file."""
    target = work.new_place('samples').with_suffix('.npz')
    with writing(f'samples in {work.staging}'):
        return _save_samples(target, merge_samples(load_samples(file) for file in files))


def _save_samples(path: Path, samples: dict[str, Sample]) -> str:
    arrays = {}
    for name, sample in samples.items():
        arrays[f'hashes {name}'], arrays[f'values {name}'] = sample.hashes, sample.values
    np.savez(path, allow_pickle=False, **arrays)
    return str(path)


def load_samples(path: str) -> dict[str, Sample]:
    """Reads what the jobs of this module wrote, by field."""
    with np.load(path) as arrays:
        names = [name.removeprefix('hashes ') for name in arrays.files if name.startswith('hashes ')]
        return {name: Sample(arrays[f'hashes {name}'], arrays[f'values {name}']) for name in names}
