"""Gradient-boosted trees of LightGBM in its usual settings, on ids as categories and numbers as they are."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from dlf_jax.baselines.features import Ids, bags
from dlf_jax.data.progress import Progress
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import Schema

# Maximum number of ids of a categorical field that are categories of their own; rarer ones share one.
MAX_CATEGORIES = 1000
# Maximum number of ids of a multi-valued field that have a column of 0 and 1.
MAX_BAG_COLUMNS = 64
# Maximum number of trees, and of trees without a lower validation Logloss before the end.
ROUNDS, PATIENCE = 2000, 100
# Rows for which a further thread pays; on fewer, threads wait for each other, and for other programs' ones.
# The trees are the same.
_ROWS_PER_THREAD = 100_000
OPTIONS = {
    'learning_rate': 0.05,
    'num_leaves': 31,
    'deterministic': True,
    # Otherwise it is timed which of two ways is faster, and the two round differently.
    'force_col_wise': True,
    'verbose': -1,
}


@dataclasses.dataclass(frozen=True)
class Design:
    """How encoded rows become the columns of a matrix.

    The columns are a number per categorical field, the numbers, and for each of the most frequent ids of a
    multi-valued field whether the row has it.

    Attributes:
      schema: the features.
      categorical: ids of each categorical field.
      bags: ids of each multi-valued field.
    """

    schema: Schema
    categorical: tuple[Ids, ...]
    bags: tuple[Ids, ...]

    @classmethod
    def of(cls, train: Rows, schema: Schema) -> Design:
        """The design that fits the training rows."""
        columns = [train['categorical'][:, i] for i in range(len(schema.categorical))]
        return cls(
            schema,
            tuple(Ids.most_frequent(column, MAX_CATEGORIES) for column in columns),
            tuple(Ids.most_frequent(ids, MAX_BAG_COLUMNS) for _, ids in bags(train, schema)),
        )

    @property
    def columns(self) -> int:
        """Number of columns."""
        numbers = len(self.schema.numeric)
        return len(self.categorical) + numbers + sum(len(ids.kept) for ids in self.bags)

    def matrix(self, rows: Rows) -> np.ndarray:
        """The rows as float32 [rows, columns]; a missing number is nan."""
        count = len(rows['label'])
        found = np.zeros((count, self.columns), np.float32)
        for i, ids in enumerate(self.categorical):
            found[:, i] = ids.numbers(rows['categorical'][:, i])
        at = len(self.categorical)
        if self.schema.numeric:
            found[:, at : at + rows['numeric'].shape[1]] = rows['numeric']
            at += rows['numeric'].shape[1]
        for ids, (_, values) in zip(self.bags, bags(rows, self.schema), strict=True):
            numbers = ids.numbers(values)
            row, place = np.nonzero(numbers)
            found[row, at + numbers[row, place] - 1] = 1.0
            at += len(ids.kept)
        return found


@dataclasses.dataclass(frozen=True)
class Trees:
    """Fitted trees.

    Attributes:
      design: columns of the rows.
      booster: LightGBM's, which holds the trees up to the best.
    """

    design: Design
    booster: Any

    @property
    def steps(self) -> int:
        """Number of trees."""
        return int(self.booster.current_iteration())

    @property
    def parameters(self) -> dict[str, int]:
        """Number of leaves, as `dense`."""
        trees = self.booster.dump_model()['tree_info']
        return {'table': 0, 'dense': sum(int(tree['num_leaves']) for tree in trees)}

    def logits(self, rows: Rows) -> np.ndarray:
        """Logits of encoded rows, float64 [rows]."""
        if not len(rows['label']):
            return np.zeros(0)
        return np.asarray(self.booster.predict(self.design.matrix(rows), raw_score=True), np.float64)


def fit(train: Rows, valid: Rows, schema: Schema, seed: int) -> Trees:
    """Grows trees until the validation Logloss falls no more.

    Args:
      train: encoded training rows.
      valid: encoded validation rows.
      schema: the features.
      seed: of what is random: the rows that the ranges of numbers are made from, where there are many.
    """
    import lightgbm

    design = Design.of(train, schema)
    objective = 'cross_entropy' if schema.soft_labels else 'binary'
    metric = 'cross_entropy' if schema.soft_labels else 'binary_logloss'
    options = {
        **OPTIONS,
        'objective': objective,
        'metric': metric,
        'seed': seed,
        'num_threads': min(os.cpu_count() or 1, 1 + len(train['label']) // _ROWS_PER_THREAD),
    }
    data = lightgbm.Dataset(
        design.matrix(train),
        train['label'],
        weight=train['weight'],
        categorical_feature=list(range(len(design.categorical))),
        params=options,
    )
    held_out = data.create_valid(design.matrix(valid), valid['label'], weight=valid['weight'])
    with Progress('lightgbm', 'trees', ROUNDS) as progress:
        booster = lightgbm.train(
            options,
            data,
            ROUNDS,
            [held_out],
            callbacks=[
                lightgbm.early_stopping(PATIENCE, verbose=False),
                lambda _: progress.advance(1),
            ],
        )
    return Trees(design, booster)
