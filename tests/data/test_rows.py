"""Streams of rows, cut into blocks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dlf_jax.data.rows import reblock


@given(st.lists(st.integers(1, 50), max_size=20), st.integers(1, 30))
def test_reblock_keeps_rows_and_order(lengths, rows):
    numbers = np.arange(sum(lengths))
    stream = [{'label': p} for p in np.split(numbers, np.cumsum(lengths)[:-1])] if lengths else []
    blocks = [b['label'] for b in reblock(stream, rows)]
    assert all(len(b) == rows for b in blocks[:-1])
    assert np.array_equal(np.concatenate([np.array([], int), *blocks]), numbers)
