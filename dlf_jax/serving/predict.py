"""Evaluation and prediction with a trained model; memory does not grow with the file."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import polars as pl
from ml_collections import ConfigDict

from dlf_jax.data import builders
from dlf_jax.data.builders.base import Builder
from dlf_jax.data.loading import batches as batching
from dlf_jax.data.loading.order import even_batch
from dlf_jax.data.progress import Progress
from dlf_jax.data.readers import tables
from dlf_jax.data.readers.frames import FrameTable, is_frame, names_of_files
from dlf_jax.errors import UsageError
from dlf_jax.serving import calibrator as calibrators
from dlf_jax.serving import weights
from dlf_jax.serving.encoded_batches import ROW, EncodedBatches
from dlf_jax.serving.score_file import ScoreFile
from dlf_jax.training import evaluation, metrics, probability_metrics
from dlf_jax.training.model_setup import ModelSetup
from dlf_jax.workdir import Workdir

PROBABILITY = 'probability'

_log = logging.getLogger(__name__)


class Predictor:
    """Trained model that scores rows of the form that it was trained on.

    Reads only the workdir: config, encoder and the best checkpoint. Holds nothing that a call changes, so it
    may be used any number of times.

    Attributes:
      config: the saved one, perhaps with other `predict` keys.
      encoder: of the training data.
      batch_size: number of rows that are scored together; fewer are filled up.
      setup: the model on its devices.
      state: weights of one run, on the devices.
      calibrator: of these weights, which is applied to their logits; None: there is none.
    """

    def __init__(self, workdir: Workdir, config: ConfigDict, calibrated: bool = True):
        """Restores the weights of the best state.

        Args:
          workdir: of a run with at least one evaluation, or of a saved model.
          config: the saved one, perhaps with other `predict` keys.
          calibrated: whether a calibrator is looked for.
        """
        self.encoder = workdir.encoder()
        self._set_up(config)
        self.state = weights.restore(workdir, config, self.setup)
        self.calibrator = calibrators.load(workdir, self.state, config) if calibrated else None

    def with_config(self, config: ConfigDict) -> Predictor:
        """The same weights in another precision, or with other `predict` keys."""
        other = copy.copy(self)
        other._set_up(config)
        return other

    def _set_up(self, config: ConfigDict) -> None:
        self.config = config
        devices = jax.devices()
        # A batch that the devices cannot share evenly is filled up with rows that do not count.
        self.batch_size = even_batch(config.predict.batch_size or config.training.batch_size, len(devices))
        self.setup = ModelSetup(config, self.encoder.schema, self.batch_size, devices)
        self._partitioner = self.setup.partitioner
        self._predict = self.setup.predict_step(1)

    def open(self, data: Any, labelled: bool) -> tables.Table:
        """Opens rows to score and checks their columns.

        Args:
          data: a frame, see `data.readers.frames.to_arrow`; or files: a path, several by commas or as a list,
            or a glob.
          labelled: whether the label column must be there.

        Raises:
          UserError: a file or a column is missing, or holds what it did not in training.
        """
        schema, options = self.encoder.schema, ConfigDict(self.config.dataset)
        # Which a schema file may have named.
        options.label = schema.label
        builder = builders.dataset_class(options.name)
        table = builder.with_derived(options, _open(data, builder, options))
        if labelled:
            others = {'the label': schema.label, 'the weight': schema.weight, 'the group': schema.group}
            for why, name in others.items():
                tables.check_columns(table, [name] if name else [], why)
        names = [field.name for field in schema.fields]
        tables.check_columns(table, names, 'a feature that the model was trained with')
        texts = [*schema.text_columns(), *([schema.group] if labelled and schema.group else [])]
        tables.families([table], texts, self.encoder.families)
        return table

    def scored(
        self,
        table: tables.Table,
        keep: tuple[str, ...] = (),
        take: Callable[[pl.DataFrame, batching.Batch], None] | None = None,
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Scores a labelled table, without the calibrator.

        Args:
          table: opened with its label.
          keep: columns that `take` gets as they are in the file.
          take: called with the kept columns of each batch of rows, and the batch itself, which is filled up
            with rows of weight 0.

        Returns:
          The scores, see `training.evaluation.score`; and, by field, the share of values that the training
          part did not have.
        """
        metrics.tell_soft_labels(self.encoder.schema)
        batches = EncodedBatches(table, self.encoder, self.batch_size, labelled=True, keep=keep)

        def features() -> Iterator[batching.Batch]:
            for batch, kept in batches:
                if take is not None:
                    take(kept, batch)
                yield batch

        scores = evaluation.score(self._predict, self._partitioner, self.state, features(), of=table.name)
        positive = self.encoder.schema.positive
        if positive and not scores['label'].any():
            _log.warning(
                '%s: no label is %r, which is a click; are they written as in training?',
                table.name,
                positive,
            )
        return scores, batches.out_of_vocabulary()

    def calibrated(self, scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Scores with the logits of their calibrated probabilities, where there is a calibrator."""
        if self.calibrator is None:
            return dict(scores)
        return {**scores, 'logit': self.calibrator.logits(scores['logit'])}

    def probabilities(self, table: tables.Table, tell_unknown: bool = True) -> np.ndarray:
        """Probability of every row, float32 [rows], in their order.

        Args:
          table: with or without the label.
          tell_unknown: whether fields with many unknown values are logged.
        """
        batches = EncodedBatches(table, self.encoder, self.batch_size, labelled=False)
        found = [scores for scores, _ in self._scored(batches, table.name)]
        if tell_unknown:
            batches.out_of_vocabulary()
        return np.concatenate(found).astype(np.float32)

    def write(self, table: tables.Table, output: str) -> dict[str, Any]:
        """Writes the probability of every row, in their order.

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
        batches = EncodedBatches(table, self.encoder, self.batch_size, labelled=False, keep=keep)
        with Progress('predicting', 'rows') as progress, ScoreFile(output) as file:
            for scores, kept in self._scored(batches, table.name):
                file.write(kept.drop(ROW).with_columns(pl.Series(PROBABILITY, scores)))
                progress.advance(kept.height)
        return {'rows': batches.rows, 'output': output, 'out_of_vocabulary': batches.out_of_vocabulary()}

    def _scored(self, batches: EncodedBatches, name: str) -> Iterator[tuple[np.ndarray, pl.DataFrame]]:
        """Yields the probabilities of each batch, float64 [rows], and its kept columns; one batch is computed
        while the one before is handed on."""
        waiting: list[tuple[pl.DataFrame, jax.Array]] = []
        done = 0

        def taken() -> tuple[np.ndarray, pl.DataFrame]:
            nonlocal done
            kept, output = waiting.pop(0)
            logits = np.asarray(output)[: kept.height]
            evaluation.check_finite(logits, self.state, done, of=name)
            done += kept.height
            if self.calibrator is None:
                return probability_metrics.sigmoid(logits), kept
            return self.calibrator.probabilities(logits), kept

        for batch, kept in batches:
            waiting.append((kept, self._predict(self.state, self._partitioner.put(batch))))
            if len(waiting) > 1:
                yield taken()
        while waiting:
            yield taken()


def _open(data: Any, builder: type[Builder], options: ConfigDict) -> tables.Table:
    if is_frame(data):
        return FrameTable(data)
    names = names_of_files(data, 'the rows')
    # One name may be a list by commas.
    return builder.open_files(options, tables.expand(names[0] if len(names) == 1 else names, '--input'))
