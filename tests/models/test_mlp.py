"""The MLP and the linear model, and what every model keeps to."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax import models
from dlf_jax.errors import UsageError
from tests.models import checks


def test_mlp():
    model = models.build('mlp', embedding_size=4, hidden=(8, 6), dropout=0.3)
    assert model.tables == {'embedding': 4}
    rows = {'embedding': jax.random.normal(jax.random.key(0), (7, 5, 4))}
    logits, variables = jax.jit(model.init_with_output)(jax.random.key(1), rows)
    chex.assert_shape(logits, (7,))
    chex.assert_type(logits, jnp.float32)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables['params']))
    assert count == (20 * 8 + 8 + 16) + (8 * 6 + 6 + 12) + (6 + 1)

    @jax.jit
    def train(variables):
        rngs = {'dropout': jax.random.key(2)}
        mask = jnp.ones(7, bool)
        return model.apply(variables, rows, train=True, mask=mask, rngs=rngs, mutable=['batch_stats'])

    trained, changed = train(variables)
    assert not np.allclose(trained, logits)
    chex.assert_trees_all_equal_shapes(changed['batch_stats'], variables['batch_stats'])


def test_mlp_without_batch_norm_has_no_statistics():
    model = models.build('mlp', embedding_size=4, hidden=(8,), batch_norm=False)
    variables = jax.eval_shape(model.init, jax.random.key(0), {'embedding': jnp.ones((2, 3, 4))})
    assert set(variables) == {'params'}


def test_lr():
    model = models.build('lr')
    assert model.tables == {'linear': 1}
    rows = {'linear': jax.random.normal(jax.random.key(0), (7, 5, 1))}
    variables = model.init(jax.random.key(1), rows)
    variables['params']['bias'] = jnp.array([2.0])
    logits = model.apply(variables, rows, train=True, mask=jnp.ones(7, bool))
    np.testing.assert_allclose(logits, rows['linear'].sum((1, 2)) + 2, rtol=1e-6)


@pytest.mark.parametrize('name', models.MODELS)
def test_every_model_keeps_the_contract(name):
    model = models.build(name)
    assert next(iter(model.variants.items())) == ('full', {})
    fields = models.field_names(name)
    assert not {'parent', 'name'} & set(fields)
    for field in fields:
        assert f'{field}:' in type(model).__doc__, f'{name}.{field} has no documentation'
        values = getattr(model, field)
        for value in values if isinstance(values, tuple) else (values,):
            assert isinstance(value, int | float | bool | str)
    for variant in model.variants.values():
        assert set(variant) <= set(fields)
        models.build(name, **variant)
    rows, options = checks.call_of(model, 5, numbers=2)
    variables = jax.eval_shape(functools.partial(model.init, **options), jax.random.key(0), rows)
    logits = jax.eval_shape(functools.partial(model.apply, **options), variables, rows)
    chex.assert_shape(logits, (2,))
    chex.assert_type([logits, *jax.tree.leaves(variables)], jnp.float32)


def test_unknown_model():
    with pytest.raises(UsageError, match=r"config.model.name='dlff': .*did you mean 'dlf'"):
        models.build('dlff')


def test_unknown_field():
    with pytest.raises(ValueError, match=r"model.token: .*did you mean 'tokens'"):
        models.build('dlf', token=3)


@pytest.mark.parametrize(
    ('field', 'value'),
    [('embedding_size', 0), ('hidden', (8, 0)), ('hidden', [8]), ('hidden', 8), ('dropout', 1.0)],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        models.build('mlp', **{field: value})
