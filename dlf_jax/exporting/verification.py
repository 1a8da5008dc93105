"""Comparison of an exported model with the one that it is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from dlf_jax.data.readers.frames import FrameTable
from dlf_jax.errors import UserError
from dlf_jax.exporting import raw_values, sample_rows
from dlf_jax.exporting.program import PROBABILITY
from dlf_jax.serving.predict import Predictor

# Probabilities may differ by this: the same operations, rounded in another order.
LIMIT = 1e-5
ROWS = 1000
# The first rows in calls of other sizes: a batch may be of any.
_CALLS = (1, 7)

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Expected:
    """Rows, and what the model in the workdir makes of them.

    Attributes:
      frame: the rows as they are read from a file.
      inputs: of the exported model, by name.
      probability: float32 [rows].
    """

    frame: pl.DataFrame
    inputs: dict[str, np.ndarray]
    probability: np.ndarray


def expected(predictor: Predictor, raw: bool, rows: int = ROWS) -> Expected:
    """Rows of known, unknown and missing values, see `sample_rows`, with the predictor's answers.

    Args:
      predictor: of the workdir.
      raw: whether the exported model takes raw values, or encoded ones.
      rows: their number.
    """
    chunk = sample_rows.sample(predictor.encoder, rows)
    encoded, _ = predictor.encoder.transform(chunk)
    inputs = raw_values.tensors(predictor.encoder.schema, chunk.frame) if raw else dict(encoded)
    return Expected(chunk.frame, inputs, predictor.probabilities(FrameTable(chunk.frame)))


def largest_difference(run: Run, wanted: Expected, limit: float = LIMIT) -> float:
    """The largest difference in probability between an exported model and the predictor.

    Args:
      run: the exported model, as its consumers run it.
      wanted: rows with the predictor's answers.
      limit: the largest one that is let pass.

    Raises:
      UserError: it is larger, or an answer is no number; names the row.
    """
    largest = 0.0
    for count in (*_CALLS, len(wanted.probability)):
        found = run({name: values[:count] for name, values in wanted.inputs.items()})[PROBABILITY]
        if found.shape != wanted.probability[:count].shape:
            raise UserError(
                f'the exported model gives an array of {found.shape} for {count} rows; report this'
            )
        differences = np.abs(found.astype(np.float64) - wanted.probability[:count])
        # NaN is no small difference.
        differences = np.where(np.isnan(differences), np.inf, differences)
        worst = int(differences.argmax())
        if differences[worst] > limit:
            row = wanted.frame.row(worst, named=True)
            raise UserError(
                f'the exported model gives {found[worst]:.8g} where the one in the workdir gives '
                f'{wanted.probability[worst]:.8g}, and {limit:g} is the most that they may differ; nothing '
                f'is exported. The row is {row}. Weights that overflow float32 do this; if those are sound, '
                'report it, with the config'
            )
        largest = max(largest, float(differences[worst]))
    return largest
