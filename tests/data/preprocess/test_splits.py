"""Splits of one table: at exact ranks of time, by file order, at random."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlf_jax.data.preprocess.splits import Split, count_times

TIMES = st.lists(st.floats(-1e12, 1e12) | st.integers(0, 3).map(float), min_size=3, max_size=80)


@given(TIMES, st.integers(1, 5))
def test_time_cuts_are_order_statistics(times, pieces):
    times = np.array(times)
    split = Split('time', (7, 2, 1))
    cuts = split.time_cuts(
        lambda level, prefix: count_times(np.array_split(times, pieces), level, prefix), len(times)
    )
    ordered = np.sort(times)
    ranks = [min(int(np.ceil(b * len(times))), len(times) - 1) for b in (0.7, 0.7 + 0.2)]
    assert cuts == pytest.approx(ordered[ranks], abs=0)
    parts = split.assign(0, len(times), len(times), times, cuts)
    # Every row of a later part is later than every row of an earlier one: equal times stay together.
    for part in (1, 2):
        later, earlier = times[parts >= part], times[parts < part]
        assert not later.size or not earlier.size or later.min() > earlier.max()


@given(st.integers(1, 500), st.integers(1, 499), st.sampled_from(['chronological', 'random']))
def test_a_row_is_in_the_same_part_whatever_the_chunks(rows, cut, kind):
    split = Split(kind, (7, 2, 1), 3)
    whole = split.assign(0, rows, rows)
    cut = min(cut, rows)
    parts = [split.assign(0, cut, rows), split.assign(cut, rows - cut, rows)]
    assert np.array_equal(whole, np.concatenate(parts))


def test_chronological_shares_are_exact():
    parts = Split('chronological', (7, 2, 1)).assign(0, 1000, 1000)
    assert np.bincount(parts).tolist() == [700, 200, 100]
    assert (np.diff(parts) >= 0).all()


def test_random_shares_and_seeds():
    one, other = (Split('random', (8, 1, 1), seed).assign(0, 100_000, 0) for seed in (0, 1))
    assert np.bincount(one) / 1e5 == pytest.approx([0.8, 0.1, 0.1], abs=0.005)
    assert np.mean((one == 1) & (other == 1)) == pytest.approx(0.01, abs=0.002)


def test_a_part_can_be_left_out():
    assert Split('random', (8, 2)).parts == ('train', 'valid')
    assert Split('random', (8, 2, 0)).parts == ('train', 'valid')
    assert set(Split('random', (8, 2, 0)).assign(0, 1000, 0)) == {0, 1}
