"""Rows as the baselines read them."""

import numpy as np

from dlf_jax.baselines import features
from dlf_jax.data.schema import PADDING
from tests.baselines.tables import SCHEMA, rows, take


class Blocks:
    """Rows in blocks of ten."""

    block_rows = 10

    def __init__(self, whole):
        self.whole, self.rows = whole, len(whole['label'])

    def __len__(self):
        return -(-self.rows // self.block_rows)

    def read(self, block):
        return take(self.whole, slice(10 * block, 10 * block + 10))


def test_rows_of_weight_0_are_left_out():
    whole = rows(35)
    whole['weight'] = (np.arange(35) % 4).astype(np.float32)
    found = features.read(Blocks(whole), 1, '')
    for name, values in found.items():
        np.testing.assert_array_equal(values, whole[name][whole['weight'] > 0])


def test_rows_without_weights_weigh_1():
    whole = {name: values for name, values in rows(12).items() if name != 'weight'}
    np.testing.assert_array_equal(features.read(Blocks(whole), 1, '')['weight'], np.ones(12))


def test_every_third_row_across_blocks():
    whole = rows(35)
    np.testing.assert_array_equal(features.read(Blocks(whole), 3, '')['numeric'], whole['numeric'][::3])


def test_as_many_rows_as_fit(monkeypatch):
    monkeypatch.setattr(features.os, 'sysconf', lambda _: 2**20)
    assert features.stride(SCHEMA, features.MAX_ROWS) == 1
    assert features.stride(SCHEMA, features.MAX_ROWS + 1) == 2
    monkeypatch.setattr(features.os, 'sysconf', lambda _: 2**13)
    assert features.stride(SCHEMA, features.MAX_ROWS) > 100


def test_the_most_frequent_ids_have_numbers():
    ids = np.array([7, 7, 7, 2_000_000_000, 2_000_000_000, 5, 3, PADDING, PADDING, PADDING, PADDING])
    found = features.Ids.most_frequent(ids, 2)
    assert len(found) == 3
    np.testing.assert_array_equal(
        found.numbers(np.array([[7, 5], [2_000_000_000, PADDING], [8, 2**31 - 1]])), [[1, 0], [2, 0], [0, 0]]
    )


def test_no_ids():
    found = features.Ids.most_frequent(np.full((3, 2), PADDING), 5)
    np.testing.assert_array_equal(found.numbers(np.array([1, PADDING])), [0, 0])
