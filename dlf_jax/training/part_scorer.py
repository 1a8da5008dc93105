"""Scores and metrics of the parts of a run's data, for all of its seeds at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dlf_jax.data.builders.base import Builder
from dlf_jax.data.loading.batches import EvaluationBatches, iterate
from dlf_jax.data.loading.order import even_batch
from dlf_jax.training import metrics, ranking_metrics
from dlf_jax.training.evaluation import score, summary, tell_rows_without_group
from dlf_jax.training.model_setup import TrainingSetup
from dlf_jax.training.seeds import unstack_runs
from dlf_jax.training.train_state import TrainState


class PartScorer:
    """Scores the parts of a run's data."""

    def __init__(
        self,
        config: ConfigDict,
        builder: Builder,
        setup: TrainingSetup,
        compiling: Callable[[Callable], AbstractContextManager[None]],
        between: Callable[[], None],
    ):
        """Compiles nothing yet.

        Args:
          config: the whole config.
          builder: its data is prepared.
          setup: of the model.
          compiling: what the first call of a compiled function is made in.
          between: called after every batch.
        """
        self._config, self._builder, self._setup = config, builder, setup
        self._compiling, self._between = compiling, between
        # Parts whose rows without a group have been told.
        self._told: set[str] = set()

    def batches(self, part: str) -> EvaluationBatches:
        """Batches of a part, in file order."""
        wanted = self._config.predict.batch_size or self._config.training.batch_size
        size = even_batch(wanted, len(self._setup.partitioner.devices))
        return EvaluationBatches(self._builder.blocks(part), size, jax.process_index(), jax.process_count())

    def score(self, state: TrainState, count: int, part: str) -> dict[str, np.ndarray]:
        """Scores of a part by a stack of `count` runs, as `evaluation.score` returns them."""
        source, partitioner = self.batches(part), self._setup.partitioner
        predict = self._setup.predict_step(count)
        if predict.executable is None:
            with self._compiling(predict):
                predict.compile(state.weights(), partitioner.put(source[0]))
        with iterate(source) as batches:
            return score(predict, partitioner, state, batches, source.rows, self._between, f'the {part} part')

    def summaries(self, scores: dict[str, np.ndarray], count: int, part: str) -> list[dict[str, Any]]:
        """Metrics of the scores of a part for each run of a stack of `count`."""
        wanted = metrics.selected(self._config)
        found = [summary({**scores, 'logit': own}, wanted) for own in unstack_runs(scores['logit'], count)]
        if part not in self._told:
            self._told.add(part)
            tell_rows_without_group(found[0], f'the {part} part')
        truth = self._builder.true_probabilities(part)
        if truth is not None:
            best_possible = ranking_metrics.auc(scores['label'], truth)
            found = [{**one, 'best_possible_auc': best_possible} for one in found]
        return found
