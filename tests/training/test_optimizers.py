"""Optimizers by name: against optax's own, and how the embedding rows and the dense parameters are parted."""

import chex
import jax
import numpy as np
import optax
import pytest

from dlf_jax.training import optimizers, train_state
from dlf_jax.training.embedding_optimizer import EveryRow, TouchedRows
from dlf_jax.training.model_setup import TrainingSetup
from tests.training.test_train_step import SCHEMA, batch_of, config_of

# By name: settings, and optax's optimizer with them.
OWN = {
    'adam': ({}, optax.adam(0.01)),
    'adamw': ({'weight_decay': 0.1}, optax.adamw(0.01, weight_decay=0.1)),
    'adagrad': ({'eps': 1e-7}, optax.adagrad(0.01)),
    'sgd': ({'momentum': 0.9, 'nesterov': True}, optax.sgd(0.01, 0.9, nesterov=True)),
    'lion': ({'b2': 0.99, 'weight_decay': 1e-3}, optax.lion(0.01)),
}


def made(name, rows='adam', **settings):
    changes = {f'optimizer__{key}': value for key, value in settings.items()}
    config = config_of('mlp', optimizer__name=name, optimizer__embedding_rows=rows, **changes)
    config.optimizer.learning_rate = 0.01
    return optimizers.make(config, 100)


@pytest.mark.parametrize('name', OWN)
def test_dense_parameters_move_as_with_optax(name):
    settings, own = OWN[name]
    found = made(name, 'sgd', **settings).dense
    params = {'a': np.array([1.0, -2.0], np.float32), 'b': np.array([[0.5]], np.float32)}
    states, moved = [found.init(params), own.init(params)], [params, params]
    for step in range(4):
        gradients = jax.tree.map(lambda x, step=step: np.sin(x + step).astype(np.float32), params)
        for i, optimizer in enumerate((found, own)):
            updates, states[i] = optimizer.update(gradients, states[i], moved[i])
            moved[i] = optax.apply_updates(moved[i], updates)
    chex.assert_trees_all_close(*moved, rtol=1e-6)


def state_of(config):
    setup = TrainingSetup(config, SCHEMA, 100, 16, jax.devices()[:1])
    return setup, setup.initial_state([0])


@pytest.mark.parametrize(
    ('name', 'rows', 'kind', 'joint'),
    [
        ('adam', 'adam', EveryRow, True),
        ('lion', 'dense', EveryRow, True),
        ('lion', 'adam', EveryRow, False),
        ('sgd', 'sgd', TouchedRows, False),
        ('adam', 'lazy_adam', TouchedRows, False),
    ],
)
def test_rows_and_dense_parameters_have_the_optimizers_that_are_named(name, rows, kind, joint):
    config = config_of('deepfm', optimizer__name=name, optimizer__embedding_rows=rows)
    setup, state = state_of(config)
    assert isinstance(setup.optimizer.rows, kind)
    assert ('all' in state.opt_state) == joint
    after, found = setup.train_step(1)(state, setup.partitioner.put(batch_of()))
    assert np.isfinite(float(found['loss']))
    assert int(after.step) == 1


@pytest.mark.parametrize(('name', 'rows'), [('adam', 'adam'), ('lion', 'adam'), ('adam', 'lazy_adam')])
def test_leaves_with_an_entry_for_each_row_are_known(name, rows):
    setup, state = state_of(
        config_of('deepfm', optimizer__name=name, optimizer__embedding_rows=rows, model__embedding_size=5)
    )
    flags = train_state.row_leaves(state, setup.optimizer)
    for leaf, is_row in zip(jax.tree.leaves(state), jax.tree.leaves(flags), strict=True):
        assert is_row == (leaf.ndim > 0 and leaf.shape[0] == SCHEMA.vocabulary)


@pytest.mark.slow
def test_adam_apart_is_adam_of_all():
    """One transformation of both trees, or one for each."""
    joint, _ = state_of(config_of('deepfm'))
    apart, _ = state_of(config_of('deepfm'))
    object.__setattr__(apart.optimizer, 'rows', EveryRow(apart.optimizer.dense, apart.optimizer.penalty))
    found = []
    for setup in (joint, apart):
        state, step = setup.create(np.int32(0)), jax.jit(setup.body())
        for seed in range(3):
            state, _ = step(state, batch_of(seed=seed))
        found.append(state.params)
    chex.assert_trees_all_close(*found, rtol=1e-5, atol=1e-7)


def test_an_optimizer_of_ones_own(tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text(
        'import optax\n'
        'def signed(options):\n'
        '    return optax.scale_by_sign()\n'
        'class Halved:\n'
        '    def init(self, values):\n'
        '        return {}\n'
        '    def direction(self, gradient, moments, step):\n'
        '        return gradient / 2, moments\n'
        'def halved(options):\n'
        '    return Halved()\n'
    )
    config = config_of(
        'mlp', optimizer__name=f'{file}:signed', optimizer__embedding_rows=f'{file}:halved',
        optimizer__clip_norm=0.0,
    )  # fmt: skip
    setup, state = state_of(config)
    before = jax.device_get(state.params)
    state, _ = setup.train_step(1)(state, setup.partitioner.put(batch_of()))
    moved = np.abs(
        np.asarray(state.params['dense']['model']['tower']['out']['kernel'])
        - before['dense']['model']['tower']['out']['kernel']
    )
    np.testing.assert_allclose(moved, config.optimizer.learning_rate, rtol=1e-3)
