"""Samples of whole blocks at even distances."""

import numpy as np
import pytest

from dlf_jax.analysis.prepared import sample


class Made:
    """Blocks of ten rows each, whose labels are the rows' numbers."""

    block_rows = 10

    def __init__(self, blocks):
        self.blocks, self.rows = blocks, 10 * blocks

    def __len__(self):
        return self.blocks

    def read(self, number):
        assert 0 <= number < self.blocks
        return {'label': np.arange(10 * number, 10 * number + 10)}


@pytest.mark.parametrize(
    ('blocks', 'most', 'chosen'), [(9, 10, [4]), (9, 5, [4]), (9, 30, [1, 4, 7]), (3, 100, [0, 1, 2])]
)
def test_blocks_are_the_middles_of_equal_stretches(blocks, most, chosen):
    found = sample(Made(blocks), most)
    expected = np.concatenate([np.arange(10 * block, 10 * block + 10) for block in chosen])
    assert found.numbers.tolist() == found.rows['label'].tolist() == expected.tolist()
    assert found.of == 10 * blocks


def test_an_empty_part_has_no_sample():
    found = sample(Made(0), 100)
    assert (len(found.numbers), found.rows, found.of) == (0, {}, 0)
