"""Against numbers worked out by hand and by the t distribution itself."""

import math

import pytest
from scipy import stats

from dlf_jax.comparison.significance import mean_and_deviation, paired_p_value


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
