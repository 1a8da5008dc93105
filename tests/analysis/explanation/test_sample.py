"""The sample of rows that explanations are computed on."""

import numpy as np
import pytest

from dlf_jax.analysis.explanation.sample import draw
from dlf_jax.errors import UserError


def stream(count, block=70, weight=None):
    numbers = np.arange(count, dtype=np.float32)
    weights = np.ones(count, np.float32) if weight is None else weight
    for start in range(0, count, block):
        part = slice(start, start + block)
        yield {
            'numeric': numbers[part, None],
            'label': numbers[part] % 2,
            'weight': weights[part],
            'group': np.zeros(len(numbers[part]), np.int64),
        }


def test_rows_are_those_of_their_numbers_in_order():
    found = draw(stream(1000), 150, 3, 'the rows')
    assert len(found) == 150
    assert found.total == 1000
    assert (np.diff(found.numbers) > 0).all()
    np.testing.assert_array_equal(found.rows['numeric'][:, 0], found.numbers)
    assert 'group' not in found.rows
    again = draw(stream(1000, block=333), 150, 3, 'the rows')
    # The same rows however the input is cut.
    np.testing.assert_array_equal(found.numbers, again.numbers)
    assert not np.array_equal(found.numbers, draw(stream(1000), 150, 4, 'the rows').numbers)


def test_every_row_has_the_same_chance():
    counts = np.zeros(200)
    for seed in range(400):
        counts[draw(stream(200, block=30), 50, seed, 'the rows').numbers] += 1
    # Binomial: 100 expected, a deviation of 8.7; of 200 rows none is beyond 4.5 of them.
    assert abs(counts - 100).max() < 4.5 * 8.7
    # The first and the last block have their share.
    assert abs(counts[:30].mean() - 100) < 6
    assert abs(counts[-20:].mean() - 100) < 7


def test_rows_without_weight_are_left_out_and_named_ones_are_in():
    weight = np.ones(300, np.float32)
    weight[::3] = 0
    found = draw(stream(300, weight=weight), 40, 0, 'the rows', always=(7, 100))
    assert (found.numbers % 3 > 0).all()
    assert {7, 100} <= set(found.numbers)
    assert len(draw(stream(300, weight=weight), 1000, 0, 'the rows')) == 200
    with pytest.raises(UserError, match='the rows: no row with a weight above 0'):
        draw(stream(10, weight=np.zeros(10, np.float32)), 5, 0, 'the rows')


def test_fewer_rows_of_a_sample():
    found = draw(stream(1000), 150, 3, 'the rows')
    fewer = found.fewer(20, 0)
    assert len(fewer) == 20
    assert set(fewer.numbers) <= set(found.numbers)
    np.testing.assert_array_equal(fewer.rows['numeric'][:, 0], fewer.numbers)
    assert found.fewer(150, 0) is found
