"""EulerNet: polar form, orders and implicit parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.models.eulernet import EulerLayer, EulerNet, order_init, polar
from dlf_jax.models.mode import Mode
from dlf_jax.testing import check_model
from tests.models import checks
from tests.references import eulernet as reference

SMALL = {'embedding_size': 3, 'shape': (3, 2)}
CASES = {'two layers': {}, 'norms': {'layer_norm': True, 'shape': (3,)}, 'no layer': {'shape': ()}}


@pytest.mark.parametrize('case', checks.daily(CASES, 'two layers', 'norms'))
def test_reference(case):
    check_model(EulerNet(**{**SMALL, **CASES[case]}), reference.logits)


@pytest.mark.parametrize(
    ('fields', 'settings', 'published'),
    [
        # The authors' runs on Frappe and Criteo, without tables and without their idle BatchNorms.
        (10, {'shape': (52,), 'layer_norm': True}, 54_651),
        (39, {'embedding_size': 16, 'shape': (39, 39), 'layer_norm': True}, 786_330),
    ],
)
def test_parameter_count(fields, settings, published):
    assert checks.count(EulerNet(**settings), fields) == published


def test_contract():
    checks.check_variants(EulerNet)
    assert EulerNet().tables == {'embedding': 10}


def test_a_layer_that_is_the_identity():
    r, p = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    zeros = np.zeros((4, 3), np.float32)
    implicit = {'kernel': np.zeros((12, 12), np.float32), 'bias': np.zeros(12, np.float32)}
    orders = np.eye(4, dtype=np.float32)
    params = {'orders': orders, 'log_modulus': zeros, 'phase': zeros, 'implicit': implicit}
    layer = EulerLayer(4, False, 0.0, 0.0)
    found = jax.jit(lambda: layer.apply({'params': params}, r, p, Mode()))()
    np.testing.assert_allclose(found, (r, p), rtol=1e-4, atol=1e-5)


def test_zero_has_no_gradient():
    def angles(r, p):
        return jnp.sum(polar(r, p)[1]) + jnp.sum(polar(r, p)[0])

    slopes = jax.jit(jax.grad(angles, (0, 1)))(jnp.array([0.0, 1.0]), jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(slopes, [[0, 0], [0, 1]], atol=1e-6)
    # Where the square of the modulus is no float32 any more.
    slopes = jax.jit(jax.grad(angles, (0, 1)))(jnp.array([1e-20, 0.0]), jnp.array([5e-21, 1e-19]))
    np.testing.assert_allclose(slopes, np.zeros((2, 2)), atol=1e-6)


def test_orders_copy_tokens_at_the_start():
    np.testing.assert_array_equal(order_init(jax.random.key(0), (3, 3)), np.eye(3))
    orders = np.asarray(order_init(jax.random.key(0), (3, 200)))
    np.testing.assert_allclose(orders.sum(0), 1, rtol=1e-5)
    assert np.mean(orders.max(0) > 0.99) > 0.9


@pytest.mark.parametrize('rate', checks.daily(['dropout', 'implicit_dropout'], 'dropout'))
def test_dropout(rate):
    checks.check_dropout(EulerNet(**SMALL, **{rate: 0.5}), rate)


@pytest.mark.parametrize(
    ('field', 'value'), [('shape', (0,)), ('shape', 3), ('dropout', 1.0), ('implicit_dropout', -0.1)]
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        EulerNet(**{field: value})
