"""Shares of missing, unknown and shifted values, against counts by hand."""

import math
import types

import numpy as np
import pytest

from dlf_jax import config as configs
from dlf_jax.analysis import drift
from dlf_jax.analysis.prepared import Sample
from dlf_jax.data.schema import MULTI_VALUED, Field, Schema, number_field, text_field


def sample(**rows):
    arrays = {name: np.asarray(values) for name, values in rows.items()}
    count = len(next(iter(arrays.values())))
    return Sample(arrays, np.arange(count), count)


def test_psi_by_hand():
    # 3.5 / 8 against 1.5 / 8 and 4.5 / 8 against 6.5 / 8, of half a row more each.
    p, q = np.array([3, 4]), np.array([1, 6])
    expected = (1.5 - 3.5) / 8 * math.log(1.5 / 3.5) + (6.5 - 4.5) / 8 * math.log(6.5 / 4.5)
    assert drift.psi(p, q) == pytest.approx(expected)
    assert drift.psi(p, p) == 0
    assert math.isfinite(drift.psi(np.array([10, 0]), np.array([0, 10])))


def test_fields_of_every_kind():
    schema = Schema(
        (
            text_field('user', size=5),
            Field('tags', MULTI_VALUED, pooling='mean', length=2, separator=',', size=4),
            number_field('price', 'quantile', {'fill': 'own'}),
            number_field('age', 'standard'),
            text_field('page', shares='user'),
        ),
        'click',
    )
    # Ids of `user` and `page` begin at 0, those of `tags` at 5; 0 is unknown, 1 missing.
    train = sample(
        label=[0, 1, 0, 1],
        categorical=[[2, 2], [3, 2], [2, 3], [1, 4]],
        bags=[[7, 8], [7, -1], [8, -1], [6, -1]],
        numeric=[[1.0, 1], [2.0, 1], [3.0, 1], [np.nan, 1]],
    )
    valid = sample(
        label=[0, 1], categorical=[[0, 2], [0, 0]], bags=[[5, 7], [7, -1]], numeric=[[9.0, 1], [9.0, 1]]
    )
    found = {f.field.name: f for f in drift.compare(schema, {'train': train, 'valid': valid})}
    assert list(found) == ['user', 'tags', 'price', 'age', 'page']
    assert found['user'].missing == {'train': 0.25, 'valid': 0}
    assert found['user'].unknown == {'train': 0, 'valid': 1}
    assert found['page'].unknown == {'train': 0, 'valid': 0.5}
    assert found['tags'].missing == {'train': 0.2, 'valid': 0}
    assert found['tags'].unknown['valid'] == pytest.approx(1 / 3)
    assert found['price'].missing == {'train': 0.25, 'valid': 0}
    assert found['price'].unknown == {'train': None, 'valid': None}
    assert found['age'].missing == {'train': None, 'valid': None}
    # All of `age` is the same, all of `user` is another.
    assert found['age'].psi['valid'] == pytest.approx(0, abs=0.2)
    assert found['user'].psi['valid'] > drift.LARGE


def test_rows_without_drift_have_what_chance_gives():
    draw = np.random.default_rng(0)
    schema = Schema((text_field('user', size=12), number_field('price', 'standard')), 'click')

    def part(rows):
        user = draw.integers(2, 12, (rows, 1))
        return sample(label=np.zeros(rows), categorical=user, numeric=draw.normal(size=(rows, 1)))

    found = drift.compare(schema, {'train': part(20_000), 'valid': part(5000)})
    expected = 9 * (1 / 20_000 + 1 / 5000)
    assert all(f.psi['valid'] < 4 * expected for f in found)


def test_statistics_that_were_kept_say_nothing_of_missing_numbers():
    """They are of the rows of an earlier run, which may be more than there are now."""
    encoder = types.SimpleNamespace(moments={'x': types.SimpleNamespace(count=150)})
    config = configs.get_config()
    assert drift.missing_numbers(config, encoder, 200) == {'x': 0.25}
    config.training.warm_start = 'earlier'
    assert drift.missing_numbers(config, encoder, 100) == {}
    config.dataset.refit_numbers = True
    assert drift.missing_numbers(config, encoder, 200) == {'x': 0.25}


def test_a_number_that_is_no_longer_constant_has_drifted():
    constant, other = np.zeros((100, 1), np.float32), np.ones((100, 1), np.float32)
    for later in (other, -other):
        parts = {'train': sample(numeric=constant), 'test': sample(numeric=later)}
        (shares,) = drift.compare(Schema((number_field('x', 'standard', {}),), 'click'), parts)
        assert shares.psi['test'] > 1
