"""Mean, standard deviation and significance over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from scipy import stats

# Minimum number of pairs of a test: fewer leave no spread to judge the difference by.
LEAST_PAIRS = 2
# Probability of finding a difference that is there, which `seeds_needed` asks for, and of finding one that is
# not.
LEAST_POWER, _LEVEL = 0.8, 0.05
# More seeds than this are not counted.
_MOST_SEEDS = 1000
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


def seeds_needed(values: Mapping[int, float], reference: Mapping[int, float]) -> float | None:
    """Number of seeds with which a two-sided paired t-test at 0.05 finds a difference with probability 0.8.

    The power of the test by the noncentral t distribution, with the mean and the standard deviation of the
    differences over the seeds that both have, as if they were the true ones. Of few seeds they are rough, so
    the number is, too.

    Args:
      values: a metric by seed.
      reference: the same metric of the setting that is compared with.

    Returns:
      A whole number from 2; infinity where 1,000 are not enough; None where there are fewer than two pairs,
      or all differences are the same.
    """
    differences = [values[seed] - reference[seed] for seed in sorted(set(values) & set(reference))]
    if len(differences) < LEAST_PAIRS or max(differences) - min(differences) < _ROUNDING:
        return None
    effect = abs(statistics.fmean(differences)) / statistics.stdev(differences)
    # Power grows with the number of seeds.
    low, high = LEAST_PAIRS, _MOST_SEEDS
    if paired_power(effect, high) < LEAST_POWER:
        return math.inf
    while low < high:
        middle = (low + high) // 2
        if paired_power(effect, middle) < LEAST_POWER:
            low = middle + 1
        else:
            high = middle
    return low


def paired_power(effect: float, pairs: int) -> float:
    """Probability that a two-sided paired t-test at 0.05 finds a difference.

    Args:
      effect: the true mean difference divided by the true standard deviation of differences, 0 or more.
      pairs: number of pairs, at least 2.
    """
    limit, shift = stats.t.ppf(1 - _LEVEL / 2, pairs - 1), effect * math.sqrt(pairs)
    # The lower tail by the upper one of its mirror image, which is computed more exactly.
    return float(stats.nct.sf(limit, pairs - 1, shift) + stats.nct.sf(limit, pairs - 1, -shift))
