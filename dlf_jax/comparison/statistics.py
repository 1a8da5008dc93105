"""Mean, deviation and significance over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from scipy import stats

# Fewer pairs leave no spread to judge the difference by.
LEAST_PAIRS = 2
# Differences that are equal but for rounding.
_ROUNDING = 1e-12


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The mean, None of nothing; the sample standard deviation (n - 1), None of fewer than two."""
    if not values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def paired_p_value(values: Mapping[int, float], reference: Mapping[int, float]) -> tuple[float | None, int]:
    """The two-sided paired t-test over the seeds that both have.

    Args:
      values: a metric by seed.
      reference: the same metric of what is compared with.

    Returns:
      The p-value and the number of pairs. No p-value, None, of fewer than two pairs, and where all
      differences are the same: then there is no spread to judge by.
    """
    seeds = sorted(set(values) & set(reference))
    differences = [values[seed] - reference[seed] for seed in seeds]
    if len(seeds) < LEAST_PAIRS or max(differences) - min(differences) < _ROUNDING:
        return None, len(seeds)
    return float(stats.ttest_1samp(differences, 0.0).pvalue), len(seeds)
