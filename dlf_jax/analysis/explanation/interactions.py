"""Importance of pairs of fields: what permuting both does beyond permuting each alone.

With the logit f of a row x, `f(x) - f(x_a) - f(x_b) + f(x_ab)`, in which x_a has another row's value of the
field a, is 0 in every row where the model adds up what it sees in a and in b. A quarter of its mean square is
the importance of all interactions that a and b have a part in (Liu & Owen 2006, "Estimating mean
dimensionality of analysis of variance decompositions": superset importance). It is told as a share of the
logits' variance.

In AUC and Logloss the same sum is told as it is: negative where permuting both costs less than each alone
together, as it does where the two fields are of use only with each other, and also where either alone has
spoilt most of what there is to lose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dlf_jax.analysis.explanation.costs import Scored, both_changes
from dlf_jax.analysis.explanation.importance import Baseline
from dlf_jax.analysis.explanation.replacing import Replacing
from dlf_jax.analysis.explanation.sample import Sample


def interactions(
    replacing: Replacing, sample: Sample, fields: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    """Importance of all pairs of some fields, the strongest interaction first, as JSON.

    One permutation serves all of them, so each row's four scores share the other row.

    Args:
      replacing: scores rows.
      sample: the rows.
      fields: names; a pair costs one scoring of the rows.
      seed: seed of the permutation.
    """
    if len(fields) < 2:
        return []
    baseline = Baseline.of(replacing, sample)
    rows, labels, weights = baseline.sample.rows, baseline.labels, baseline.weights
    (order,) = baseline.orders(1, seed + 1)

    def scored(logits: np.ndarray) -> tuple[np.ndarray, Scored]:
        return np.asarray(logits, np.float64), Scored(labels, logits, weights)

    base = np.asarray(baseline.logits, np.float64), baseline.scored
    alone = replacing.permuted(rows, order, [(name,) for name in fields])
    single = {name: scored(logits) for name, logits in zip(fields, alone, strict=True)}
    found = []
    for i, a in enumerate(fields):
        others = fields[i + 1 :]
        if not others:
            break
        both = replacing.permuted(rows, order, [(a, b) for b in others])
        for b, logits in zip(others, both, strict=True):
            one, two, (logit, together) = single[a], single[b], scored(logits)
            change = base[0] - one[0] - two[0] + logit
            losses = together.losses - one[1].losses - two[1].losses + base[1].losses
            # AUC is lost where losses are gained.
            placements = one[1].placements + two[1].placements - together.placements - base[1].placements
            found.append(
                {
                    'fields': [a, b],
                    'interaction': baseline.share(np.square(change) / 4),
                    **both_changes(labels, losses, placements, weights),
                }
            )
    return sorted(found, key=lambda pair: pair['interaction'] or 0.0, reverse=True)


def scorings(fields: int) -> int:
    """Number of times that the rows are scored for so many fields."""
    return 1 + fields + math.comb(fields, 2) if fields > 1 else 0
