"""Preparation on many machines with Apache Beam (extra `beam`): tables to the shards of block records.

The functions and the chunks are those of `local`, so the records are the same bytes. Files are read twice:
to count, and to encode. Input files, `--data_dir` and this package must have the same paths for every worker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dlf_jax.data.preprocess import encoder as encoders
from dlf_jax.data.preprocess import growing
from dlf_jax.data.preprocess.pieces import Piece, numbered
from dlf_jax.data.preprocess.splits import PARTS
from dlf_jax.data.preprocess.statistics import Moments, Sample, Statistics, measure_chunk
from dlf_jax.data.preprocess.task import (
    Shards,
    ShardWriter,
    Task,
    check_part,
    numbered_blocks,
    row_bytes,
    shard_bounds,
)
from dlf_jax.data.readers.chunk import Chunk
from dlf_jax.data.readers.columns import extras
from dlf_jax.data.rows import Rows
from dlf_jax.errors import UserError
from dlf_jax.file_writing import to_json


def options(runner: str, flags: Sequence[str]) -> dict[str, Any]:
    """Arguments `beam_runner` and `beam_options` of TFDS's `DownloadConfig`.

    Args:
      runner: name of a Beam runner: DirectRunner, PrismRunner, FlinkRunner, SparkRunner, ...
      flags: flags of Beam, such as `--flink_master=host:8081`.

    Raises:
      UserError: Beam is not installed, or has no such runner.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners.runner import create_runner
    except ImportError as error:
        raise UserError(
            f"config.dataset.beam_runner={runner!r}: needs Apache Beam: pip install 'dlf_jax[beam]'"
        ) from error
    try:
        return {'beam_runner': create_runner(runner), 'beam_options': PipelineOptions(list(flags))}
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(f'config.dataset.beam_runner={runner!r}: no such runner ({error})') from error


def prepare(
    task: Task,
    folder: Path,
    staging: Path,
    check_rows: Callable[[dict[str, int]], None],
    beam_options: dict[str, Any],
) -> Shards:
    """Counts the vocabularies and fits the encoder; the pipeline that TFDS runs then writes the shards.

    Args:
      task: what to prepare.
      folder: folder of the prepared data; the encoder is written to `encoder/` in it.
      staging: folder for what workers hand over.
      check_rows: called with the number of rows of every table before any are counted; may raise.
      beam_options: result of `options`.

    Raises:
      UserError: rows that cannot be read, a part without rows, or a split by time, which would need all
        times sorted.
    """
    if task.time:
        raise UserError(
            "config.dataset.split='time' is not for config.dataset.beam_runner; cut the files by time "
            'beforehand and give them as train, valid and test'
        )
    encoder_folder = folder / 'encoder'
    pieces = _find_pieces(task, staging, beam_options)
    totals = {key: sum(p.rows for p in pieces if p.table == key) for key in task.tables}
    check_rows(totals)
    rows = {part: sum(_count(task, totals, part, p) for p in pieces) for part in task.parts}
    for part, count in rows.items():
        check_part(task, part, count)
    train = [p for p in pieces if p.table == task.table_of('train')]
    encoder = growing.fit(task, _measure(task, totals, train, staging, beam_options), encoder_folder)
    writers: dict[str, list[ShardWriter]] = {}
    for part, count in rows.items():
        own = [p for p in pieces if p.table == task.table_of(part)]
        ends = np.cumsum([_count(task, totals, part, p) for p in own])
        writers[part] = []
        for first, last in shard_bounds(count, task.block_rows, row_bytes(encoder.schema)):
            start, stop = first * task.block_rows, min(last * task.block_rows, count)
            low = int(np.searchsorted(ends, start, side='right'))
            high = int(np.searchsorted(ends, stop, side='left')) + 1
            skip = start - (int(ends[low - 1]) if low else 0)
            shard = _Shard(task, totals, part, tuple(own[low:high]), skip, first, last, str(encoder_folder))
            writers[part].append(shard)
    return Shards(rows, writers)


def _kept(task: Task, totals: dict[str, int], part: str, piece: Piece) -> np.ndarray:
    """Positions of a part's rows in a piece, int64."""
    if task.split is None:
        return np.arange(piece.rows if piece.table == part else 0)
    found = task.split.assign(piece.first, piece.rows, totals[piece.table])
    return np.flatnonzero(found == PARTS.index(part))


def _count(task: Task, totals: dict[str, int], part: str, piece: Piece) -> int:
    return len(_kept(task, totals, part, piece))


def _run(beam_options: dict[str, Any], items: Sequence[Any], build: Callable[[Any], Any]) -> None:
    import apache_beam as beam

    pipeline = beam.Pipeline(runner=beam_options['beam_runner'], options=beam_options['beam_options'])
    build(pipeline | beam.Create(items) | beam.Reshuffle())
    with explained():
        pipeline.run().wait_until_finish()


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Raises the UserError of a worker again, which runners pass on as text inside another error."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError):
            text = str(error)
        elif found := re.search(r'UserError: ([^\n]*)', str(error)):
            text = found[1]
        else:
            raise
        # Beam appends the name of the step in brackets.
        raise UserError(text.split(' [while running')[0]) from error


