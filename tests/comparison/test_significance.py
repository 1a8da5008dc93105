"""Against numbers worked out by hand and by the t distribution itself."""

import math

import numpy as np
import pytest
from scipy import stats

from dlf_jax.comparison.significance import (
    mean_and_deviation,
    paired_p_value,
    paired_power,
    seeds_needed,
)


def test_mean_and_sample_deviation():
    assert mean_and_deviation([1.0, 2.0, 6.0]) == (3.0, pytest.approx(math.sqrt(7)))
    assert mean_and_deviation([2.5]) == (2.5, None)
    assert mean_and_deviation([]) == (None, None)


def test_p_value_of_two_pairs_by_hand():
    # Differences 1 and 3: t = 2 / (sqrt(2) / sqrt(2)) = 2; with one degree of freedom (Cauchy)
    # p = 1 - 2 atan(t) / pi.
    found, pairs = paired_p_value({0: 2.0, 1: 5.0}, {0: 1.0, 1: 2.0})
    assert pairs == 2
    assert found == pytest.approx(1 - 2 * math.atan(2) / math.pi)


def test_p_value_is_the_t_distribution_s():
    first = {0: 0.981, 1: 0.984, 2: 0.979, 3: 0.983, 4: 0.98}
    second = {0: 0.98, 1: 0.982, 2: 0.98, 3: 0.98, 4: 0.978}
    mean, deviation = mean_and_deviation([first[s] - second[s] for s in first])
    expected = 2 * stats.t.sf(abs(mean / (deviation / math.sqrt(5))), 4)
    assert paired_p_value(first, second) == (pytest.approx(expected), 5)
    # A pair is a seed: the order in which the runs finished does not matter.
    assert paired_p_value(dict(reversed(first.items())), second)[0] == pytest.approx(expected)


def test_only_common_seeds_count():
    both = paired_p_value({0: 2.0, 1: 5.0, 7: 9.0}, {1: 2.0, 0: 1.0, 3: 4.0})
    assert both == paired_p_value({0: 2.0, 1: 5.0}, {0: 1.0, 1: 2.0})


@pytest.mark.parametrize(
    ('first', 'second', 'pairs'),
    [
        ({}, {0: 1.0}, 0),
        ({0: 1.0, 1: 2.0}, {2: 1.0, 3: 2.0}, 0),
        ({0: 1.0, 1: 2.0}, {0: 1.5}, 1),
        ({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}, 2),  # no difference at all
        ({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0}, 2),  # the same difference: no spread to judge by
    ],
)
def test_no_p_value_where_impossible(first, second, pairs):
    assert paired_p_value(first, second) == (None, pairs)


@pytest.mark.parametrize(('effect', 'pairs'), [(1.0, 10), (0.8, 15), (0.5, 34), (0.2, 199)])
def test_seeds_needed_are_those_of_the_tables(effect, pairs):
    """Pairs that the paired t-test needs at 0.05 for a power of 0.8, as G*Power has them."""
    # Two differences with a mean of `effect` times their standard deviation.
    spread = math.sqrt(0.5)
    found = seeds_needed({0: effect + spread, 1: effect - spread}, {0: 0.0, 1: 0.0})
    assert found == pairs
    assert paired_power(effect, pairs - 1) < 0.8 <= paired_power(effect, pairs)


def test_power_is_how_often_the_test_finds_the_difference():
    draws = np.random.default_rng(0).normal(0.7, 1, (20_000, 8))
    found = np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05)
    assert paired_power(0.7, 8) == pytest.approx(found, abs=0.012)
    assert paired_power(0.0, 8) == pytest.approx(0.05, abs=1e-9)


def test_seeds_needed_where_they_cannot_be_told():
    assert seeds_needed({0: 1.0}, {0: 0.0}) is None
    assert seeds_needed({0: 1.0, 1: 2.0}, {0: 0.0, 1: 1.0}) is None
    assert seeds_needed({0: 1.0, 1: -1.0001}, {0: 0.0, 1: 0.0}) == math.inf
