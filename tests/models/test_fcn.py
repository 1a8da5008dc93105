"""FCN: both kinds of cross layers, its structures and Tri-BCE."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.models import fcn
from dlf_jax.models.fcn import FCN
from dlf_jax.testing import check_model
from tests.models import checks
from tests.references import fcn as reference

SMALL = {'embedding_size': 4, 'ecn_layers': 2, 'lcn_layers': 1}
CASES = {
    'sp': {},
    'sp, two heads': {'heads': 2, 'embedding_size': 2, 'batch_norm': True, 'ecn_layers': 1},
    'p, LayerNorm': {'structure': 'p', 'second': 'layer_norm', 'heads': 3, 'batch_norm': True},
    'DCNv3': {'structure': 'p', 'second': 'mask', 'heads': 2, 'batch_norm': True},
    'DCNv3 without LayerNorm': {'structure': 'p', 'second': 'plain_mask'},
    'ecn': {'structure': 'ecn'},
    'lcn': {'structure': 'lcn', 'lcn_layers': 3},
}


@pytest.mark.parametrize('case', checks.daily(CASES, 'sp, two heads', 'DCNv3'))
def test_reference(case):
    check_model(FCN(**{**SMALL, **CASES[case]}), reference.logits, labels=True)


DCNV3 = {'structure': 'p', 'second': 'mask', 'ecn_layers': 3, 'lcn_layers': 4}
SP = {'structure': 'sp', 'ecn_layers': 5, 'lcn_layers': 5}


@pytest.mark.parametrize(
    ('fields', 'settings', 'published'),
    [
        # The authors' runs on Criteo, Avazu and MovieLens-1M, without tables.
        (39, SP, 3_919_970),
        (39, DCNV3, 1_372_802),
        (24, {**SP, 'heads': 4, 'batch_norm': True}, 1_490_850),
        (24, {**SP, 'structure': 'p', 'heads': 4, 'batch_norm': True}, 745_810),
        (7, {**SP, 'batch_norm': True}, 130_186),
        (7, {**DCNV3, 'batch_norm': True}, 45_712),
    ],
)
def test_parameter_count(fields, settings, published):
    assert checks.count(FCN(embedding_size=16, **settings), fields) == published


def test_contract():
    checks.check_variants(FCN)
    assert FCN().tables == {'embedding': 10}
    assert FCN(heads=3).tables == {'embedding': 30}


def test_two_views():
    numbers = jnp.arange(8.0).reshape(1, 2, 4)
    np.testing.assert_array_equal(fcn.views(numbers, 1), [[[0, 1, 4, 5, 2, 3, 6, 7]]])
    np.testing.assert_array_equal(fcn.views(numbers, 2), [[[0, 4, 1, 5], [2, 6, 3, 7]]])


def test_tri_bce():
    losses = jnp.float32(0.5), jnp.float32(0.6), jnp.float32(0.4)
    extra, slopes = jax.value_and_grad(fcn.tri_bce, (0, 1, 2))(*losses)
    assert float(losses[0] + extra) == pytest.approx(0.56)
    np.testing.assert_allclose([1 + slopes[0], *slopes[1:]], [0.4, 0.7, 0], rtol=1e-5)


@pytest.mark.parametrize(
    ('structure', 'options', 'sown'),
    [('p', {'train': True}, True), ('p', {}, False), ('ecn', {'train': True}, False)],
)
def test_tri_bce_is_of_two_branches_in_training(structure, options, sown):
    model = FCN(**SMALL, structure=structure)
    variables, rows = checks.random_inputs(model)
    options = {**options, 'labels': jnp.ones(len(checks.MASK)), 'mutable': ['losses']}
    _, changed = jax.eval_shape(functools.partial(model.apply, **options), variables, rows)
    assert [loss.shape for loss in jax.tree.leaves(changed.get('losses', {}))] == [()] * sown


def test_tri_bce_over_a_mapped_axis():
    """Means of the weighted rows of all devices come before the ReLU."""
    model = FCN(**SMALL, structure='p')
    variables, _ = jax.tree.map(jnp.float32, checks.random_inputs(model))
    embedding = 0.3 * jax.random.normal(jax.random.key(0), (8, 4, 4))
    labels, weight = jnp.float32([1, 0, 0, 1, 1, 0, 1, 0]), jnp.float32([1, 2, 0.5, 1, 1, 0, 0, 0])

    def loss(embedding, labels, weight, **options):
        options = {'train': True, 'labels': labels, 'weight': weight, 'mask': weight > 0, **options}
        logits, changed = model.apply(variables, {'embedding': embedding}, mutable=['losses'], **options)
        return changed['losses']['tri_bce'][0], logits

    split = jax.vmap(functools.partial(loss, collectives=checks.Mapped()), axis_name='devices')
    losses, _ = jax.jit(split)(embedding.reshape(2, 4, 4, 4), labels.reshape(2, 4), weight.reshape(2, 4))
    whole, _ = jax.jit(loss)(embedding, labels, weight)
    assert whole > 0
    np.testing.assert_allclose(losses, np.full(2, whole), rtol=1e-5)
    # A row of weight 2 is two rows of weight 1.
    twice = np.array([0, 1, 1, 3, 4])
    one = [array[twice] for array in (embedding, labels)]
    halved, _ = jax.jit(loss)(embedding, labels, weight.at[2].set(0))
    np.testing.assert_allclose(jax.jit(loss)(*one, jnp.ones(5))[0], halved, rtol=1e-4)


@pytest.mark.parametrize('rate', checks.daily(['dropout', 'lcn_dropout'], 'lcn_dropout'))
def test_dropout(rate):
    checks.check_dropout(FCN(**SMALL, **{'dropout': 0.0, rate: 0.5}), rate)


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('embedding_size', 5),
        ('structure', 'ps'),
        ('second', 'relu'),
        ('ecn_layers', 0),
        ('heads', 0),
        ('dropout', 1.0),
        ('lcn_dropout', -0.5),
    ],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        FCN(**{field: value})
