"""Logistic regression of scikit-learn on one-hot ids and standardised numbers."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from dlf_jax.baselines.features import Ids, bags
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import PADDING, Schema
from dlf_jax.training import probability_metrics

if TYPE_CHECKING:
    from scipy import sparse

_log = logging.getLogger(__name__)

# Maximum number of ids of a field with coefficients of their own; rarer ones share one.
MAX_IDS = 100_000
# Inverse strengths of the penalty, from which the validation part chooses by Logloss.
STRENGTHS = (0.1, 1.0, 10.0)
_MAX_ITERATIONS = 200


@dataclasses.dataclass(frozen=True)
class Design:
    """How encoded rows become the columns of a sparse matrix.

    The columns are those of each categorical field's ids; of each multi-valued field's, whose values share a
    weight of 1; the numbers, less the training mean and over its deviation, a missing one as the mean; and
    for each number that training rows lack, whether the row lacks it.

    Attributes:
      schema: the features.
      categorical: ids of each categorical field.
      bags: ids of each multi-valued field.
      mean: of the numbers, [Fn].
      deviation: of the numbers, [Fn]; 1 where they are all the same.
      lacking: positions of the numbers that training rows lack.
    """

    schema: Schema
    categorical: tuple[Ids, ...]
    bags: tuple[Ids, ...]
    mean: np.ndarray
    deviation: np.ndarray
    lacking: np.ndarray

    @classmethod
    def of(cls, train: Rows, schema: Schema) -> Design:
        """The design that fits the training rows."""
        columns = [train['categorical'][:, i] for i in range(len(schema.categorical))]
        mean, deviation, lacking = np.zeros(0), np.zeros(0), np.zeros(0, np.int64)
        if schema.numeric:
            mean, deviation = _moments(train['numeric'], train['weight'])
            lacking = np.flatnonzero(np.isnan(train['numeric']).any(0))
        return cls(
            schema,
            tuple(Ids.most_frequent(column, MAX_IDS) for column in columns),
            tuple(Ids.most_frequent(ids, MAX_IDS) for _, ids in bags(train, schema)),
            mean,
            deviation,
            lacking,
        )

    @property
    def id_columns(self) -> int:
        """Number of columns of ids."""
        return sum(map(len, (*self.categorical, *self.bags)))

    @property
    def columns(self) -> int:
        """Number of columns."""
        return self.id_columns + len(self.mean) + len(self.lacking)

    def matrix(self, rows: Rows) -> sparse.csr_array:
        """The rows as a float32 matrix [rows, columns]."""
        count = len(rows['label'])
        at, places, values = 0, [], []
        for i, ids in enumerate(self.categorical):
            places.append(at + ids.numbers(rows['categorical'][:, i : i + 1]))
            values.append(np.ones((count, 1), np.float32))
            at += len(ids)
        for ids, (_, found) in zip(self.bags, bags(rows, self.schema), strict=True):
            there = found != PADDING
            places.append(at + ids.numbers(found))
            values.append((there / np.maximum(there.sum(1, keepdims=True), 1)).astype(np.float32))
            at += len(ids)
        if len(self.mean):
            numbers = rows['numeric']
            standard = (numbers - self.mean) / self.deviation
            lacks = np.isnan(numbers)
            values += [np.where(lacks, 0.0, standard).astype(np.float32)]
            values += [lacks[:, self.lacking].astype(np.float32)]
            own = np.arange(at, self.columns, dtype=np.int32)
            places.append(np.broadcast_to(own, (count, len(own))))
        # Every row has as many entries, those of padding being 0.
        place, value = np.concatenate(places, 1), np.concatenate(values, 1)
        starts = np.arange(count + 1, dtype=np.int64) * place.shape[1]
        if starts[-1] < 2**31:
            starts = starts.astype(np.int32)
        # Here, as scikit-learn is: a command without baselines need not wait for it.
        from scipy import sparse

        return sparse.csr_array((value.ravel(), place.ravel(), starts), (count, self.columns))


def _moments(numbers: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and deviation of each column [rows, Fn], of what is there."""
    # In float32 a sum over millions of rows would lose digits.
    weights = weights.astype(np.float64)
    there = ~np.isnan(numbers)
    total = np.maximum(weights @ there, 1e-30)
    mean = weights @ np.where(there, numbers, 0.0) / total
    deviation = np.sqrt(weights @ np.where(there, (numbers - mean) ** 2, 0.0) / total)
    return mean, np.where(deviation > 0, deviation, 1.0)


def _hard(matrix: sparse.csr_array, rows: Rows) -> tuple[sparse.csr_array, np.ndarray, np.ndarray]:
    """Matrix, labels of 0 and 1, and weights: a row with a soft label y is one of label 1 that weighs y
    times its weight, and one of label 0 that weighs the rest."""
    label, weight = rows['label'], rows['weight']
    if np.isin(label, (0.0, 1.0)).all():
        return matrix, label, weight
    twice = np.tile(np.arange(len(label)), 2)
    labels = np.repeat([1.0, 0.0], len(label))
    return matrix[twice], labels, np.concatenate([weight * label, weight * (1 - label)])


def _fit(rows: sparse.csr_array, labels: np.ndarray, weights: np.ndarray, strength: float) -> Any:
    """The fitted scikit-learn model."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # An end at the limit of iterations is no news: the validation part judges.
        warnings.simplefilter('ignore')
        return LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS).fit(rows, labels, weights)


@dataclasses.dataclass(frozen=True)
class Logistic:
    """A fitted logistic regression.

    Attributes:
      design: columns of the rows.
      weights: coefficients, [columns].
      intercept: logit of a row of zeros.
      steps: iterations of the solver, over all strengths that were tried.
    """

    design: Design
    weights: np.ndarray
    intercept: float
    steps: int

    @property
    def parameters(self) -> dict[str, int]:
        """Number of coefficients: of ids (`table`) and others (`dense`)."""
        return {'table': self.design.id_columns, 'dense': self.design.columns - self.design.id_columns + 1}

    def logits(self, rows: Rows) -> np.ndarray:
        """Logits of encoded rows, float64 [rows]."""
        return np.asarray(self.design.matrix(rows) @ self.weights + self.intercept, np.float64)


def fit(train: Rows, valid: Rows, schema: Schema, seed: int) -> Logistic:
    """Fits the regression with each of `STRENGTHS`, and keeps the one of the lowest validation Logloss.

    Args:
      train: encoded training rows.
      valid: encoded validation rows.
      schema: the features.
      seed: not used: there is nothing random.
    """
    del seed
    design = Design.of(train, schema)
    clicks = float(np.average(train['label'], weights=train['weight']))
    if clicks in (0.0, 1.0):
        # Labels of one kind, on which the solver has nothing to do.
        clicks = float(np.clip(clicks, probability_metrics.CLIP, 1 - probability_metrics.CLIP))
        return Logistic(design, np.zeros(design.columns), float(np.log(clicks / (1 - clicks))), 0)
    rows, labels, weights = _hard(design.matrix(train), train)
    best, least, steps = None, np.inf, 0
    for strength in STRENGTHS:
        found = _fit(rows, labels, weights, strength)
        coefficients, intercept = found.coef_[0].astype(np.float64), float(found.intercept_[0])
        steps += int(found.n_iter_[0])
        fitted = Logistic(design, coefficients, intercept, steps)
        loss = probability_metrics.logloss(valid['label'], fitted.logits(valid), valid['weight'])
        _log.info('logistic: C=%g: valid logloss %.6f', strength, loss)
        if best is None or loss < least:
            best, least = fitted, loss
    assert best is not None
    return dataclasses.replace(best, steps=steps)