def _find_pieces(task: Task, staging: Path, beam_options: dict[str, Any]) -> list[Piece]:
    """Finds the chunks of all tables, file by file in parallel."""
    import apache_beam as beam

    found = staging / 'pieces'
    found.mkdir(parents=True, exist_ok=True)
    files = [(key, i) for key, table in task.tables.items() for i in range(max(1, len(table.paths)))]

    def find(item: tuple[str, int]) -> None:
        key, file = item
        places = [[list(place), rows] for place, rows in task.tables[key].places(file)]
        (found / f'{key}-{file}.json').write_text(to_json(places))

    _run(beam_options, files, lambda items: items | beam.Map(find))
    pieces = []
    for key, table in task.tables.items():
        numbers = range(max(1, len(table.paths)))
        pieces += numbered(key, (json.loads((found / f'{key}-{i}.json').read_text()) for i in numbers))
    return pieces


def _read(task: Task, piece: Piece) -> Chunk:
    return piece.read(task.tables[piece.table], task.columns())


def _measure(
    task: Task, totals: dict[str, int], pieces: list[Piece], staging: Path, beam_options: dict[str, Any]
) -> Statistics:
    import apache_beam as beam

    class Merge(beam.CombineFn):
        """Merges the statistics of all pieces; associative and commutative."""

        def create_accumulator(self) -> None:
            return None

        def add_input(self, merged: Statistics | None, item: Statistics | None) -> Statistics | None:
            return item if merged is None else merged if item is None else merged.merge(item)

        def merge_accumulators(self, items: Iterable[Statistics | None]) -> Statistics | None:
            return functools.reduce(self.add_input, items, None)

        def extract_output(self, merged: Statistics | None) -> Statistics | None:
            return merged

    def measure(piece: Piece) -> Statistics:
        rows = _kept(task, totals, 'train', piece)
        return measure_chunk(task.schema, piece.number, _read(task, piece), rows, piece.first)

    target = staging / 'statistics'
    target.mkdir(parents=True, exist_ok=True)

    def build(items: Any) -> Any:
        merged = items | beam.Map(measure) | beam.CombineGlobally(Merge())
        return merged | beam.Map(functools.partial(_save, folder=target))

    _run(beam_options, pieces, build)
    return _load(target)


def _save(found: Statistics, folder: Path) -> None:
    for i, counts in enumerate(found.counts.values()):
        counts.write_parquet(folder / f'counts-{i}.parquet')
    for i, sample in enumerate(found.samples.values()):
        np.savez(folder / f'sample-{i}.npz', hashes=sample.hashes, values=sample.values)
    moments = [[n, {k: m.to_json() for k, m in by.items()}] for n, by in found.moments]
    saved = {
        'rows': found.rows,
        'counts': list(found.counts),
        'samples': list(found.samples),
        'moments': moments,
    }
    (folder / 'statistics.json').write_text(to_json(saved))


def _load(folder: Path) -> Statistics:
    saved = json.loads((folder / 'statistics.json').read_text())
    counts = {name: pl.read_parquet(folder / f'counts-{i}.parquet') for i, name in enumerate(saved['counts'])}
    moments = tuple((n, {k: Moments.from_json(m) for k, m in by.items()}) for n, by in saved['moments'])
    samples = {}
    for i, name in enumerate(saved['samples']):
        with np.load(folder / f'sample-{i}.npz') as arrays:
            samples[name] = Sample(arrays['hashes'], arrays['values'])
    return Statistics(saved['rows'], counts, moments, samples)


@functools.lru_cache(maxsize=2)
def _encoder(folder: str) -> encoders.Encoder:
    return encoders.Encoder.load(folder)


@dataclasses.dataclass(frozen=True)
class _Shard:
    """Writer of one shard of a part, sent to a worker: yields its (number, block) pairs."""

    task: Task
    totals: dict[str, int]
    part: str
    pieces: tuple[Piece, ...]  # the pieces that hold the shard's rows
    skip: int  # rows of the part in the first piece that belong to the shard before
    first: int  # number of the first block
    last: int  # number of the block after the last
    encoder: str  # folder of the encoder

    def __call__(self) -> Iterator[tuple[int, Rows]]:
        return numbered_blocks(self._rows(), self.first, self.last, self.task.block_rows)

    def _rows(self) -> Iterator[Rows]:
        skip = self.skip
        for piece in self.pieces:
            chunk = _read(self.task, piece)
            kept = _kept(self.task, self.totals, self.part, piece)[skip:]
            skip = 0
            features, _ = _encoder(self.encoder).transform(chunk)
            rows = {**extras(chunk, self.task.schema), **features}
            yield {name: values[kept] for name, values in rows.items()}
