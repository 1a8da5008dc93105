"""AFN and AFN+."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.models.afn import AFN
from dlf_jax.testing import check_model
from tests.models import checks
from tests.references import afn as reference

SMALL = {'embedding_size': 3, 'neurons': 6, 'hidden': (5, 4), 'deep_hidden': (7,)}
CASES = {
    'full': {},
    '+': {'plus': True},
    'without BatchNorm in the towers': {'plus': True, 'batch_norm': False},
    'large epsilon, no hidden layer': {'epsilon': 0.5, 'hidden': ()},
}


@pytest.mark.parametrize('case', CASES)
def test_reference(case):
    check_model(AFN(**{**SMALL, **CASES[case]}), reference.logits)


@pytest.mark.parametrize('case', CASES)
def test_parameter_count(case):
    model = AFN(**{**SMALL, **CASES[case]})
    d, n, f = 3, 6, checks.FIELDS
    expected = 2 * f + f * n + 2 * n + checks.mlp_count(d * n, model.hidden, 1, model.batch_norm)
    if model.plus:
        expected += checks.mlp_count(f * d, (7,), 1, model.batch_norm) + checks.dense(2, 1)
    assert checks.count(model) == expected


def test_contract():
    checks.check_variants(AFN)
    assert AFN().tables == {'embedding': 10}
    assert AFN(plus=True).tables == {'embedding': 10, 'deep': 10}


def test_plus_starts_as_the_average():
    model = AFN(**SMALL, plus=True)
    rows = {table: jnp.ones((2, 4, 3)) for table in model.tables}
    combine = jax.jit(model.init)(jax.random.key(1), rows)['params']['combine']
    np.testing.assert_array_equal(combine['kernel'], [[0.5], [0.5]])
    np.testing.assert_array_equal(combine['bias'], [0])


def test_rows_of_zeros_have_finite_gradients():
    model = AFN(**SMALL)
    rows = {'embedding': jnp.zeros((5, 4, 3))}
    variables = jax.jit(model.init)(jax.random.key(1), rows)
    gradients = jax.jit(jax.grad(lambda rows: jnp.sum(model.apply(variables, rows))))(rows)
    assert not gradients['embedding'].any()


@pytest.mark.parametrize('rate', ['dropout', 'deep_dropout'])
def test_dropout(rate):
    checks.check_dropout(AFN(**SMALL, plus=True, **{rate: 0.5}), rate)


@pytest.mark.parametrize(
    ('field', 'value'),
    [('neurons', 0), ('epsilon', 0.0), ('hidden', [8]), ('deep_hidden', (0,)), ('deep_dropout', 1.0)],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        AFN(**{field: value})
