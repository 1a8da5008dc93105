"""Evaluation and prediction on files, from a workdir alone; memory does not grow with the file."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from ml_collections import ConfigDict

from dlf_jax.data import builders
from dlf_jax.data.loading import batches as batching
from dlf_jax.data.loading import unknown_values
from dlf_jax.data.loading.order import even_batch
from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.progress import Progress
from dlf_jax.data.readers import columns, tables
from dlf_jax.data.rows import Rows, reblock
from dlf_jax.errors import UsageError, UserError
from dlf_jax.file_writing import writing
from dlf_jax.training import evaluation, metrics, run_progress
from dlf_jax.training.checkpoint import Checkpoints
from dlf_jax.training.model_setup import ModelSetup
from dlf_jax.training.seeds import seeds_of
from dlf_jax.training.train_state import TrainState
from dlf_jax.workdir import Workdir

PROBABILITY = 'probability'
# A column of numbers beside the kept ones, so that there are rows where none is kept; no column of a file has
# this name.
_ROW = '\0row'

_log = logging.getLogger(__name__)


class Predictor:
    """Trained model that scores files of the form that it was trained on.

    Reads only the workdir: config, encoder and the best checkpoint. Holds nothing that a call changes, so it
    may be used any number of times.
    """

    def __init__(self, workdir: Workdir, config: ConfigDict):
        """Restores the weights of the best state.

        Args:
          workdir: of a run with at least one evaluation.
          config: the saved one, perhaps with other `predict` keys.
        """
        self.config = config
        self.encoder = workdir.encoder()
        devices = jax.devices()
        # A batch that the devices cannot share evenly is filled up with rows that do not count.
        self.batch_size = even_batch(config.predict.batch_size or config.training.batch_size, len(devices))
        setup = ModelSetup(config, self.encoder.schema, self.batch_size, devices)
        self._partitioner = setup.partitioner
        self._predict = setup.predict_step(1)
        self._state = self._restore(workdir, setup)

    def _restore(self, workdir: Workdir, setup: ModelSetup) -> TrainState:
        if not workdir.checkpoints.is_dir():
            raise UserError(f'{workdir.path}: no checkpoint here; train first')
        checkpoints = Checkpoints(
            workdir.checkpoints, seeds_of(self.config), setup.abstract_state, read_only=True
        )
        try:
            if checkpoints.latest is None:
                raise UserError(f'{workdir.checkpoints}: no whole checkpoint; train first')
            runs = checkpoints.runs()
            seed = self._seed(runs)
            return checkpoints.best({seed: runs[seed]})[seed]
        finally:
            checkpoints.close()

    def _seed(self, runs: run_progress.Runs) -> int:
        """Seed of the run to use: `config.predict.seed`, or the best."""
        wanted = self.config.predict.seed
        if wanted not in (-1, *runs):
            known = ', '.join(map(str, runs))
            raise UsageError(f'config.predict.seed={wanted}: no such run here; there are seeds {known}')
        seed = run_progress.best_seed(runs) if wanted == -1 else wanted
        if len(runs) > 1:
            _log.info('using seed %d%s of %d', seed, ', the best' if wanted == -1 else '', len(runs))
        return seed

    def open(self, spec: str, labelled: bool) -> tables.Table:
        """Opens input files and checks their columns.

        Args:
          spec: paths, as `--input` takes them.
          labelled: whether the label column must be there.
        """
        paths = tables.expand(spec, '--input')
        schema, options = self.encoder.schema, ConfigDict(self.config.dataset)
        # Which a schema file may have named.
        options.label = schema.label
        table = builders.dataset_class(options.name).open_files(options, paths)
        if labelled:
            others = {'the label': schema.label, 'the weight': schema.weight, 'the group': schema.group}
            for why, name in others.items():
                tables.check_columns(table, [name] if name else [], why)
        names = [field.name for field in schema.fields]
        tables.check_columns(table, names, 'a feature that the model was trained with')
        texts = [*schema.text_columns(), *([schema.group] if labelled and schema.group else [])]
        tables.families([table], texts, self.encoder.families)
        return table

    def evaluate(self, table: tables.Table) -> dict[str, Any]:
        """Scores a labelled table.

        Returns:
          Metrics, `rows`, and `out_of_vocabulary`: by field, the share of values that the training part did
          not have.
        """
        metrics.tell_soft_labels(self.encoder.schema)
        batches = _EncodedBatches(table, self.encoder, self.batch_size, labelled=True)
        scores = evaluation.score(
            self._predict, self._partitioner, self._state, (batch for batch, _ in batches), of=table.name
        )
        wanted = metrics.selected(self.config)
        return {**evaluation.summary(scores, wanted), 'out_of_vocabulary': batches.out_of_vocabulary()}

    def predict(self, table: tables.Table, output: str) -> dict[str, Any]:
        """Writes the probability of every row, in file order.

        Args:
          table: with or without the label.
          output: `.parquet` or `.csv`; written under a temporary name and renamed at the end.

        Returns:
          `rows`, `output`, and `out_of_vocabulary`: by field, the share of values that the training part did
          not have.
        """
        keep = tuple(self.config.predict.keep)
        if PROBABILITY in keep or len(set(keep)) < len(keep):
            raise UsageError(
                f'config.predict.keep={keep!r}: expected different columns, and none called {PROBABILITY!r}, '
                'which is the one that is written'
            )
        tables.check_columns(table, keep, 'config.predict.keep')
        batches = _EncodedBatches(table, self.encoder, self.batch_size, labelled=False, keep=keep)
        with Progress('predicting', 'rows') as progress, _Writer(output) as writer:
            # One batch is computed while the one before is written.
            waiting: list[tuple[pl.DataFrame, jax.Array]] = []
            done = 0

            def write() -> None:
                nonlocal done
                kept, output = waiting.pop(0)
                logits = np.asarray(output)[: kept.height]
                evaluation.check_finite(logits, self._state, done, of=table.name)
                probability = pl.Series(PROBABILITY, metrics.sigmoid(logits))
                writer.write(kept.drop(_ROW).with_columns(probability))
                done += kept.height

            for batch, kept in batches:
                waiting.append((kept, self._predict(self._state, self._partitioner.put(batch))))
                if len(waiting) > 1:
                    write()
                progress.advance(kept.height)
            while waiting:
                write()
        return {'rows': batches.rows, 'output': output, 'out_of_vocabulary': batches.out_of_vocabulary()}


class _EncodedBatches:
    """Padded batches of a table, each with the kept columns of its rows, and what was found on the way.

    Attributes:
      rows: number of rows read so far.
    """

    def __init__(
        self,
        table: tables.Table,
        encoder: Encoder,
        batch_size: int,
        labelled: bool,
        keep: tuple[str, ...] = (),
    ):
        """Reads nothing yet.

        Args:
          table: opened and checked.
          encoder: of the training data.
          batch_size: number of rows of a batch.
          labelled: whether label, weight and group are read.
          keep: columns that are handed on as they are.
        """
        self._table, self._encoder, self._batch_size = table, encoder, batch_size
        self._labelled, self._keep = labelled, keep
        self._unknown: dict[str, np.ndarray] = {}
        self.rows = 0

    def __iter__(self) -> Iterator[tuple[batching.Batch, pl.DataFrame]]:
        """Yields batches with the kept columns of their rows, and a column that counts them."""
        kept: list[pl.DataFrame] = []
        for rows in reblock(self._encoded(kept), self._batch_size):
            count = len(rows['label'])
            taken = _concatenated(kept)
            kept[:] = [taken[count:]]
            yield batching.pad(batching.weighted(rows), self._batch_size), taken[:count]

    def _encoded(self, kept: list[pl.DataFrame]) -> Iterator[Rows]:
        schema, seen = self._encoder.schema, set[str]()
        wanted = columns.columns_of(schema, self._labelled, keep=self._keep)
        for chunk in self._table.chunks(wanted):
            rows, unknown = self._encoder.transform(chunk)
            for name, counts in unknown.items():
                self._unknown[name] = self._unknown.get(name, 0) + counts
            self.rows += chunk.frame.height
            number = pl.Series(_ROW, np.arange(chunk.frame.height))
            kept.append(pl.DataFrame([number]) if chunk.kept is None else chunk.kept.with_columns(number))
            unlabelled = {'label': np.zeros(chunk.frame.height, np.float32)}
            yield {**rows, **(columns.extras(chunk, schema, seen) if self._labelled else unlabelled)}

    def out_of_vocabulary(self) -> dict[str, float]:
        """Share of the values read so far that the training part did not have (or had too seldom), by field;
        logged as well."""
        shares = {name: float(outside / max(read, 1)) for name, (outside, read) in self._unknown.items()}
        unknown_values.tell(self._table.name, shares, self._encoder.expected_unknown)
        return shares


def _concatenated(kept: list[pl.DataFrame]) -> pl.DataFrame:
    """Frames one after another. Raises UserError where a kept column has other types in other files."""
    for frame in kept[1:]:
        _check_types(kept[0].schema, frame.schema)
    return kept[0] if len(kept) == 1 else pl.concat(kept)


def _check_types(first: pl.Schema, other: pl.Schema) -> None:
    for name, kind in first.items():
        if other[name] != kind:
            raise UserError(
                f'config.predict.keep: the column {name!r} is of {kind} in one file and of {other[name]} in '
                'another; write it with the same type in all files, or predict them one by one'
            )


@dataclasses.dataclass
class _Writer:
    """Rows to a CSV or Parquet file, a batch at a time."""

    path: str

    def __post_init__(self) -> None:
        target = Path(self.path)
        if target.suffix not in ('.csv', '.parquet'):
            raise UserError(f'--output={self.path}: expected a name that ends in .csv or .parquet')
        if target.is_dir() or not target.absolute().parent.is_dir():
            raise UserError(f'--output={self.path}: no such folder, or a folder itself')
        self._temporary = target.with_name(f'.{target.name}.tmp')
        self._parquet: pq.ParquetWriter | None = None
        self._kinds: pl.Schema | None = None
        self._lines = 0

    def __enter__(self) -> _Writer:
        with writing(self.path):
            self._file = open(self._temporary, 'wb')
        return self

    def write(self, frame: pl.DataFrame) -> None:
        with writing(self.path):
            if self._kinds is None:
                self._kinds = frame.schema
            _check_types(self._kinds, frame.schema)
            if self.path.endswith('.csv'):
                self._check_flat(frame)
                frame.write_csv(self._file, include_header=not self._lines)
                self._lines += frame.height
                return
            table: pa.Table = frame.to_arrow()
            if self._parquet is None:
                self._parquet = pq.ParquetWriter(self._file, table.schema)
            self._parquet.write_table(table)

    def _check_flat(self, frame: pl.DataFrame) -> None:
        for name, kind in frame.schema.items():
            if kind.is_nested() or kind in (pl.Binary, pl.Duration):
                raise UserError(
                    f'--output={self.path}: a CSV file cannot hold the column {name!r} of {kind}; write a '
                    '.parquet, or leave it out of config.predict.keep'
                )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with writing(self.path):
                if self._parquet is not None:
                    self._parquet.close()
                self._file.close()
                if kind is None:
                    os.replace(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)
