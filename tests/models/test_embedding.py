"""Embedding tables: their draws, the lookup's order of fields, gradients of the gathered rows."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dlf_jax.data.schema import Field, Schema, number_field
from dlf_jax.models import embedding

WIDTHS = {'embedding': 4, 'linear': 1}


def small_schema(vocabulary=20, numeric=2):
    sizes = (vocabulary - 8, 5, 3) if vocabulary else ()
    categorical = [Field(f'c{i}', 'categorical', size=size) for i, size in enumerate(sizes)]
    numbers = [number_field(f'n{i}', 'none') for i in range(numeric)]
    return Schema((*categorical, *numbers), 'label')


def small_tables(vocabulary=20, numeric=2):
    return embedding.init(jax.random.key(0), WIDTHS, small_schema(vocabulary, numeric), 0.1)


def small_batch():
    ids = jax.random.randint(jax.random.key(1), (6, 3), 0, 20, jnp.int32)
    return {'categorical': ids, 'numeric': jax.random.normal(jax.random.key(2), (6, 2))}


def test_init_shapes():
    tables = small_tables()
    assert jax.tree.map(jnp.shape, tables) == {
        'embedding': {'categorical': (20, 4), 'numeric': (2, 4)},
        'linear': {'categorical': (20, 1), 'numeric': (2, 1)},
    }
    chex.assert_type(jax.tree.leaves(tables), jnp.float32)


def test_init_leaves_out_what_is_not_there():
    assert set(small_tables(numeric=0)['linear']) == {'categorical'}
    assert set(small_tables(vocabulary=0)['linear']) == {'numeric'}


def test_init_is_normal():
    table = embedding.init(jax.random.key(0), {'embedding': 16}, small_schema(5000, 0), 1e-4)
    values = np.asarray(table['embedding']['categorical'])
    assert abs(values.std() / 1e-4 - 1) < 0.02
    assert abs(values.mean()) < 1e-6


def test_init_of_a_table_depends_on_its_name_alone():
    alone = embedding.init(jax.random.key(0), {'embedding': 4}, small_schema(), 0.1)
    chex.assert_trees_all_equal(alone['embedding'], small_tables()['embedding'])
    other = embedding.init(jax.random.key(0), {'second': 4}, small_schema(), 0.1)
    assert not np.allclose(alone['embedding']['categorical'], other['second']['categorical'])
    one_field = Schema((Field('c', 'categorical', size=2), *small_schema(0, 2).fields), 'label')
    parts = embedding.init(jax.random.key(0), {'embedding': 4}, one_field, 0.1)['embedding']
    assert not np.allclose(parts['categorical'], parts['numeric'])


def test_lookup():
    tables, batch = small_tables(), small_batch()
    rows = jax.jit(embedding.lookup, static_argnums=2)(tables, batch, small_schema())
    chex.assert_shape([rows['embedding'], rows['linear']], [(6, 5, 4), (6, 5, 1)])
    table = tables['embedding']
    np.testing.assert_array_equal(rows['embedding'][4, 1], table['categorical'][batch['categorical'][4, 1]])
    np.testing.assert_allclose(rows['embedding'][4, 3], table['numeric'][0] * batch['numeric'][4, 0])


def test_lookup_of_one_kind_of_fields():
    batch = small_batch()
    rows = embedding.lookup(
        small_tables(numeric=0), {'categorical': batch['categorical']}, small_schema(numeric=0)
    )
    chex.assert_shape(rows['embedding'], (6, 3, 4))
    rows = embedding.lookup(small_tables(vocabulary=0), {'numeric': batch['numeric']}, small_schema(0))
    chex.assert_shape(rows['embedding'], (6, 2, 4))


def test_id_past_the_end_gives_nan():
    schema = Schema((Field('c', 'categorical', size=20),), 'label')
    tables = embedding.init(jax.random.key(0), WIDTHS, schema, 0.1)
    batch = {'categorical': jnp.array([[3], [20]], jnp.int32)}
    rows = embedding.lookup(tables, batch, schema)['embedding']
    assert np.isfinite(rows[0]).all()
    assert np.isnan(rows[1]).all()


def test_gradient_of_gathered_rows_is_the_tables():
    tables, batch = small_tables(), small_batch()

    def loss(rows):
        return sum(jnp.sum(jnp.sin(3 * leaf)) for leaf in rows.values())

    expected = jax.grad(lambda t: loss(embedding.lookup(t, batch, small_schema())))(tables)
    rows, others = embedding.split(tables)
    gathered = embedding.join(embedding.gather(rows, embedding.ids_of(batch, small_schema())), others)
    found = jax.grad(lambda g: loss(embedding.assemble(g, batch, small_schema())))(gathered)
    for table, width in WIDTHS.items():
        chex.assert_shape(found[table]['categorical'], (6, 3, width))
        scattered = jnp.zeros((20, width)).at[batch['categorical']].add(found[table]['categorical'])
        np.testing.assert_allclose(scattered, expected[table]['categorical'], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[table]['numeric'], expected[table]['numeric'], rtol=1e-5)
