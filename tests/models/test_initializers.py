"""Initial values that are drawn together: the distribution, and what they depend on."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.data.schema import Field, Schema
from dlf_jax.models import MODELS, initializers
from dlf_jax.models.layers import kernel_init, stacked_kernel_init
from dlf_jax.training import train_state


class Kernels(nn.Module):
    """Matrices by name, beside what Flax itself draws."""

    shapes: dict[str, tuple[int, ...]]
    uniform: tuple[int, ...] = ()

    @nn.compact
    def __call__(self):
        if self.uniform:
            self.param('uniform', initializers.Uniform(), self.uniform)
        for name, shape in self.shapes.items():
            self.param(name, stacked_kernel_init if len(shape) > 2 else kernel_init, shape)
        self.param('own', nn.initializers.normal(3.0), (50, 40))
        self.param('bias', nn.initializers.zeros, (7,))


def drawn(shapes, seed=0):
    module = Kernels(shapes)
    create = jax.jit(lambda seed: initializers.drawn_together(module.init, jax.random.key(seed)))
    return jax.tree.map(np.asarray, create(seed)['params'])


SHAPES = {'small': (3, 5), 'large': (300, 200), 'stacked': (9, 80, 20), 'tall': (5000, 1)}


@pytest.mark.parametrize('name', ['large', 'stacked', 'tall'])
def test_glorot_normal(name):
    found, shape = drawn(SHAPES)[name], SHAPES[name]
    deviation = np.sqrt(2 / (shape[-2] + shape[-1]))
    assert found.shape == shape
    assert found.dtype == np.float32
    assert found.std() == pytest.approx(deviation, rel=0.03)
    assert abs(found.mean()) < 4 * deviation / found.size**0.5
    # Cut off at two deviations of the normal before the cut.
    assert 1.95 < np.abs(found).max() / deviation * 0.8796 <= 2.0001
    by_flax = np.asarray((stacked_kernel_init if len(shape) > 2 else kernel_init)(jax.random.key(1), shape))
    for share in (0.1, 0.3, 0.7, 0.9):
        assert np.quantile(found, share) == pytest.approx(np.quantile(by_flax, share), abs=0.08 * deviation)


def test_uniform():
    module = Kernels(SHAPES, (3, 4000))
    create = jax.jit(lambda: initializers.drawn_together(module.init, jax.random.key(0)))
    found = np.asarray(create()['params']['uniform'])
    assert found.shape == (3, 4000)
    assert found.min() >= 0
    assert found.max() <= 1
    for share in (0.02, 0.2, 0.5, 0.8, 0.98):
        assert np.quantile(found, share) == pytest.approx(share, abs=0.02)
    alone = initializers.Uniform()(jax.random.key(0), (4000,))
    assert np.quantile(alone, 0.3) == pytest.approx(0.3, abs=0.03)


def test_each_array_is_its_own():
    whole, alone = drawn(SHAPES), drawn({'large': SHAPES['large'], 'twin': SHAPES['large']})
    np.testing.assert_array_equal(whole['large'], alone['large'])
    assert abs(np.corrcoef(alone['large'].ravel(), alone['twin'].ravel())[0, 1]) < 0.02
    assert (drawn(SHAPES, seed=1)['large'] != whole['large']).mean() > 0.99
    parts = whole['large'].ravel()
    assert len(np.unique(parts)) > 0.98 * parts.size


def generators(create):
    """Number of generators of random numbers in a program."""
    # A function of its own: JAX traces the same one once.
    return str(jax.make_jaxpr(lambda seed: create(seed))(0)).count('random_bits[')


def test_one_generator_for_all_arrays(monkeypatch):
    module = Kernels(SHAPES)

    def create(seed):
        return initializers.drawn_together(module.init, jax.random.key(seed))

    # Beside it one for what Flax draws.
    assert generators(create) == 2
    assert generators(lambda seed: module.init(jax.random.key(seed))) == 1 + len(SHAPES)
    monkeypatch.setattr(initializers, '_LARGE', 50_000)
    assert generators(create) == 3
    found = np.asarray(jax.jit(create)(0)['params']['large'])
    assert found.std() == pytest.approx(np.sqrt(2 / 500), rel=0.03)


def test_a_model_has_as_many_generators_with_more_layers():
    schema = Schema(tuple(Field(f'f{i}', 'categorical', size=9) for i in range(3)), 'label')
    found = {}
    for layers in (1, 3):
        model = MODELS['dlf'](embedding_size=4, layers=layers, tokens=3, rank=2)
        found[layers] = generators(lambda seed, m=model: train_state.create(seed, m, schema, 1e-4))
    assert found[1] == found[3]


def test_others_are_as_flax_draws_them():
    found, by_flax = drawn(SHAPES), Kernels(SHAPES).init(jax.random.key(0))['params']
    np.testing.assert_allclose(found['own'], by_flax['own'], rtol=1e-6)
    assert not found['bias'].any()


def test_seeds_in_a_stack():
    module = Kernels(SHAPES)

    def create(seed):
        return initializers.drawn_together(module.init, jax.random.key(seed))['params']

    stack = jax.jit(jax.vmap(create))(jnp.arange(2))
    for seed in (0, 1):
        np.testing.assert_array_equal(stack['large'][seed], drawn(SHAPES, seed)['large'])


def test_modules_that_flax_transforms():
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return x @ self.param('kernel', kernel_init, (20, 20)), None

    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x):
            scanned = nn.scan(Layer, variable_axes={'params': 0}, split_rngs={'params': True}, length=3)
            return scanned()(x, None)[0] @ self.param('kernel', kernel_init, (20, 20))

    create = jax.jit(
        lambda seed: initializers.drawn_together(
            lambda key: Layers().init(key, jnp.ones((2, 20))), jax.random.key(seed)
        )
    )
    found = jax.tree.leaves(create(0))
    assert {leaf.shape for leaf in found} == {(3, 20, 20), (20, 20)}
    for leaf in found:
        assert np.std(leaf) == pytest.approx(0.22, rel=0.15)
