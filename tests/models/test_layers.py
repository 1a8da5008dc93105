"""Blocks: BatchNorm over padded batches, dropout's statistics, the MLP's parameters."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.models.layers import MLP, BatchNorm, Dropout, dropout_mask, masked_moments
from dlf_jax.models.mode import Mode
from tests.models import checks


def batch_norm(x, mode):
    """Output and new running statistics of a BatchNorm as it starts."""
    norm = BatchNorm()

    @jax.jit
    def run(x):
        variables = norm.init(jax.random.key(0), x, mode)
        return norm.apply(variables, x, mode, mutable=['batch_stats'])

    output, changed = run(x)
    return output, changed['batch_stats']


@pytest.mark.parametrize('shape', [(12, 5), (12, 3, 5)])
def test_batch_norm_ignores_padding(shape):
    x = 3 + 2 * jax.random.normal(jax.random.key(1), shape)
    mask = jnp.array([True, False, True, True] * 3)
    # Garbage, inf included, as padding may hold anything.
    padded = jnp.where(mask.reshape(-1, *[1] * (len(shape) - 1)), x, jnp.inf)
    output, statistics = batch_norm(padded, Mode(True, mask))
    expected, expected_statistics = batch_norm(x[mask], Mode(True))
    chex.assert_trees_all_close(output[mask], expected, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(statistics, expected_statistics, rtol=1e-5)


def test_batch_norm_against_flax():
    x = 3 + 2 * jax.random.normal(jax.random.key(1), (32, 5))
    flax_norm = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
    variables = flax_norm.init(jax.random.key(0), x)
    expected, changed = flax_norm.apply(variables, x, mutable=['batch_stats'])
    output, statistics = batch_norm(x, Mode(True))
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(statistics, changed['batch_stats'], rtol=1e-5)


def test_batch_norm_evaluates_with_running_statistics():
    x = jax.random.normal(jax.random.key(1), (4, 2))
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x, Mode(True))
    initial = {'mean': jnp.zeros(2), 'var': jnp.ones(2)}
    chex.assert_trees_all_equal(variables['batch_stats'], initial)
    variables['batch_stats'] = {'mean': jnp.array([1.0, 2]), 'var': jnp.array([4.0, 9])}
    expected = (x - jnp.array([1.0, 2])) / jnp.sqrt(jnp.array([4.0, 9]) + 1e-5)
    np.testing.assert_allclose(norm.apply(variables, x, Mode()), expected, rtol=1e-5)


def test_moments_far_from_zero():
    x = 1e4 + jax.random.normal(jax.random.key(0), (1024, 3))
    _, variance = masked_moments(x, Mode(True))
    np.testing.assert_allclose(variance, np.var(np.asarray(x, np.float64), 0), rtol=1e-3)


def test_moments_without_a_row():
    mean, variance = masked_moments(jnp.full((4, 3), 7.0), Mode(True, jnp.zeros(4, bool)))
    chex.assert_trees_all_equal((mean, variance), (jnp.zeros(3), jnp.zeros(3)))


def test_moments_over_a_mapped_axis_with_uneven_padding():
    x = jax.random.normal(jax.random.key(0), (12, 5))
    mask = jnp.array([True] * 7 + [False] * 5)

    def moments(x, mask):
        return masked_moments(x, Mode(True, mask, checks.Mapped()))

    split = jax.vmap(moments, axis_name='devices')(x.reshape(3, 4, 5), mask.reshape(3, 4))
    expected = masked_moments(x[mask], Mode(True))
    for device in range(3):
        chex.assert_trees_all_close([leaf[device] for leaf in split], list(expected), rtol=1e-5)


@pytest.mark.parametrize('keep', [0.1, 0.5, 0.8, 0.99])
def test_dropout_mask_rate(keep):
    shape = (1000, 400)
    mask = dropout_mask(jax.random.key(3), shape, keep)
    chex.assert_shape(mask, shape)
    deviation = np.sqrt(keep * (1 - keep))
    assert abs(mask.mean() - keep) < 5 * deviation / np.sqrt(mask.size)
    # No row and no column stands out.
    assert np.abs(mask.mean(0) - keep).max() < 5.5 * deviation / np.sqrt(shape[0])
    assert np.abs(mask.mean(1) - keep).max() < 5.5 * deviation / np.sqrt(shape[1])


def correlation(x, y):
    return abs(np.corrcoef(np.ravel(x), np.ravel(y))[0, 1])


def test_dropout_mask_is_independent():
    size = 400_000
    keys = jax.random.split(jax.random.key(0), 3)
    first, second, third = (np.asarray(dropout_mask(key, (1000, 400), 0.5)) for key in keys)
    limit = 5 / np.sqrt(size)
    assert correlation(first, second) < limit
    assert correlation(first ^ second, third) < limit
    for shift in (1, 2, 3, 4, 8, 16, 64):
        assert correlation(first[:, shift:], first[:, :-shift]) < limit
        assert correlation(first[shift:], first[:-shift]) < limit
    # Keys that differ by a counter, as those of successive steps do.
    steps = [jax.random.fold_in(jax.random.key(0), step) for step in range(20)]
    masks = np.stack([dropout_mask(key, (100, 40), 0.5).ravel() for key in steps])
    correlations = np.corrcoef(masks)[~np.eye(20, dtype=bool)]
    assert np.abs(correlations).max() < 5.5 / np.sqrt(4000)


def test_dropout_mask_is_a_function_of_the_key():
    masks = jax.jit(jax.vmap(lambda key: dropout_mask(key, (5, 7, 3), 0.5)))
    keys = jax.random.split(jax.random.key(0), 4)
    expected = [dropout_mask(key, (5, 7, 3), 0.5) for key in keys]
    chex.assert_trees_all_equal(masks(keys), jnp.stack(expected))


def test_dropout():
    x = 1 + jax.random.uniform(jax.random.key(0), (500, 100))
    rngs = {'dropout': jax.random.key(1)}
    output = Dropout(0.2).apply({}, x, Mode(True), rngs=rngs)
    kept = output != 0
    np.testing.assert_allclose(output[kept], x[kept] / 0.8, rtol=1e-6)
    assert abs(output.mean() / x.mean() - 1) < 0.02
    chex.assert_trees_all_equal(output, Dropout(0.2).apply({}, x, Mode(True), rngs=rngs))
    chex.assert_trees_all_equal(Dropout(0.2).apply({}, x, Mode()), x)
    chex.assert_trees_all_equal(Dropout(0.0).apply({}, x, Mode(True)), x)


def test_dropout_over_a_mapped_axis_is_that_of_the_whole_batch():
    x = jnp.ones((12, 5))

    def drop(x, mode):
        return Dropout(0.5).apply({}, x, mode, rngs={'dropout': jax.random.key(1)})

    split = jax.vmap(lambda x: drop(x, Mode(True, collectives=checks.Mapped())), axis_name='devices')
    chex.assert_trees_all_equal(split(x.reshape(3, 4, 5)).reshape(12, 5), drop(x, Mode(True)))


def test_dropouts_of_one_model_differ():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Dropout(0.5)(x, Mode(True)), Dropout(0.5)(x, Mode(True))

    first, second = Two().apply({}, jnp.ones((50, 50)), rngs={'dropout': jax.random.key(0)})
    assert correlation(first, second) < 5 / 50


def test_mlp_parameters_and_order():
    x = jax.random.normal(jax.random.key(0), (6, 4))
    mlp = MLP((8, 3), 2, batch_norm=True, dropout=0.5)
    variables = jax.jit(lambda key: mlp.init(key, x, Mode()))(jax.random.key(1))
    shapes = jax.tree.map(jnp.shape, variables['params'])
    assert shapes == {
        'hidden_0': {'kernel': (4, 8), 'bias': (8,)},
        'norm_0': {'scale': (8,), 'bias': (8,)},
        'hidden_1': {'kernel': (8, 3), 'bias': (3,)},
        'norm_1': {'scale': (3,), 'bias': (3,)},
        'out': {'kernel': (3, 2), 'bias': (2,)},
    }
    chex.assert_shape(mlp.apply(variables, x, Mode()), (6, 2))
    # The norm comes before the ReLU: with its bias at -inf nothing is left of a hidden layer.
    variables['params']['norm_1']['bias'] = jnp.full(3, -1e9)
    variables['params']['out']['bias'] = jnp.array([1.0, 2])
    np.testing.assert_array_equal(mlp.apply(variables, x, Mode()), jnp.tile(jnp.array([1.0, 2]), (6, 1)))


def test_mlp_without_layers_is_the_identity():
    x = jnp.ones((2, 3))
    output, variables = MLP(()).init_with_output(jax.random.key(0), x, Mode())
    assert output is x
    assert not variables
