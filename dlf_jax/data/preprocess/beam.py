"""From tables to the shards of block records on many machines, by Apache Beam (extra `beam`).

The same functions on the same chunks as `preparation` runs one after another, so the records are the
same bytes. Files are read twice: to count, and to encode. Input files, `--data_dir` and this package
must be there, under the same paths, for every worker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dlf_jax.data.loading.records import Rows
from dlf_jax.data.preprocess import encoder as encoders
from dlf_jax.data.preprocess.local import Plan, Task, check_part, numbered_blocks, row_bytes, shard_bounds
from dlf_jax.data.preprocess.splits import PARTS
from dlf_jax.data.preprocess.statistics import Moments, Sample, Statistics
from dlf_jax.data.readers.columns import extras
from dlf_jax.data.readers.tables import Chunk
from dlf_jax.errors import UserError


def options(runner: str, flags: Sequence[str]) -> dict[str, Any]:
    """What TFDS's `DownloadConfig` needs: `beam_runner`, `beam_options`.

    Args:
      runner: a name that Beam knows: DirectRunner, PrismRunner, FlinkRunner, SparkRunner, ...
      flags: Beam's own, such as `--flink_master=host:8081`.

    Raises:
      UserError: Beam is not installed, or knows no such runner.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners import create_runner
    except ImportError as error:
        raise UserError(
            f"config.dataset.beam_runner={runner!r}: needs Apache Beam: pip install 'dlf_jax[beam]'"
        ) from error
    try:
        return {'beam_runner': create_runner(runner), 'beam_options': PipelineOptions(list(flags))}
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(f'config.dataset.beam_runner={runner!r}: no such runner ({error})') from error


@dataclasses.dataclass(frozen=True)
class Piece:
    """A chunk of a table before it is read.

    Attributes:
      table: key in `Task.tables`.
      number: of the chunk in its table.
      place: what `Table.piece` needs to read it.
      first: number of its first row in the table.
      rows: how many.
    """

    table: str
    number: int
    place: tuple
    first: int
    rows: int


def prepare(
    task: Task, folder: Path, check_rows: Callable[[dict[str, int]], None], beam_options: dict[str, Any]
) -> Plan:
    """As `preparation.prepare`; the records are written by the pipeline that TFDS runs.

    Raises:
      UserError: bad rows, a part without any, or a split by time, which needs all rows sorted.
    """
    if task.time:
        raise UserError(
            "config.dataset.split='time' is not for config.dataset.beam_runner; cut the files by time "
            'beforehand and give them as train, valid and test'
        )
    encoder_folder = folder / 'encoder'
    pieces = _find_pieces(task, folder, beam_options)
    totals = {key: sum(p.rows for p in pieces if p.table == key) for key in task.tables}
    check_rows(totals)
    rows = {part: sum(_count(task, totals, part, p) for p in pieces) for part in task.parts}
    for part, count in rows.items():
        check_part(task, part, count)
    train = [p for p in pieces if p.table == task.table_of('train')]
    encoder = encoders.fit(task.schema, _measure(task, totals, train, folder, beam_options))
    encoder.save(encoder_folder)
    shards = {}
    for part, count in rows.items():
        own = [p for p in pieces if p.table == task.table_of(part)]
        ends = np.cumsum([_count(task, totals, part, p) for p in own])
        shards[part] = []
        for first, last in shard_bounds(count, task.block_rows, row_bytes(encoder.schema)):
            start, stop = first * task.block_rows, min(last * task.block_rows, count)
            low = int(np.searchsorted(ends, start, side='right'))
            high = int(np.searchsorted(ends, stop, side='left')) + 1
            skip = start - (int(ends[low - 1]) if low else 0)
            shard = _Shard(task, totals, part, tuple(own[low:high]), skip, first, last, str(encoder_folder))
            shards[part].append(shard)
    return Plan(rows, shards)


