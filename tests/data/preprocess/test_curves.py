"""Curves that numbers follow: pieces between quantiles, normal scores."""

import numpy as np
import pytest
import scipy.stats

from dlf_jax.data.preprocess import curves
from dlf_jax.data.schema import number_field

PIECEWISE = number_field('x', 'piecewise', {'buckets': 4})
QUANTILE = number_field('x', 'quantile')


def test_pieces_hold_as_many_rows_each():
    values = np.random.default_rng(0).lognormal(size=4000)
    knots, positions = curves.fit(PIECEWISE, values)
    assert positions.tolist() == [0, 1, 2, 3, 4]
    assert (knots[0], knots[-1]) == (values.min(), values.max())
    assert np.histogram(values, knots)[0] == pytest.approx([1000] * 4, abs=2)


def test_a_number_that_fills_a_range_leaves_the_others_theirs():
    # Quantiles alone would find 0 at every edge but the last.
    values = np.repeat(np.concatenate([np.zeros(900), np.arange(1, 101)]), 10)
    knots, _ = curves.fit(PIECEWISE, values)
    assert knots.tolist() == [0, 1, 34, 67, 100]


def test_never_more_ranges_than_asked_for():
    draw = np.random.default_rng(1)
    for _ in range(200):
        buckets, size = draw.integers(2, 9), draw.integers(1, 40)
        values = np.repeat(draw.integers(0, draw.integers(1, 12), size) + draw.choice([0.0, 0.5]), 1000)
        knots, positions = curves.fit(number_field('x', 'piecewise', {'buckets': int(buckets)}), values)
        assert (np.diff(knots) > 0).all()
        assert 1 <= len(knots) <= buckets + 1
        assert (knots[0], knots[-1]) == (values.min(), values.max())
        assert positions.tolist() == list(range(len(knots)))


def test_normal_scores_of_ranks():
    values = np.random.default_rng(2).exponential(size=20_000)
    curve = curves.fit(QUANTILE, values)
    scores = curves.follow(curve, values)
    expected = scipy.stats.norm.ppf((scipy.stats.rankdata(values) - 0.5) / len(values))
    # Straight lines between a few hundred knots.
    assert np.abs(scores - expected).max() < 0.1
    assert np.abs(scores - expected).mean() < 0.002
    few = np.array([1.0, 1.0, 1.0, 5.0])
    assert curves.follow(curves.fit(QUANTILE, few), few) == pytest.approx(
        scipy.stats.norm.ppf([3 / 8, 3 / 8, 3 / 8, 7 / 8])
    )


@pytest.mark.parametrize('field', [PIECEWISE, QUANTILE])
def test_numbers_out_of_range_are_clipped_and_missing_ones_stay(field):
    curve = curves.fit(field, np.repeat(np.arange(100.0), 10))
    low, high, beyond, missing = curves.follow(curve, np.array([0.0, 99.0, 1e300, np.nan]))
    assert curves.follow(curve, np.array([-5.0]))[0] == low
    assert beyond == high > low
    assert np.isnan(missing)


@pytest.mark.parametrize('field', [PIECEWISE, QUANTILE])
@pytest.mark.parametrize('values', [[], [7.0, 7.0]], ids=['none', 'constant'])
def test_without_a_range(field, values):
    found = curves.follow(curves.fit(field, np.array(values)), np.array([6.0, 7.0, 8.0]))
    assert len(set(found.tolist())) == 1
    assert np.isfinite(found).all()


def test_few_rows_have_few_ranges():
    values = np.random.default_rng(3).normal(size=90)
    assert curves.fit(number_field('x', 'piecewise', {'buckets': 48}), values).shape == (2, 4)
    assert curves.fit(PIECEWISE, values[:20]).tolist() == [[values[:20].min(), values[:20].max()], [0, 1]]


@pytest.mark.parametrize(
    ('values', 'treatment'),
    [
        (np.arange(2999.0), 'quantile'),
        (np.arange(3000.0), 'piecewise'),
        (np.concatenate([np.zeros(95), np.arange(5)]), 'piecewise'),
        (np.concatenate([np.zeros(80), np.arange(20)]), 'quantile'),
        (np.empty(0), 'piecewise'),
    ],
)
def test_auto_is_decided_by_the_rows(values, treatment):
    field = curves.decided(number_field('x', 'auto', {'buckets': 48}), values, 1)
    assert (field.treatment, field.fill) == (treatment, 'own')


def test_auto_of_wide_tables_needs_rows_for_each_field():
    field = number_field('x', 'auto', {'buckets': 48})
    assert curves.decided(field, np.arange(14_000.0), 280).treatment == 'piecewise'
    assert curves.decided(field, np.arange(14_000.0), 281).treatment == 'quantile'
