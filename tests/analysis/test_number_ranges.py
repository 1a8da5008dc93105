"""Ranges of numbers: as many rows each, with names that are told apart."""

import numpy as np
import pytest

from dlf_jax.analysis import number_ranges


@pytest.mark.parametrize(
    'numbers',
    [
        np.random.default_rng(0).normal(size=1000),
        np.repeat([0.0, 1.0, 5.0], [900, 60, 40]),
        1_600_000_000 + np.arange(1000.0),
        np.array([3.0, np.nan, 3.0]),
        np.full(3, np.nan),
    ],
)
def test_every_number_is_in_the_range_of_its_name(numbers):
    codes, names = number_ranges.coded(numbers, 10)
    assert len(set(names)) == len(names)
    assert (np.array(names)[codes] == '(missing)').tolist() == np.isnan(numbers).tolist()
    for number, code in zip(numbers, codes, strict=True):
        name = names[code]
        if ' to ' in name and not name.startswith('up'):
            low, high = map(float, name.split(' to '))
            assert low - 1e-4 * abs(low) <= number <= high + 1e-4 * abs(high)


def test_an_end_may_belong_to_the_range_above():
    assert number_ranges.names([1, 2.5], closed=False) == ['below 1', '1 to 2.5', '2.5 or more']
    assert number_ranges.names([]) == ['all']
