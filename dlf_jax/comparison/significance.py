"""Mean, standard deviation and significance over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from scipy import stats

# Minimum number of pairs of a test: fewer leave no spread to judge the difference by.
LEAST_PAIRS = 2
# Differences that are this close are equal but for rounding.
_ROUNDING = 1e-12


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean, None of no values; sample standard deviation (over n - 1), None of fewer than two."""
    if not values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def paired_p_value(values: Mapping[int, float], reference: Mapping[int, float]) -> tuple[float | None, int]:
    """Two-sided paired t-test over the seeds that both have.

    Args:
      values: a metric by seed.
      reference: the same metric of the setting that is compared with.

    Returns:
      The p-value and the number of pairs. The p-value is None where there are fewer than two pairs, and where
      all differences are the same: then there is no spread to judge by.
    """
    seeds = sorted(set(values) & set(reference))
    differences = [values[seed] - reference[seed] for seed in seeds]
    if len(seeds) < LEAST_PAIRS or max(differences) - min(differences) < _ROUNDING:
        return None, len(seeds)
    return float(stats.ttest_1samp(differences, 0.0).pvalue), len(seeds)
