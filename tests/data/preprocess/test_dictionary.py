"""The dictionary against Python's own, and a hash that must never change."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlf_jax.data.hashing import stable_hash
from dlf_jax.data.preprocess import dictionary
from dlf_jax.data.preprocess.dictionary import NULL, UNKNOWN, Dictionary

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


@given(st.lists(st.lists(TEXT, max_size=60), max_size=6), st.lists(TEXT, max_size=40))
def test_codes_are_in_the_order_of_coming(parts, others):
    dictionary, expected = Dictionary(pl.Series([], dtype=pl.String)), {}
    for part in parts:
        for value in part:
            if value is not None:
                expected.setdefault(value, len(expected))
        found = dictionary.add(pl.Series(part, dtype=pl.String))
        assert found.tolist() == [NULL if v is None else expected[v] for v in part]
    assert dictionary.values.to_list() == list(expected)
    found = dictionary.find(pl.Series(others, dtype=pl.String))
    assert found.tolist() == [NULL if v is None else expected.get(v, UNKNOWN) for v in others]


def test_a_large_vocabulary_grows_and_keeps_its_codes():
    values = pl.Series(np.random.default_rng(0).permutation(300_000).astype(str))
    dictionary = Dictionary(values[:10])
    for start in range(0, 300_000, 70_000):
        dictionary.add(values[start : start + 70_000])
    assert dictionary.find(values).tolist() == list(range(300_000))


def test_all_keys_want_one_slot(monkeypatch):
    """Every value has another hash but the same first slot: the search goes on past the others."""
    monkeypatch.setattr(Dictionary, '_slots', lambda self, keys: np.full(keys.size, self._mask, np.int64))
    dictionary = Dictionary(pl.Series(['a', 'b', 'a', 'c'], dtype=pl.String)[:1])
    assert dictionary.add(pl.Series(['c', 'b', 'a', 'b'])).tolist() == [1, 2, 0, 2]
    assert dictionary.find(pl.Series(['b', 'x', 'c', 'a'])).tolist() == [2, UNKNOWN, 1, 0]


@given(st.lists(TEXT, max_size=50), st.integers(0, 50))
def test_hashes_do_not_depend_on_neighbours(values, cut):
    series = pl.Series(values, dtype=pl.String)
    whole = stable_hash(series)
    assert np.array_equal(whole, np.concatenate([stable_hash(series[:cut]), stable_hash(series[cut:])]))
    alone = {v: stable_hash(pl.Series([v], dtype=pl.String))[0] for v in values}
    assert whole.tolist() == [alone[v] for v in values]


def test_hashes_are_for_ever():
    """Models with hashed fields are trained on them, so they may never change."""
    found = stable_hash(pl.Series(['', 'a', 'b', 'ab', 'ba', '68fd1e64', 'ä', None]))
    assert [f'{value:016x}' for value in found] == HASHES


def test_hashes_spread():
    hashes = stable_hash(pl.Series([f'{i:x}' for i in range(100_000)]))
    assert len(np.unique(hashes)) == 100_000
    counts = np.bincount((hashes % np.uint64(1000)).astype(int), minlength=1000)
    # Chi-square with 999 degrees of freedom: mean 999, deviation 45.
    assert ((counts - 100) ** 2 / 100).sum() == pytest.approx(999, abs=5 * 45)


def test_id_table_knows_the_negative_codes():
    table, zero = dictionary.id_table(10, np.array([3, 0]), 0, 1)
    codes = np.array([0, 1, UNKNOWN, NULL, dictionary.PAD])
    assert table[zero + codes].tolist() == [13, 10, 10, 11, -1]


def test_values_of_all_lengths_are_told_apart():
    """Short values are inside their views, long ones are not; a value has one code beside any others."""
    values = [('ab' * 10)[:size] + end for size in range(17) for end in ('', 'x', '\0', 'ä')]
    dictionary = Dictionary(pl.Series([], dtype=pl.String))
    alone = [dictionary.add(pl.Series([value]))[0] for value in values]
    distinct = list(dict.fromkeys(values))
    assert alone == [distinct.index(value) for value in values]
    assert dictionary.find(pl.Series([None, *values])[1:]).tolist() == alone
    assert dictionary.find(pl.Series([None, *values])).tolist() == [NULL, *alone]
