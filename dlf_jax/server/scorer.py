"""One version of a model, ready to score: encoder, weights, and programs for batches of a few sizes."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dlf_jax.data.preprocess.joined_encoder import JoinedEncoder, TypedRows
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UserError
from dlf_jax.server import model_source
from dlf_jax.server.derived import DerivedColumns
from dlf_jax.server.model_source import Source
from dlf_jax.server.rows import BadRequest, RowReader
from dlf_jax.training import probability_metrics

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of rows.

    Attributes:
      probabilities: float32 [rows].
      unknown: whether a value is one that the training part did not have, bool [rows, fields].
      missing: whether there is no value, bool [rows, fields].
    """

    probabilities: np.ndarray
    unknown: np.ndarray
    missing: np.ndarray

    def part(self, rows: slice) -> Scores:
        """Those of some rows."""
        return Scores(self.probabilities[rows], self.unknown[rows], self.missing[rows])


class Scorer:
    """A version of a model that scores rows. Holds nothing that a call changes.

    Attributes:
      version: its name: the step of the weights, and a few digits that tell it from another of that step.
      reader: reads the rows of requests for this version.
      schema: its features.
      sizes: numbers of rows for which there is a program, rising.
    """

    def __init__(self, source: Source, sizes: Sequence[int]):
        """Compiles the programs of a model.

        Args:
          source: the model; its encoder's vocabularies are taken.
          sizes: numbers of rows of batches, rising.
        """
        encoder = source.encoder
        self.schema: Schema = encoder.schema
        self.sizes = tuple(sizes)
        self._calibrator = source.calibrator
        self._encoder = JoinedEncoder(encoder)
        # The joined dictionaries know the values by their keys; the texts would take more than those.
        encoder.vocabularies.clear()
        self.reader = RowReader(self.schema, encoder.families, DerivedColumns(source.dataset, self.schema))
        self.version = source.version
        start = time.perf_counter()
        self._programs = {size: source.compile(self._batch(size)) for size in self.sizes}
        self._plan = plan({size: self._seconds(size) for size in self.sizes})
        _log.info(
            'version %s: programs for %s rows in %.1f s', self.version, ', '.join(map(str, self.sizes)),
            time.perf_counter() - start,
        )  # fmt: skip

    def _batch(self, rows: int) -> Rows:
        """Features of rows of nothing."""
        schema = self.schema
        shapes = {
            'categorical': (len(schema.categorical), np.int32),
            'numeric': (len(schema.numeric), np.float32),
            'bags': (schema.bag_columns, np.int32),
        }
        return {name: np.zeros((rows, width), kind) for name, (width, kind) in shapes.items() if width}

    def score(self, rows: TypedRows) -> Scores:
        """Scores rows, however many.

        Raises:
          UserError: a number that is infinite or out of range, or a score that is none; names the row.
        """
        encoded = self._encoder.encode(rows)
        outputs = [
            (self._programs[size](_padded(encoded.features, part, size)), part)
            for size, part in self._cut(rows.rows)
        ]
        logits = np.empty(rows.rows, np.float32)
        for output, part in outputs:
            logits[part] = np.asarray(output)[: part.stop - part.start]
        finite = np.isfinite(logits)
        if not finite.all():
            row = int(np.argmin(finite)) + 1
            raise BadRequest(f'row {row}: the model gives no finite score; look for extreme numbers', 422)
        calibrated = self._calibrator.probabilities if self._calibrator else probability_metrics.sigmoid
        return Scores(calibrated(logits).astype(np.float32), encoded.unknown, encoded.missing)

    def _seconds(self, size: int) -> float:
        """Seconds of a batch, the least of a few."""
        program, batch, found = self._programs[size], self._batch(size), []
        # The first call of a program is slower.
        for _ in range(4):
            start = time.perf_counter()
            np.asarray(program(batch))
            found.append(time.perf_counter() - start)
        return min(found)

    def _cut(self, rows: int) -> Iterator[tuple[int, slice]]:
        """Yields sizes of batches, with the rows of each."""
        start = 0
        while start < rows:
            size = self._plan[min(rows - start, self.sizes[-1])]
            yield size, slice(start, min(start + size, rows))
            start += size


def plan(seconds: Mapping[int, float]) -> list[int]:
    """Size of the first batch for each number of rows, so that all batches together take the least time.

    Args:
      seconds: of a batch, by its size.

    Returns:
      By number of rows, from 0 to the largest size.
    """
    least, first = [0.0], [0]
    sizes = sorted(seconds, reverse=True)
    for rows in range(1, max(seconds) + 1):
        size = min(sizes, key=lambda size: seconds[size] + least[max(0, rows - size)])
        least.append(seconds[size] + least[max(0, rows - size)])
        first.append(size)
    return first


def _padded(features: Rows, part: slice, size: int) -> Rows:
    """Some rows, filled up to a number of rows by the first of them."""
    missing = size - (part.stop - part.start)
    if not missing:
        return {name: values[part] for name, values in features.items()}
    return {
        name: np.concatenate([values[part], np.repeat(values[part.start : part.start + 1], missing, axis=0)])
        for name, values in features.items()
    }


def load(folder: str | Path, sizes: Sequence[int], seed: int = -1) -> Scorer:
    """Reads the model of a folder as it is now.

    Args:
      folder: workdir of a run, a saved model, or an export; see `model_source.read`.
      sizes: numbers of rows of batches, rising.
      seed: of the run to serve, where there are several; -1: the best.

    Raises:
      UserError: there is no model, or it cannot be read.
    """
    try:
        return Scorer(model_source.read(folder, seed, sizes[-1]), sizes)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f'{folder}: cannot be read: {error}') from error
