"""Optimizers of the touched rows, against NumPy float64 and against dense Adam."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.errors import UserError
from dlf_jax.training import row_optimizers
from dlf_jax.training.model_setup import TrainingSetup
from tests.training.test_train_step import SCHEMA, batch_of, config_of

ROWS, WIDTH = 11, 3
OPTIMIZERS = {
    'lazy_adam': row_optimizers.LazyAdam(0.9, 0.99, 1e-8),
    'adagrad': row_optimizers.Adagrad(1e-8, 0.1),
    'rowwise_adagrad': row_optimizers.RowwiseAdagrad(1e-8),
    'sgd': row_optimizers.SGD(),
}


def reference(name, values, steps, rate, penalty):
    """The equations, row by row."""
    values = values.astype(np.float64)
    mu, nu, sums = np.zeros_like(values), np.zeros_like(values), np.zeros(len(values))
    whole_sums = np.full_like(values, 0.1)
    norms = []
    for step, (ids, gradients) in enumerate(steps):
        squares = 0.0
        for row in sorted({int(i) for i in ids if i >= 0}):
            g = gradients[ids == row].astype(np.float64).sum(0) + penalty * values[row]
            squares += (g**2).sum()
            if name == 'lazy_adam':
                mu[row] = 0.9 * mu[row] + 0.1 * g
                nu[row] = 0.99 * nu[row] + 0.01 * g**2
                m, v = mu[row] / (1 - 0.9 ** (step + 1)), nu[row] / (1 - 0.99 ** (step + 1))
                g = m / (np.sqrt(v) + 1e-8)
            elif name == 'adagrad':
                whole_sums[row] += g**2
                g = g / (np.sqrt(whole_sums[row]) + 1e-8)
            elif name == 'rowwise_adagrad':
                sums[row] += (g**2).mean()
                g = g / (np.sqrt(sums[row]) + 1e-8)
            values[row] -= rate * g
        norms.append(squares)
    return values, norms


@pytest.mark.parametrize('name', OPTIMIZERS)
@pytest.mark.parametrize('penalty', [0.0, 0.3])
def test_against_numpy(name, penalty):
    draw = np.random.default_rng(0)
    optimizer, values = OPTIMIZERS[name], draw.normal(size=(ROWS, WIDTH)).astype(np.float32)
    steps = []
    for count in (1, 9, 20, 20):
        # Many times the same rows; -1 is no row. Row 10 is never touched.
        ids = draw.integers(-1, 10, count).astype(np.int32)
        steps.append((ids, draw.normal(size=(count, WIDTH)).astype(np.float32)))
    expected, squares = reference(name, values, steps, 0.1, penalty)

    @jax.jit
    def step(number, values, moments, room, ids, gradients):
        room, at, represented = row_optimizers.dedup(0, room, ids)
        total, square = row_optimizers.sum_gradients(values, at, represented, gradients, penalty)
        changed = row_optimizers.apply(optimizer, values, moments, at, total, jnp.float32(0.1), number)
        return *changed, room, square

    found, moments = jnp.asarray(values), optimizer.init(jnp.asarray(values))
    # What the room holds before does not matter.
    room = jnp.asarray(draw.integers(-5, 99, ROWS).astype(np.int32))
    for number, (ids, gradients) in enumerate(steps):
        found, moments, room, square = step(jnp.int32(number), found, moments, room, ids, gradients)
        assert float(square[0]) == pytest.approx(squares[number], rel=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found[10], values[10])
    first = optimizer.init(jnp.asarray(values))
    for kind, array in moments.items():
        np.testing.assert_array_equal(array[10], first[kind][10])


def test_rows_of_a_shard():
    """Ids of rows that lie elsewhere do not count, and every row counts in exactly one shard."""
    draw = np.random.default_rng(1)
    ids = draw.integers(-1, 8, 40).astype(np.int32)
    values, gradients = np.zeros((8, WIDTH), np.float32), draw.normal(size=(40, WIDTH)).astype(np.float32)

    def summed(start, stop):
        room = jnp.zeros((stop - start,), jnp.int32)
        _, at, represented = row_optimizers.dedup(start, room, ids)
        total, _ = row_optimizers.sum_gradients(values[start:stop], at, represented, gradients, 0.0)
        table = np.zeros((stop - start + 1, WIDTH), np.float32)
        table[np.asarray(at)] = total
        return table[:-1]

    whole = np.zeros((8, WIDTH))
    np.add.at(whole, ids[ids >= 0], gradients[ids >= 0])
    np.testing.assert_allclose(np.concatenate([summed(0, 4), summed(4, 8)]), whole, atol=1e-5)


def few_rows(seed):
    """A batch that names some of the rows, again and again."""
    batch = batch_of(16, seed=seed)
    batch['categorical'] -= batch['categorical'] % 2
    return batch


def stepped(steps, **changes):
    config = config_of('deepfm', model__hidden=(8,), **changes)
    setup = TrainingSetup(config, SCHEMA, 100, 16, jax.devices()[:1])
    state, step = setup.create(np.int32(0)), setup.train_step(1)
    for i in range(steps):
        state, _ = step(state, few_rows(i))
    return jax.device_get(state)


def test_lazy_adam_is_dense_adam_at_the_first_step():
    dense, lazy = stepped(1), stepped(1, optimizer__embedding_rows='lazy_adam')
    for params in ('tables', 'dense'):
        chex.assert_trees_all_close(lazy.params[params], dense.params[params], rtol=1e-5, atol=1e-6)


def test_the_step_reaches_no_row_but_the_batchs():
    before, after = (
        stepped(0, optimizer__embedding_rows='lazy_adam'),
        stepped(1, optimizer__embedding_rows='lazy_adam'),
    )
    touched = set(few_rows(0)['categorical'].ravel().tolist())
    rows = [t['categorical']['embedding'] for t in (before.params['tables'], after.params['tables'])]
    moved = set(np.flatnonzero((rows[0] != rows[1]).any(1)).tolist())
    assert moved == touched
    assert 0 < len(touched) < SCHEMA.vocabulary


def test_bfloat16_keeps_float32_state_and_comes_near():
    changes = {'optimizer__eps': 1.0, 'optimizer__learning_rate': 0.1}
    exact, half = stepped(3, **changes), stepped(3, precision='bfloat16', **changes)
    assert all(leaf.dtype != jnp.bfloat16 for leaf in jax.tree.leaves(half))
    table = exact.params['tables']['categorical']['embedding']
    found = half.params['tables']['categorical']['embedding']
    assert 0 < np.abs(found - table).max() < 0.02


def test_a_table_that_fits_no_device_says_what_to_do():
    with pytest.raises(UserError, match=r'GB of each of 1 devices.*min_count'):
        stepped(0, sharding__device_memory=2500)
