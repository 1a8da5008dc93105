"""Rows that are summed where they are read, against reading them value by value."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.data.schema import Field, Schema, number_field
from dlf_jax.models import bag_sums, embedding
from dlf_jax.models.bag_sums import Run

WIDTHS = {'embedding': 4, 'linear': 1}


def schema_of_bags(width=2):
    """Poolings of all kinds, among them one longer than what a loop adds at once, in tables of two widths, or
    with 0 in one."""
    bag = {'kind': 'multi-valued', 'separator': ' '}
    return Schema(
        (
            Field('a', 'categorical', size=7),
            Field('b', 'categorical', size=5, embedding_size=width),
            number_field('x', 'standard'),
            Field('summed', length=19, size=11, pooling='sum', **bag),
            Field('meant', length=3, shares='a', pooling='mean', **bag),
            Field('highest', length=2, size=6, pooling='max', **bag),
            Field('narrow', length=2, shares='b', pooling='mean', embedding_size=width, **bag),
            Field('one', length=1, shares='a', pooling='sum', **bag),
        ),
        'label',
    )


def batch_of_bags(rows, seed=0, width=2):
    """With values that many rows share, and rows without any."""
    draw, schema = np.random.default_rng(seed), schema_of_bags(width)
    offsets, sizes = schema.offsets, {field.name: field.size for field in schema.owners}

    def ids(field, length):
        drawn = offsets[field.owner] + draw.integers(0, sizes[field.owner], (rows, length))
        there = np.arange(length) < draw.integers(0, length + 1, rows)[:, None]
        return np.where(there, drawn, -1) if field.bag else drawn

    return {
        'categorical': np.concatenate([ids(f, 1) for f in schema.categorical], 1).astype(np.int32),
        'bags': np.concatenate([ids(f, f.length) for f in schema.bags], 1).astype(np.int32),
        'numeric': draw.normal(size=(rows, 1)).astype(np.float32),
        'label': draw.integers(0, 2, rows).astype(np.float32),
        'weight': np.ones(rows, np.float32),
    }


def test_lookup_and_its_gradient():
    schema, batch = schema_of_bags(), jax.tree.map(jnp.asarray, batch_of_bags(50))
    tables, dense = embedding.init(jax.random.key(0), WIDTHS, schema, 0.5)

    def loss(tables, dense, summed):
        found = embedding.lookup(tables, dense, batch, schema, summed=summed)
        return sum(jnp.sum(jnp.sin(3 * values)) for values in found.values()), found

    (one, each), (two, other) = (
        jax.jit(jax.grad(loss, (0, 1), has_aux=True), static_argnums=2)(tables, dense, summed)
        for summed in (False, True)
    )
    chex.assert_trees_all_close(other, each, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(two, one, rtol=1e-4, atol=1e-5)


def test_what_is_read():
    """One row of a summed field, those of each place of another one, before the assembly."""
    schema, batch = schema_of_bags(), batch_of_bags(5)
    tables, _ = embedding.init(jax.random.key(0), WIDTHS, schema, 0.5)
    ids, runs = embedding.ids_of(batch, schema), embedding.runs_of(schema, summed=True)
    wide = (Run(1, False), Run(19, True), Run(3, True), Run(2, False), Run(1, True))
    assert runs == {'categorical': wide, 'categorical_2': (Run(1, False), Run(2, True))}
    rows = embedding.gather_rows(tables, ids, runs=runs)
    chex.assert_shape(rows['categorical']['embedding'], (5, 6, 4))
    table = np.asarray(tables['categorical']['embedding'])
    for row, found in zip(np.asarray(ids['categorical']), rows['categorical']['embedding'], strict=True):
        summed = [i for i in row[1:20] if i >= 0]
        np.testing.assert_allclose(found[1], table[summed].sum(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[0], table[row[0]])


def test_an_id_past_the_end_of_a_sum_is_nan():
    ids = jnp.array([[0, 1], [1, 9], [-1, -1]], jnp.int32)
    found = embedding.gather(jnp.ones((3, 2)), ids, (Run(2, True),))
    np.testing.assert_array_equal(found[:, 0], [[2, 2], [np.nan, np.nan], [0, 0]])


@pytest.mark.parametrize('length', [1, 2, 8, 9, 30])
def test_the_form_for_gpus_is_that_for_cpus(length, monkeypatch):
    draw = np.random.default_rng(0)
    values = draw.normal(size=(40, 3)).astype(np.float32)
    ids = draw.integers(-1, 40, (6, length)).astype(np.int32)
    runs = (Run(length, True),)
    by_cpu = embedding.gather(values, ids, runs)
    monkeypatch.setattr(bag_sums.lax, 'platform_dependent', lambda *args, cpu, default: default(*args))
    np.testing.assert_allclose(by_cpu, embedding.gather(values, ids, runs), rtol=1e-5, atol=1e-6)


def test_a_gradient_is_spread_over_its_columns():
    gradient = jnp.arange(6.0).reshape(1, 3, 2)
    found = bag_sums.spread(gradient, (Run(1, False), Run(3, True), Run(1, False)))
    np.testing.assert_array_equal(found[0], [[0, 1], [2, 3], [2, 3], [2, 3], [4, 5]])
