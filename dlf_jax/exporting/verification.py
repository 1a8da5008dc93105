"""Comparison of an exported model with the one that it is made of."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping

import jax
import numpy as np
import polars as pl

from dlf_jax.data.readers.frames import FrameTable
from dlf_jax.errors import UserError
from dlf_jax.exporting import raw_values, sample_rows
from dlf_jax.exporting.program import PROBABILITY, Program
from dlf_jax.serving.predict import Predictor

_log = logging.getLogger(__name__)

# Probabilities may differ by this: the same operations, rounded in another order.
LIMIT = 1e-5
# Or, in a model whose operations magnify rounding, by so many times what float32 loses there.
MARGIN = 10
# But by no more than this: what is further off is another model.
CAP = 1e-3
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
      encoded: the rows as the encoder gives them, by name.
      probability: float32 [rows].
    """

    frame: pl.DataFrame
    inputs: dict[str, np.ndarray]
    encoded: dict[str, np.ndarray]
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
    # That many of these values are unknown is no news.
    probability = predictor.probabilities(FrameTable(chunk.frame), tell_unknown=False)
    return Expected(chunk.frame, inputs, dict(encoded), probability)


def largest_difference(run: Run, wanted: Expected, rounding: Callable[[], float]) -> tuple[float, float]:
    """The largest difference in probability between an exported model and the predictor, and its limit.

    Args:
      run: the exported model, as its consumers run it.
      wanted: rows with the predictor's answers.
      rounding: gives what float32 loses in the model, see `rounding`; called where the difference is above
        `LIMIT`, which may then be `MARGIN` times as much, up to `CAP`.

    Raises:
      UserError: it is above the limit, or an answer is no number; names the row.
    """
    largest, limit = 0.0, LIMIT
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
        if differences[worst] > limit == LIMIT:
            limit = min(max(LIMIT, MARGIN * rounding()), CAP)
        if differences[worst] > limit:
            row = wanted.frame.row(worst, named=True)
            raise UserError(
                f'the exported model gives {found[worst]:.8g} where the one in the workdir gives '
                f'{wanted.probability[worst]:.8g}, and {limit:.2g} is the most that they may differ; nothing '
                f'is exported. The row is {row}. Weights that overflow float32 do this; if those are sound, '
                'report it, with the config'
            )
        largest = max(largest, float(differences[worst]))
    if largest > LIMIT:
        _log.warning(
            'the exported model differs by up to %.2g in probability: float32 loses that much in this model, '
            'whose layers divide by small numbers or multiply large ones', largest,
        )  # fmt: skip
    return largest, limit


def rounding(program: Program, encoded: Mapping[str, np.ndarray]) -> float:
    """What float32 loses in a model: the largest difference in probability from the operations in float64.

    Args:
      program: of the model.
      encoded: rows as the encoder gives them, by name.
    """

    def probability(kind: type[np.floating]) -> np.ndarray:
        def cast(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {n: x.astype(kind) if x.dtype == np.float32 else x for n, x in arrays.items()}

        return np.asarray(program.function(cast(program.weights), cast(encoded))[PROBABILITY], np.float64)

    with jax.enable_x64(True):
        return float(np.abs(probability(np.float32) - probability(np.float64)).max())
