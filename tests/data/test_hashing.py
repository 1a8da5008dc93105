"""Hashes that must never change: models with hashed fields are trained on them."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlf_jax.data.hashing import stable_hash

HASHES = [
    '0000000000000000',
    '79ce5dc97509c089',
    '2731d9fdf756b334',
    'df92c0d9fb7ed244',
    '50d56d1ad392fdfa',
    '97a30d5bb7e41c5a',
    '41846be1961fe8f6',
    '0000000000000000',
]
TEXT = st.one_of(st.none(), st.text(max_size=4), st.integers(0, 30).map(str))


@given(st.lists(TEXT, max_size=50), st.integers(0, 50))
def test_hashes_do_not_depend_on_neighbours(values, cut):
    series = pl.Series(values, dtype=pl.String)
    whole = stable_hash(series)
    assert np.array_equal(whole, np.concatenate([stable_hash(series[:cut]), stable_hash(series[cut:])]))
    alone = {v: stable_hash(pl.Series([v], dtype=pl.String))[0] for v in values}
    assert whole.tolist() == [alone[v] for v in values]


def test_hashes_are_those_of_every_release():
    found = stable_hash(pl.Series(['', 'a', 'b', 'ab', 'ba', '68fd1e64', 'ä', None]))
    assert [f'{value:016x}' for value in found] == HASHES


def test_hashes_spread():
    hashes = stable_hash(pl.Series([f'{i:x}' for i in range(100_000)]))
    assert len(np.unique(hashes)) == 100_000
    counts = np.bincount((hashes % np.uint64(1000)).astype(int), minlength=1000)
    # Chi-square with 999 degrees of freedom: mean 999, deviation 45.
    assert ((counts - 100) ** 2 / 100).sum() == pytest.approx(999, abs=5 * 45)