def _kept(task: Task, totals: dict[str, int], part: str, piece: Piece) -> np.ndarray:
    """Positions in a piece of the rows of a part, int64."""
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
    """A UserError of a worker comes out as itself; runners hand it over as text."""
    try:
        yield
    except Exception as error:
        # The name of the step follows in brackets.
        own = str(error) if isinstance(error, UserError) else ''
        found = re.search(r'UserError: ([^\n]*)', str(error))
        if not own and not found:
            raise
        raise UserError((own or found[1]).split(' [while running')[0]) from error


def _find_pieces(task: Task, folder: Path, beam_options: dict[str, Any]) -> list[Piece]:
    """The chunks of all tables, found file by file in parallel."""
    import apache_beam as beam

    found = folder / 'staging' / 'pieces'
    found.mkdir(parents=True, exist_ok=True)
    files = [(key, i) for key, table in task.tables.items() for i in range(max(1, len(table.paths)))]

    def look(item: tuple[str, int]) -> None:
        key, file = item
        places = [[list(place), rows] for place, rows in task.tables[key].pieces(file)]
        (found / f'{key}-{file}.json').write_text(json.dumps(places))

    _run(beam_options, files, lambda items: items | beam.Map(look))
    pieces = []
    for key, table in task.tables.items():
        first = number = 0
        for file in range(max(1, len(table.paths))):
            for place, rows in json.loads((found / f'{key}-{file}.json').read_text()):
                pieces.append(Piece(key, number, tuple(place), first, rows))
                first, number = first + rows, number + 1
    return pieces


def _read(task: Task, piece: Piece) -> Chunk:
    return task.tables[piece.table].piece(piece.place, *task.columns())


def _measure(
    task: Task, totals: dict[str, int], pieces: list[Piece], folder: Path, beam_options: dict[str, Any]
) -> Statistics:
    import apache_beam as beam

    class Merge(beam.CombineFn):
        """Statistics of all pieces into one; associative, in any order."""

        def create_accumulator(self):
            return None

        def add_input(self, merged, item):
            return item if merged is None else merged if item is None else merged.merge(item)

        def merge_accumulators(self, items):
            return functools.reduce(self.add_input, items, None)

        def extract_output(self, merged):
            return merged

    def measure(piece: Piece) -> Statistics:
        rows = _kept(task, totals, 'train', piece)
        return encoders.measure(task.schema, piece.number, _read(task, piece), rows, piece.first)

    target = folder / 'staging' / 'statistics'
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
    moments = [[n, {k: dataclasses.asdict(m) for k, m in by.items()}] for n, by in found.moments]
    told = {
        'rows': found.rows,
        'counts': list(found.counts),
        'samples': list(found.samples),
        'moments': moments,
    }
    (folder / 'statistics.json').write_text(json.dumps(told))


def _load(folder: Path) -> Statistics:
    told = json.loads((folder / 'statistics.json').read_text())
    counts = {name: pl.read_parquet(folder / f'counts-{i}.parquet') for i, name in enumerate(told['counts'])}
    moments = tuple((n, {k: Moments(**m) for k, m in by.items()}) for n, by in told['moments'])
    samples = {}
    for i, name in enumerate(told['samples']):
        with np.load(folder / f'sample-{i}.npz') as arrays:
            samples[name] = Sample(arrays['hashes'], arrays['values'])
    return Statistics(told['rows'], counts, moments, samples)


@functools.lru_cache(maxsize=2)
def _encoder(folder: str) -> encoders.Encoder:
    return encoders.Encoder.load(folder)


@dataclasses.dataclass(frozen=True)
class _Shard:
    """Yields (number, block) for the blocks of one shard of a part; what a worker is sent."""

    task: Task
    totals: dict[str, int]
    part: str
    pieces: tuple[Piece, ...]  # those that hold its rows
    skip: int  # rows of the part in the first piece that come before
    first: int
    last: int
    encoder: str

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
