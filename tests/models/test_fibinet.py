"""FiBiNET: squeeze-excitation and bilinear products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.models.fibinet import Bilinear, FiBiNET
from dlf_jax.models.interactions import pair_products
from dlf_jax.testing import check_model
from tests.models import checks
from tests.references import fibinet as reference

SMALL = {'embedding_size': 3, 'hidden': (6, 5), 'ratio': 2.0}
CASES = {
    'interaction': {},
    'all, sigmoid': {'bilinear': 'all', 'excitation': 'sigmoid', 'batch_norm': False, 'ratio': 0.5},
    'each, own matrices': {'bilinear': 'each', 'shared': False},
}


@pytest.mark.parametrize('case', checks.daily(CASES, 'interaction', 'each, own matrices'))
def test_reference(case):
    check_model(FiBiNET(**{**SMALL, **CASES[case]}), reference.logits)


@pytest.mark.parametrize(
    ('fields', 'settings', 'published'),
    [
        # The leaderboard's runs on Frappe, MovieLens and Criteo, without tables.
        (10, {'bilinear': 'all', 'ratio': 2.0}, 684_201),
        (3, {'bilinear': 'all', 'ratio': 0.3}, 348_161),
        (39, {'ratio': 12.0, 'batch_norm': False}, 6_323_935),
    ],
)
def test_parameter_count(fields, settings, published):
    assert checks.count(FiBiNET(**settings), fields) == published


def test_matrices_of_each_left_field():
    one = FiBiNET(bilinear='each', hidden=())
    assert checks.count(one, 5) - checks.count(FiBiNET(bilinear='all', hidden=()), 5) == 3 * 100


def test_contract():
    checks.check_variants(FiBiNET)
    assert FiBiNET().tables == {'embedding': 10, 'linear': 1}


@pytest.mark.parametrize(('bilinear', 'stack'), [('all', ()), ('each', (3,)), ('interaction', (6,))])
def test_products_by_the_identity(bilinear, stack):
    first = jax.random.normal(jax.random.key(0), (2, 4, 3))
    kernel = jnp.broadcast_to(jnp.eye(3), (*stack, 3, 3))
    found = Bilinear(bilinear).apply({'params': {'kernel': kernel}}, first)
    np.testing.assert_allclose(found, pair_products(first), rtol=1e-5)


def test_dropout():
    checks.check_dropout(FiBiNET(**SMALL, dropout=0.5), 'dropout')


def test_one_field_is_refused():
    rows = {table: jnp.ones((2, 1, width)) for table, width in FiBiNET().tables.items()}
    with pytest.raises(ValueError, match=r'model.name: fibinet .* at least two, found 1'):
        FiBiNET().init(jax.random.key(0), rows)


@pytest.mark.parametrize(
    ('field', 'value'),
    [('bilinear', 'none'), ('excitation', 'tanh'), ('ratio', 0), ('hidden', [8]), ('dropout', 1.0)],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        FiBiNET(**{field: value})
