"""QNN-alpha: quadratic layers, and the ensemble of two passes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.models.mode import Mode
from dlf_jax.models.qnn import QNN, QuadraticLayer, QuadraticNetwork, of_mean_probability
from dlf_jax.testing import check_model
from tests.models import checks
from tests.references import blocks
from tests.references import qnn as reference

SMALL = {'embedding_size': 4, 'layers': 2, 'product_rows': 3}
CASES = {
    'one head': {'batch_norm': True},
    'two heads': {'heads': 2},
    'four heads, one row': {'heads': 4, 'product_rows': 1, 'layers': 1, 'batch_norm': True},
}


@pytest.mark.parametrize('case', checks.daily(CASES, 'one head', 'two heads'))
def test_reference(case):
    model = QNN(**{**SMALL, **CASES[case]})

    def hold(params, stats, rows):
        # The target of the ensemble, which has no gradient.
        return {'target': reference.logits(params, stats, rows, True, **checks.fields_of(model))[0]}

    check_model(model, reference.logits, hold=hold)


@pytest.mark.parametrize(
    ('fields', 'settings', 'published'),
    [
        # Frappe's and Criteo's runs of the authors, without tables.
        (10, {'embedding_size': 16, 'layers': 2, 'product_rows': 13, 'batch_norm': True}, 678_241),
        (39, {'embedding_size': 16, 'layers': 4, 'product_rows': 5}, 7_800_625),
    ],
)
def test_parameter_count(fields, settings, published):
    assert checks.count(QNN(**settings), fields) == published


def test_contract():
    checks.check_variants(QNN)
    assert QNN().tables == {'embedding': 16}


def test_heads_permute_channels():
    """F 2, d 2, H 2 and neurons of 1: what position 1 gains is channel c, of the other field."""
    layer = QuadraticLayer(2, 2, 1, False, 0.0)
    x = jnp.array([[2.0, 3.0, 5.0, 7.0]])
    params = {'hidden': {'kernel': jnp.zeros((4, 4)), 'bias': jnp.ones(4)}}
    found = layer.apply({'params': params}, x, Mode())
    np.testing.assert_array_equal(found, [[2 + 2, 3 + 5, 5 + 3, 7 + 7]])


def test_both_passes_move_the_running_statistics():
    model = QNN(**SMALL, batch_norm=True, dropout=0.5)
    variables, rows = jax.tree.map(np.float32, checks.random_inputs(model))
    options = {'train': True, 'mask': checks.MASK, 'rngs': {'dropout': jax.random.key(0)}}
    mutable = ['batch_stats', 'losses']
    _, changed = jax.jit(lambda: model.apply(variables, rows, mutable=mutable, **options))()
    flat = np.asarray(rows['embedding']).reshape(len(checks.MASK), -1)[checks.MASK]
    hidden = blocks.dense(variables['params']['network']['layer_0']['hidden'], flat)
    before = variables['batch_stats']['network']['layer_0']['norm']['mean']
    after = changed['batch_stats']['network']['layer_0']['norm']['mean']
    # The first layer's batch is the same in both passes.
    np.testing.assert_allclose(
        after, 0.9 * (0.9 * before + 0.1 * hidden.mean(0)) + 0.1 * hidden.mean(0), rtol=1e-4
    )


def test_the_ensemble_is_sown_in_training_alone_and_has_no_gradient_without_dropout():
    def sown(model, **options):
        variables, rows = jax.tree.map(jnp.float32, checks.random_inputs(model))

        def loss(params):
            options_ = {'rngs': {'dropout': jax.random.key(0)}, 'mask': checks.MASK, **options}
            _, changed = model.apply({'params': params}, rows, mutable=['losses'], **options_)
            return sum(jax.tree.leaves(changed.get('losses', {})), jnp.float32(0))

        loss, gradient = jax.jit(jax.value_and_grad(loss))(variables['params'])
        return loss, max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient))

    assert sown(QNN(**SMALL)) == (0, 0)
    loss, gradient = sown(QNN(**SMALL), train=True)
    assert loss > 0.1
    assert gradient < 1e-5
    assert sown(QNN(**SMALL, dropout=0.5), train=True)[1] > 1e-2


def test_each_pass_is_distilled_from_the_mean_of_both():
    """With dropout, without which the passes, and so all teachers, are the same."""
    model = QNN(**SMALL, dropout=0.5)
    variables, rows = jax.tree.map(jnp.float32, checks.random_inputs(model))
    flat = rows['embedding'].reshape(len(checks.MASK), -1)
    settings = (rows['embedding'].shape[1], model.layers, 1, model.product_rows, False, model.dropout)
    rngs = {'dropout': jax.random.key(0)}

    def sown(params):
        _, found = model.apply(
            {'params': params}, rows, train=True, mask=checks.MASK, rngs=rngs, mutable=['losses']
        )
        return sum(jax.tree.leaves(found['losses']))

    class Passes(nn.Module):
        """The network as the model calls it, whose draws are those of the place and the number of a call."""

        @nn.compact
        def __call__(self, x):
            own = QuadraticNetwork(*settings, name='network')
            return own(x, Mode(train=True)), own(x, Mode(train=True))

    def expected(params):
        passes = Passes().apply({'params': params}, flat, rngs=rngs)
        mean = jax.lax.stop_gradient(sum(jax.nn.sigmoid(z) for z in passes) / 2)
        losses = sum(-mean * jax.nn.log_sigmoid(z) - (1 - mean) * jax.nn.log_sigmoid(-z) for z in passes)
        return jnp.mean(losses[checks.MASK])

    (one, slope), (other, wanted) = (
        jax.jit(jax.value_and_grad(of))(variables['params']) for of in (sown, expected)
    )
    assert float(one) == pytest.approx(float(other), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), slope, wanted)


def test_logits_of_the_mean_probability():
    first, second = np.array([0.3, -2.0, 90.0, -90.0, 60.0]), np.array([1.1, 2.5, 90.0, -95.0, -60.0])
    found = of_mean_probability(jnp.float32(first), jnp.float32(second))
    mean = (blocks.sigmoid(first[:2]) + blocks.sigmoid(second[:2])) / 2
    np.testing.assert_allclose(found[:2], np.log(mean / (1 - mean)), rtol=1e-5)
    # Far out the smaller click, or the smaller miss, decides.
    np.testing.assert_allclose(found[2:], [90, -90 + np.log((1 + np.exp(-5)) / 2), 0], rtol=1e-5, atol=1e-5)


def test_dropout():
    checks.check_dropout(QNN(**SMALL, dropout=0.5), 'dropout')


@pytest.mark.parametrize(
    ('field', 'value'),
    [('heads', 3), ('layers', 0), ('product_rows', 0), ('dropout', 1.0), ('embedding_size', 0)],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        QNN(**{field: value})
