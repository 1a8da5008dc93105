"""Evaluation of labelled rows: metrics before and after calibration, by segment, with intervals."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import polars as pl
from ml_collections import ConfigDict

from dlf_jax.analysis import intervals
from dlf_jax.analysis.column_values import ColumnValues
from dlf_jax.data.readers import tables
from dlf_jax.data.rows import Rows
from dlf_jax.serving.predict import Predictor
from dlf_jax.training import evaluation, metrics


def evaluated(predictor: Predictor, table: tables.Table, config: ConfigDict) -> dict[str, Any]:
    """Scores a labelled table and computes what `config.evaluate` asks for.

    Args:
      predictor: of the model.
      table: opened by it, with its label.
      config: the whole config.

    Returns:
      See `TrainedModel.evaluate`.
    """
    options = config.evaluate
    tables.check_columns(table, options.by, 'config.evaluate.by')
    columns = [ColumnValues(name, predictor.encoder) for name in options.by]

    def take(kept: pl.DataFrame, batch: Rows) -> None:
        for column in columns:
            column.add(kept[column.column], batch)

    raw, unknown = predictor.scored(table, tuple(options.by), take)
    scores, wanted = predictor.calibrated(raw), metrics.selected(config)
    found = {**evaluation.summary(scores, wanted), 'out_of_vocabulary': unknown}
    if predictor.calibrator is not None:
        before = evaluation.summary(raw, wanted)
        found['before_calibration'] = {name: before[name] for name in wanted if name in before}
    if options.intervals:
        found['intervals'] = intervals.of_metrics(scores, options.intervals)
    if columns:
        found['segments'] = {column.column: _segments(column, scores, options.top) for column in columns}
    return found


def _segments(column: ColumnValues, scores: dict[str, np.ndarray], top: int) -> list[dict[str, Any]]:
    return [dataclasses.asdict(segment) for segment in column.segments(scores, top)]
