"""Permutation importance: what a model loses when fields' values are those of other rows.

Breiman 2001, "Random Forests", section 10; Fisher et al. 2019, "All Models are Wrong, but Many are Useful".
The fields of a group are permuted together, so that what belongs together in one row stays together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dlf_jax.analysis.explanation.costs import Scored, both_changes
from dlf_jax.analysis.explanation.replacing import Replacing
from dlf_jax.analysis.explanation.sample import Sample

# Scores that are held at a time.
_HELD = 4_000_000


@dataclasses.dataclass
class Baseline:
    """The rows as they are: what scores with replaced fields are compared with.

    Attributes:
      sample: the rows.
      logits: float64 [n].
      labels: float64 [n].
      weights: float64 [n].
      scored: each row's share in AUC and Logloss.
    """

    sample: Sample
    logits: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    scored: Scored

    @classmethod
    def of(cls, replacing: Replacing, sample: Sample) -> Baseline:
        """Scores a sample as it is."""
        (logits,) = replacing.permuted(sample.rows, np.arange(len(sample)), [()])
        labels, weights = (np.asarray(sample.rows[name], np.float64) for name in ('label', 'weight'))
        return cls(sample, logits, labels, weights, Scored(labels, logits, weights))

    @property
    def variance(self) -> float:
        """Weighted variance of the logits."""
        logits = np.asarray(self.logits, np.float64)
        mean = np.average(logits, weights=self.weights)
        return float(np.average((logits - mean) ** 2, weights=self.weights))

    def share(self, squares: np.ndarray) -> float | None:
        """The weighted mean of squared changes of the logits as a share of their variance."""
        whole = self.variance
        return float(np.average(squares, weights=self.weights)) / whole if whole else None

    def orders(self, repeats: int, seed: int) -> list[np.ndarray]:
        """The row that each row takes its values from, int64 [n], for each repetition."""
        random = np.random.default_rng([seed, 2])
        return [random.permutation(len(self.sample)) for _ in range(repeats)]


def importance(
    replacing: Replacing, baseline: Baseline, fields: Sequence[Sequence[str]], repeats: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Yields what permuting fields costs, in the order of `fields`, as JSON.

    `auc` is the loss of AUC and `logloss` the gain of Logloss, each a mean over the repetitions with an
    interval of 95 % for the choice of rows. `variance` is half the mean squared change of the logit, as a
    share of the logits' variance: the total index of Sobol (Jansen 1999, "Analysis of variance designs for
    model output"), which needs no labels. `repeats` has both costs of each repetition.

    Args:
      replacing: scores rows.
      baseline: the rows as they are.
      fields: names of the fields that are permuted together, for each entry.
      repeats: number of permutations; all entries share them.
      seed: seed of the permutations.
    """
    rows, orders = baseline.sample.rows, baseline.orders(repeats, seed)
    held = max(1, _HELD // len(baseline.sample))
    for start in range(0, len(fields), held):
        entries = fields[start : start + held]
        found = [_Changes(baseline) for _ in entries]
        for order in orders:
            for changes, logits in zip(found, replacing.permuted(rows, order, entries), strict=True):
                changes.add(logits)
        yield from (changes.summary() for changes in found)


class _Changes:
    """Changes of the rows' losses, placements and logits, summed over repetitions."""

    def __init__(self, baseline: Baseline):
        self._baseline = baseline
        self._losses, self._placements, self._squares = (np.zeros(len(baseline.sample)) for _ in range(3))
        self._repeats: list[dict[str, float | None]] = []

    def add(self, logits: np.ndarray) -> None:
        base = self._baseline
        scored = Scored(base.labels, logits, base.weights)
        losses = scored.losses - base.scored.losses
        placements = base.scored.placements - scored.placements
        self._losses += losses
        self._placements += placements
        self._squares += np.square(logits - base.logits, dtype=np.float64)
        changes = both_changes(base.labels, losses, placements, base.weights)
        self._repeats.append({name: change['mean'] for name, change in changes.items()})

    def summary(self) -> dict[str, Any]:
        base, count = self._baseline, len(self._repeats)
        changes = both_changes(base.labels, self._losses / count, self._placements / count, base.weights)
        return {**changes, 'variance': base.share(self._squares / (2 * count)), 'repeats': self._repeats}


def most_important_first(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sorts entries by what they cost in AUC; in Logloss where AUC is undefined."""

    def cost(entry: dict[str, Any]) -> float:
        auc, logloss = entry['auc']['mean'], entry['logloss']['mean']
        return auc if auc is not None else logloss

    return sorted(entries, key=cost, reverse=True)
