"""Intervals for the page: as many bootstrap samples as its time allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dlf_jax.analysis import intervals
from dlf_jax.errors import UserError

# Bootstrap samples where rows are few; fewer where they are many, and none beyond `MOST_ROWS`, where
# intervals are as narrow as the digits that are shown.
SAMPLES, LEAST_SAMPLES, MOST_ROWS = 400, 100, 500_000
_DRAWN = 12_000_000


def samples_for(rows: int) -> int:
    """Number of bootstrap samples for a number of rows; 0: too many rows."""
    if not 0 < rows <= MOST_ROWS:
        return 0
    return int(np.clip(_DRAWN // rows, LEAST_SAMPLES, SAMPLES))


def of_metrics(scores: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """As `intervals.of_metrics`; None where there are too many rows."""
    samples = samples_for(len(scores['label']))
    return intervals.of_metrics(scores, samples) if samples else None


def paired(
    scores: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float | None]] | None:
    """As `intervals.paired`; None where the rows are not the same, or too many."""
    samples = samples_for(len(scores['label']))
    try:
        return intervals.paired(scores, others, samples) if samples else None
    except UserError:
        return None
