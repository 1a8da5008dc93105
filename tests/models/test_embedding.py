"""Embedding tables: their draws, the lookup's order of fields, gradients of the gathered rows."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.data.schema import Field, Schema, number_field
from dlf_jax.errors import UsageError
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
    tables, dense = small_tables()
    assert jax.tree.map(jnp.shape, tables) == {'categorical': {'embedding': (20, 4), 'linear': (20, 1)}}
    assert jax.tree.map(jnp.shape, dense) == {'numeric': {'embedding': (2, 4), 'linear': (2, 1)}}
    chex.assert_type(jax.tree.leaves((tables, dense)), jnp.float32)


def test_init_of_fields_with_sizes_of_their_own():
    fields = [Field('a', 'categorical', size=6), Field('b', 'categorical', size=9, embedding_size=2)]
    tables, dense = embedding.init(jax.random.key(0), WIDTHS, Schema(tuple(fields), 'label'), 0.1, multiple=4)
    assert jax.tree.map(jnp.shape, tables) == {
        'categorical': {'embedding': (8, 4), 'linear': (8, 1)},
        'categorical_2': {'embedding': (12, 2), 'linear': (12, 1)},
    }
    assert jax.tree.map(jnp.shape, dense) == {'projection_2': {'embedding': (2, 4)}}
    assert not tables['categorical']['embedding'][6:].any()


def test_init_leaves_out_what_is_not_there():
    assert small_tables(numeric=0)[1] == {}
    assert small_tables(vocabulary=0)[0] == {}


def test_init_is_normal():
    tables, _ = embedding.init(jax.random.key(0), {'embedding': 16}, small_schema(5000, 0), 1e-4)
    values = np.asarray(tables['categorical']['embedding'])
    assert abs(values.std() / 1e-4 - 1) < 0.02
    assert abs(values.mean()) < 1e-6


def test_init_of_a_table_depends_on_its_name_alone():
    alone = embedding.init(jax.random.key(0), {'embedding': 4}, small_schema(), 0.1)
    both = small_tables()
    for one, other in zip(alone, both, strict=True):
        for part, by_table in one.items():
            chex.assert_trees_all_equal(by_table['embedding'], other[part]['embedding'])
    other, _ = embedding.init(jax.random.key(0), {'second': 4}, small_schema(), 0.1)
    assert not np.allclose(alone[0]['categorical']['embedding'], other['categorical']['second'])
    one_field = Schema((Field('c', 'categorical', size=2), *small_schema(0, 2).fields), 'label')
    tables, dense = embedding.init(jax.random.key(0), {'embedding': 4}, one_field, 0.1)
    assert not np.allclose(tables['categorical']['embedding'], dense['numeric']['embedding'])


def test_lookup():
    (tables, dense), batch = small_tables(), small_batch()
    found = jax.jit(embedding.lookup, static_argnums=3)(tables, dense, batch, small_schema())
    chex.assert_shape([found['embedding'], found['linear']], [(6, 5, 4), (6, 5, 1)])
    table, vectors = tables['categorical']['embedding'], dense['numeric']['embedding']
    np.testing.assert_array_equal(found['embedding'][4, 1], table[batch['categorical'][4, 1]])
    np.testing.assert_allclose(found['embedding'][4, 3], vectors[0] * batch['numeric'][4, 0])


def test_lookup_of_one_kind_of_fields():
    batch = small_batch()
    found = embedding.lookup(
        *small_tables(numeric=0), {'categorical': batch['categorical']}, small_schema(numeric=0)
    )
    chex.assert_shape(found['embedding'], (6, 3, 4))
    found = embedding.lookup(*small_tables(vocabulary=0), {'numeric': batch['numeric']}, small_schema(0))
    chex.assert_shape(found['embedding'], (6, 2, 4))


def test_id_past_the_end_gives_nan():
    schema = Schema((Field('c', 'categorical', size=20),), 'label')
    parameters = embedding.init(jax.random.key(0), WIDTHS, schema, 0.1)
    batch = {'categorical': jnp.array([[3], [20]], jnp.int32)}
    found = embedding.lookup(*parameters, batch, schema)['embedding']
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_gradient_of_gathered_rows_is_the_tables():
    (tables, dense), batch, schema = small_tables(), small_batch(), small_schema()

    def loss(embeddings):
        return sum(jnp.sum(jnp.sin(3 * leaf)) for leaf in embeddings.values())

    def whole(tables, dense):
        return loss(embedding.lookup(tables, dense, batch, schema))

    def gathered(rows, dense):
        return loss(embedding.assemble(rows, dense, batch, schema))

    expected = jax.grad(whole, (0, 1))(tables, dense)
    rows = embedding.gather_rows(tables, embedding.ids_of(batch, schema))
    found = jax.grad(gathered, (0, 1))(rows, dense)
    for table, width in WIDTHS.items():
        chex.assert_shape(found[0]['categorical'][table], (6, 3, width))
        scattered = jnp.zeros((20, width)).at[batch['categorical']].add(found[0]['categorical'][table])
        np.testing.assert_allclose(scattered, expected[0]['categorical'][table], rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(found[1], expected[1], rtol=1e-5)


def mixed_schema():
    """Fields of all kinds in a mixed order, of three embedding sizes; two histories, one of them shared."""
    bag = {'kind': 'multi-valued', 'separator': ' ', 'pooling': 'mean'}
    return Schema(
        (
            Field('liked', length=3, shares='item', **bag),
            number_field('age', 'none'),
            Field('user', 'categorical', size=5, embedding_size=2),
            Field('words', length=2, size=4, embedding_size=2, **bag),
            Field('item', 'categorical', size=6),
            Field('seen', length=2, shares='item', **bag),
            number_field('price', 'none'),
            Field('site', 'categorical', size=3, embedding_size=8),
        ),
        'label',
    )


def mixed_batch():
    """Two rows of the mixed schema."""
    return {
        # user, item, site
        'categorical': jnp.array([[3, 5, 0], [4, 2, 2]], jnp.int32),
        # age, price
        'numeric': jnp.array([[0.5, -2.0], [30.0, 7.0]]),
        # three of liked, two of words, two of seen
        'bags': jnp.array([[4, 0, 1, 6, -1, 2, 3], [5, -1, -1, -1, -1, 1, -1]], jnp.int32),
        'label': jnp.zeros(2),
    }


def test_inputs():
    """Fields, numbers, masks and unpooled embeddings, from two rows written down by hand."""
    schema, batch = mixed_schema(), mixed_batch()
    tables, dense = embedding.init(jax.random.key(0), WIDTHS, schema, 0.1)
    # Sizes of 2 are projected to a table's width where that is more, those of 8 are cut to it.
    assert jax.tree.map(jnp.shape, tables) == {
        'categorical': {'embedding': (6, 4), 'linear': (6, 1)},
        'categorical_2': {'embedding': (9, 2), 'linear': (9, 1)},
        'categorical_8': {'embedding': (3, 4), 'linear': (3, 1)},
    }
    assert jax.tree.map(jnp.shape, dense['projection_2']) == {'embedding': (2, 4)}
    rows = embedding.gather_rows(tables, embedding.ids_of(batch, schema))
    found = jax.jit(embedding.make_inputs, static_argnums=3)(rows, dense, batch, schema)

    assert found.fields == ('user', 'item', 'site', 'age', 'price', 'liked', 'words', 'seen')
    assert found.numeric_fields == ('age', 'price')
    np.testing.assert_array_equal(found.numeric, [[0.5, -2.0], [30.0, 7.0]])
    projection = {'embedding': dense['projection_2']['embedding'], 'linear': jnp.eye(1)}
    # By field, the ids of its two rows; None where there is no value.
    values = {
        'liked': [[4, 0, 1], [5, None, None]],
        'seen': [[2, 3], [1, None]],
        'words': [[6, None], [None, None]],
    }
    assert list(found.bags) == list(values)
    for field, ids in values.items():
        bag = found.bags[field]
        assert bag.mask.dtype == bool
        np.testing.assert_array_equal(bag.mask, [[i is not None for i in row] for row in ids])
        assert list(bag.embeddings) == ['embedding', 'linear']
        for table, embeddings in bag.embeddings.items():
            chex.assert_shape(embeddings, (*bag.mask.shape, WIDTHS[table]))
            for r, row in enumerate(ids):
                for position, i in enumerate(row):
                    if i is None:
                        continue
                    expected = tables['categorical'][table][i]
                    if field == 'words':
                        expected = tables['categorical_2'][table][i] @ projection[table]
                    np.testing.assert_allclose(embeddings[r, position], expected, rtol=1e-6)


def test_pooled_bags_are_means_of_the_inputs_bags():
    """The pooled embeddings of a batch are where `Inputs.position` says, and of the same values."""
    schema, batch = mixed_schema(), mixed_batch()
    tables, dense = embedding.init(jax.random.key(0), WIDTHS, schema, 0.1)
    rows = embedding.gather_rows(tables, embedding.ids_of(batch, schema))
    inputs = embedding.make_inputs(rows, dense, batch, schema)
    pooled = embedding.assemble(rows, dense, batch, schema)
    for field, bag in inputs.bags.items():
        for table, embeddings in bag.embeddings.items():
            mask = np.asarray(bag.mask)[..., None]
            mean = np.where(mask, embeddings, 0).sum(1) / np.maximum(mask.sum(1), 1)
            at = inputs.position(field, 'history')
            np.testing.assert_allclose(pooled[table][:, at], mean, rtol=1e-5, atol=1e-7)
    at = inputs.position('item', 'target')
    np.testing.assert_array_equal(pooled['embedding'][1, at], tables['categorical']['embedding'][2])
    at = inputs.position('price', 'target')
    np.testing.assert_allclose(pooled['embedding'][1, at], 7.0 * dense['numeric']['embedding'][1])


def test_inputs_without_numbers_or_bags():
    schema = Schema((Field('c', 'categorical', size=20),), 'label')
    tables, dense = embedding.init(jax.random.key(0), WIDTHS, schema, 0.1)
    batch = {'categorical': jnp.array([[3], [4]], jnp.int32), 'label': jnp.zeros(2)}
    rows = embedding.gather_rows(tables, embedding.ids_of(batch, schema))
    found = embedding.make_inputs(rows, dense, batch, schema)
    assert (found.fields, found.numeric_fields, found.bags) == (('c',), (), {})
    chex.assert_shape(found.numeric, (2, 0))


def test_inputs_of_the_example_are_like_those_of_a_batch():
    schema, batch = mixed_schema(), mixed_batch()
    tables, dense = embedding.init(jax.random.key(0), WIDTHS, schema, 0.1)
    rows = embedding.gather_rows(tables, embedding.ids_of(batch, schema))
    embeddings, inputs = embedding.example(WIDTHS, schema)
    of_batch = embedding.make_inputs(rows, dense, batch, schema)
    chex.assert_trees_all_equal_shapes_and_dtypes(
        (embeddings, inputs), (embedding.assemble(rows, dense, batch, schema), of_batch)
    )
    # A model may make a layer for each of them; the order is the same inside jit.
    assert list(inputs.bags) == list(of_batch.bags) == ['liked', 'seen', 'words']


def test_unknown_fields_are_named():
    _, inputs = embedding.example(WIDTHS, mixed_schema())
    assert inputs.bag('seen', 'history') is inputs.bags['seen']
    with pytest.raises(UsageError, match=r"model.history: .* multi-valued field 'sen'; did you mean 'seen'"):
        inputs.bag('sen', 'history')
    with pytest.raises(UsageError, match=r"model.target: there is no field 'itm'; did you mean 'item'"):
        inputs.position('itm', 'target')
