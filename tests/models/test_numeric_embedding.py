"""Embeddings of numeric fields against the NumPy reference, forward and gradient."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.data.schema import Schema, number_field, text_field
from dlf_jax.models import embedding, numeric_embedding
from dlf_jax.testing import gradient as differences
from dlf_jax.training import optimizers
from tests.conftest import config_of
from tests.references import embedding as reference

WIDTH, ROWS = 3, 6
FIELDS = {
    'linear': number_field('linear', 'standard'),
    'pieces': number_field('pieces', 'piecewise', {'buckets': 4}),
    'filled': number_field('filled', 'none', {'fill': 'own'}),
    'waves': number_field('waves', 'periodic', {'frequencies': 2}),
    'ranks': number_field('ranks', 'quantile', {'fill': 'mean'}),
    'fewer': number_field('fewer', 'piecewise', {'buckets': 2, 'fill': 'mean'}),
}
SCHEMA = Schema(tuple(FIELDS.values()), 'label')


def draws(schema, std=1.0):
    _, dense = embedding.init(jax.random.key(0), {'t': WIDTH}, schema, std)
    return {part: {'t': np.asarray(tables['t'], np.float64)} for part, tables in dense.items()}


def numbers():
    found = np.random.default_rng(0).normal(size=(ROWS, len(FIELDS)))
    found[:, [1, 5]] = np.abs(found[:, [1, 5]]) * 2
    found[0, 1] = found[1, 2] = found[2, 3] = np.nan
    found[3, 1], found[4, 1] = 0.0, 4.0
    return found


def expected(dense, values):
    """Embeddings [B, Fn, w], field by field."""
    taken = {part: iter(tables['t']) for part, tables in dense.items()}
    columns = []
    for field, column in zip(FIELDS.values(), values.T, strict=True):
        vectors = next(taken[numeric_embedding.part_of(field)])
        missing = next(taken['numeric_missing']) if field.fill == 'own' else None
        frequencies = next(taken['frequencies']) if field.treatment == 'periodic' else None

        def embedded(x, field=field, vectors=vectors, missing=missing, frequencies=frequencies):
            if np.isnan(x):
                return missing
            if field.treatment == 'piecewise':
                return reference.piecewise(vectors, x)
            return reference.periodic(vectors, frequencies, x) if frequencies is not None else vectors * x

        columns.append(np.stack([embedded(x) for x in column]))
    return np.stack(columns, 1)


def test_forward():
    dense, values = draws(SCHEMA), numbers()
    found = jax.jit(lambda d, x: numeric_embedding.assemble('t', d, x, SCHEMA))(dense, jnp.float32(values))
    chex.assert_shape(found, (ROWS, len(FIELDS), WIDTH))
    np.testing.assert_allclose(found, expected(dense, values), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', FIELDS)
def test_a_field_alone(name):
    # Without others there is nothing to put into order.
    schema = Schema((FIELDS[name],), 'label')
    dense, at = draws(schema), list(FIELDS).index(name)
    values = numbers()[:, at : at + 1]
    found = numeric_embedding.assemble('t', dense, jnp.float32(values), schema)
    together = expected(
        {**draws(SCHEMA), **{part: {'t': np.repeat(a['t'], 6, 0)} for part, a in dense.items()}}, numbers()
    )
    np.testing.assert_allclose(found[:, 0], together[:, at], rtol=1e-5, atol=1e-6)


def test_gradient():
    dense, values = draws(SCHEMA), numbers()
    weights = np.random.default_rng(1).normal(size=(ROWS, len(FIELDS), WIDTH))

    def loss(dense):
        return jnp.sum(numeric_embedding.assemble('t', dense, jnp.float32(values), SCHEMA) * weights)

    gradients = jax.grad(loss)(jax.tree.map(jnp.float32, dense))
    chex.assert_tree_all_finite(gradients)
    draw = np.random.default_rng(2)
    for path, array in differences.leaves(dense):
        found = np.asarray(gradients[path[0]][path[1]], np.float64)
        differences.check(
            lambda tree: np.sum(expected(tree, values) * weights), dense, path, array, found, draw, 1e-4
        )


def test_the_penalty_takes_all_embeddings_and_no_frequencies():
    optimizer = optimizers.make(config_of('--config.embedding.penalty=0.5'), 1)
    dense = {'embedding': draws(SCHEMA), 'model': {}}
    none = jax.tree.map(np.zeros_like, dense)
    found = optimizer._penalised(none, dense)['embedding']
    assert set(found) == {'numeric', 'piecewise', 'periodic', 'numeric_missing', 'frequencies'}
    for part, tables in found.items():
        factor = 0.0 if part == 'frequencies' else 0.5
        np.testing.assert_allclose(tables['t'], factor * dense['embedding'][part]['t'])


def test_raw_numbers_of_a_model_are_never_nan():
    schema = Schema((text_field('user', size=3), *FIELDS.values()), 'label')
    tables, dense = embedding.init(jax.random.key(0), {'t': WIDTH}, schema, 1.0)
    batch = {
        'categorical': jnp.zeros((ROWS, 1), jnp.int32),
        'numeric': jnp.float32(numbers()),
        'label': jnp.zeros(ROWS),
    }
    rows = embedding.gather_rows(tables, embedding.ids_of(batch, schema))
    inputs = embedding.make_inputs(rows, dense, batch, schema)
    assert inputs.numeric[0, 1] == inputs.numeric[1, 2] == 0
    chex.assert_tree_all_finite(inputs.numeric)
    embedded = embedding.assemble(rows, dense, batch, schema)['t']
    chex.assert_shape(embedded, (ROWS, 1 + len(FIELDS), WIDTH))
    chex.assert_tree_all_finite(embedded)
