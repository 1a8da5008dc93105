"""The dictionary against Python's own."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from dlf_jax.data.preprocess.dictionary import NULL, UNKNOWN, Dictionary

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
    """Values with the same first slot and different hashes: the search goes past those of others."""
    monkeypatch.setattr(Dictionary, '_slots', lambda self, keys: np.full(keys.size, self._mask, np.int64))
    dictionary = Dictionary(pl.Series(['a', 'b', 'a', 'c'], dtype=pl.String)[:1])
    assert dictionary.add(pl.Series(['c', 'b', 'a', 'b'])).tolist() == [1, 2, 0, 2]
    assert dictionary.find(pl.Series(['b', 'x', 'c', 'a'])).tolist() == [2, UNKNOWN, 1, 0]


def test_values_of_all_lengths_are_told_apart():
    """Short values are inside their string views, long ones are not; codes do not depend on neighbours."""
    values = [('ab' * 10)[:size] + end for size in range(17) for end in ('', 'x', '\0', 'ä')]
    dictionary = Dictionary(pl.Series([], dtype=pl.String))
    alone = [dictionary.add(pl.Series([value]))[0] for value in values]
    distinct = list(dict.fromkeys(values))
    assert alone == [distinct.index(value) for value in values]
    assert dictionary.find(pl.Series([None, *values])[1:]).tolist() == alone
    assert dictionary.find(pl.Series([None, *values])).tolist() == [NULL, *alone]
