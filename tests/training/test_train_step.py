import dataclasses
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlf_jax import models
from dlf_jax.config import build_model, get_config
from dlf_jax.data.schema import Field, Schema, number_field
from dlf_jax.errors import UserError
from dlf_jax.training import train_state
from dlf_jax.training.model_setup import TrainingSetup
from dlf_jax.training.sharding import Partitioner
from tests.models.test_bag_sums import batch_of_bags, schema_of_bags

SCHEMA = Schema(
    (
        Field('a', 'categorical', size=7),
        Field('b', 'categorical', size=5),
        number_field('x', 'standard'),
    ),
    'label',
)


def config_of(model='mlp', **changes):
    config = get_config(model)
    if 'embedding_size' in config.model:
        config.model.embedding_size = 4
    config.embedding.std = 0.5
    if model == 'mlp':
        config.model.hidden = (8,)
    for key, value in changes.items():
        *sections, name = key.split('__')
        found = config
        for section in sections:
            found = found[section]
        found[name] = value
    return config


def batch_of(rows=16, padding=0, seed=0):
    draw = np.random.default_rng(seed)
    categorical = np.stack([draw.integers(0, 7, rows), 7 + draw.integers(0, 5, rows)], 1)
    batch = {
        'categorical': categorical.astype(np.int32),
        'numeric': draw.normal(size=(rows, 1)).astype(np.float32),
        'label': draw.integers(0, 2, rows).astype(np.float32),
        'weight': np.ones(rows, np.float32),
    }
    if padding:
        batch['weight'][-padding:] = 0
    return batch


def make(config):
    setup = TrainingSetup(config, SCHEMA, 100, 8, jax.devices()[:1])
    return setup.create(np.int32(config.seed)), jax.jit(setup.body()), setup


def looked_up(params, batch):
    return models.embedding.lookup(params['tables'], params['dense']['embedding'], batch, SCHEMA)


def tables_after(state, step, batch):
    return np.asarray(step(state, batch)[0].params['tables']['categorical']['embedding'])


def test_state_has_the_declared_tables_and_counts():
    state, _, _ = make(config_of())
    table = state.params['tables']['categorical']['embedding']
    chex.assert_shape(table, (12, 4))
    chex.assert_shape(state.params['dense']['embedding']['numeric']['embedding'], (1, 4))
    assert train_state.parameter_counts(state.params)['table'] == 13 * 4
    assert abs(float(jnp.std(table)) - 0.5) < 0.15


def test_padded_rows_do_not_count():
    # A large eps makes Adam's step follow the gradient's size, not the sign of its rounding.
    state, step, _ = make(config_of(optimizer__eps=1.0))
    batch = batch_of(16)
    padded = {k: np.concatenate([v, np.full_like(v[:5], 3)]) for k, v in batch.items()}
    padded['weight'][-5:] = 0
    (first, found), (second, found_padded) = step(state, batch), step(state, padded)
    chex.assert_trees_all_close(found, found_padded, rtol=1e-5)
    chex.assert_trees_all_close(first.batch_stats, second.batch_stats, rtol=1e-5)
    chex.assert_trees_all_close(first.params, second.params, atol=1e-5)


def test_penalty_reaches_rows_that_the_batch_does_not_touch():
    config = config_of(embedding__penalty=0.1, optimizer__clip_norm=0.0)
    state, step, _ = make(config)
    batch = batch_of(4)
    batch['categorical'][:] = [0, 7]
    before = np.asarray(state.params['tables']['categorical']['embedding'])
    after = np.asarray(step(state, batch)[0].params['tables']['categorical']['embedding'])
    # Adam's first step is the learning rate against the gradient's sign, here lambda * E.
    untouched = [i for i in range(12) if i not in (0, 7)]
    np.testing.assert_allclose(
        after[untouched], before[untouched] - 1e-3 * np.sign(before[untouched]), atol=1e-6
    )


def test_loss_is_of_the_clicks_alone_and_penalty_is_half_the_squares():
    config = config_of(embedding__penalty=10.0, optimizer__clip_norm=0.0)
    state, step, _ = make(config)
    model, batch = build_model(config), batch_of()
    _, found = step(state, batch)
    rows = looked_up(state.params, batch)
    variables = {'params': state.params['dense']['model'], 'batch_stats': state.batch_stats}
    logits, _ = model.apply(variables, rows, train=True, mutable=['batch_stats'])
    expected = optax.sigmoid_binary_cross_entropy(logits, batch['label']).mean()
    assert float(found['loss']) == pytest.approx(float(expected), rel=1e-5)

    def whole(params):
        rows = looked_up(params, batch)
        variables = {'params': params['dense']['model'], 'batch_stats': state.batch_stats}
        logits, _ = model.apply(variables, rows, train=True, mutable=['batch_stats'])
        embeddings = params['tables'], params['dense']['embedding']
        squares = sum(jnp.sum(jnp.square(part)) for part in jax.tree.leaves(embeddings))
        return optax.sigmoid_binary_cross_entropy(logits, batch['label']).mean() + 10.0 / 2 * squares

    norm = optax.global_norm(jax.grad(whole)(state.params))
    assert float(found['gradient_norm']) == pytest.approx(float(norm), rel=1e-5)


def test_clip_and_learning_rate_scale():
    config = config_of(optimizer__clip_norm=1e-9)
    state, step, _ = make(config)
    clipped, found = step(state, batch_of())
    assert float(found['gradient_norm']) > 1e-3
    # Gradients of norm 1e-9 are lost beside Adam's eps of 1e-8.
    moved = optax.global_norm(jax.tree.map(jnp.subtract, clipped.params, state.params))
    assert float(moved) < 1e-3
    state, step, _ = make(config_of())
    halved = state.replace(learning_rate_scale=jnp.float32(0.5))
    whole = jax.tree.map(jnp.subtract, step(state, batch_of())[0].params, state.params)
    half = jax.tree.map(jnp.subtract, step(halved, batch_of())[0].params, state.params)
    chex.assert_trees_all_close(half, jax.tree.map(lambda x: x / 2, whole), atol=1e-6)


def test_dropout_is_a_function_of_seed_and_step():
    state, step, _ = make(config_of(model__dropout=0.5))
    batch = batch_of(64)
    same = [float(step(state, batch)[1]['loss']) for _ in range(2)]
    assert same[0] == same[1]
    assert float(step(state.replace(step=jnp.int32(1)), batch)[1]['loss']) != same[0]
    assert float(step(state.replace(seed=jnp.int32(1)), batch)[1]['loss']) != same[0]


def test_training_lowers_the_loss():
    config = config_of()
    state, step, _ = make(config)
    batch, losses = batch_of(64), []
    for _ in range(150):
        state, found = step(state, batch)
        losses.append(float(found['loss']))
    assert losses[-1] < losses[0] - 0.1
    assert int(state.step) == 150


# What a step has to do with differs in these: BatchNorm, further losses, labels, other tables, attention. The
# others' equations and gradients are held to the references.
TRAINED = ('mlp', 'finalnet', 'fcn', 'fm', 'onn', 'autoint')


@pytest.mark.parametrize(
    'model',
    [
        name if name in TRAINED else pytest.param(name, marks=pytest.mark.slow)
        for name in models.of_any_data()
        if name not in ('dlf', 'lr')
    ],
)
def test_every_model_trains(model):
    config = config_of(model, optimizer__learning_rate=3e-3)
    for name, value in config.model.items():
        if name.startswith('hidden') and value:
            config.model[name] = (8,)
        if name.endswith('layers'):
            config.model[name] = min(value, 2)
    if model == 'finalmlp':
        config.model.heads = 2
    state, step, _ = make(config)
    batch, losses = batch_of(64), []
    for _ in range(80):
        state, found = step(state, batch)
        losses.append(float(found['loss']))
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] - 0.05


# Their equations and gradients are held to the references, and commands of other tests train the full model.
@pytest.mark.slow
@pytest.mark.parametrize(
    'variant',
    models.MODELS['dlf'].variants,
)
def test_every_variant_trains(variant):
    config = config_of('dlf', model__layers=2, model__tokens=3, model__rank=4, model__hidden=(8,))
    config.model.update(models.MODELS['dlf'].variants[variant])
    state, step, _ = make(config)
    batch, losses = batch_of(64), []
    for _ in range(60):
        state, found = step(state, batch)
        losses.append(float(found['loss']))
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] - 0.05


def test_prediction_uses_running_statistics():
    state, step, setup = make(config_of())
    predict = setup.predict_step(1)
    batch = batch_of()
    one = {k: v[:1] for k, v in batch.items()}
    predict_one = make(config_of())[2].predict_step(1)
    state, _ = step(state, batch)
    weights = state.weights()
    np.testing.assert_allclose(predict(weights, batch)[:1], predict_one(weights, one), rtol=1e-5)


def test_batch_that_devices_cannot_share():
    with pytest.raises(UserError, match='multiple of 3'):
        Partitioner(32, jax.devices() * 3)


def test_a_step_is_compiled_once_and_for_one_shape():
    setup = TrainingSetup(config_of(), SCHEMA, 100, 16, jax.devices()[:1])
    state, step = setup.create(np.int32(0)), setup.train_step(1)
    state, _ = step(state, batch_of(16))
    executable = step.executable
    for seed in range(2):
        state, _ = step(state, batch_of(16, seed=seed))
    assert step.executable is executable
    with pytest.raises(TypeError, match='compiled'):
        step(state, batch_of(8))


def test_old_memory_is_reused():
    setup = TrainingSetup(config_of(), SCHEMA, 100, 16, jax.devices()[:1])
    before = setup.initial_state([0])
    setup.train_step(1)(before, setup.partitioner.put(batch_of(16)))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))


@pytest.mark.parametrize(('name', 'expected'), [('default', None), ('high', 'HIGH'), ('highest', 'HIGHEST')])
def test_products_have_the_precision_of_the_config(name, expected):
    setup = TrainingSetup(config_of(matmul_precision=name), SCHEMA, 100, 16, jax.devices()[:1])
    state = jax.eval_shape(setup.create, np.int32(0))
    for function, arguments in (
        (setup.body(), (state, batch_of())),
        (setup.with_precision(lambda a, b: a @ b), (np.ones((2, 2), np.float32),) * 2),
    ):
        text = str(jax.make_jaxpr(function)(*arguments))
        assert 'dot_general' in text
        found = set(re.findall(r'precision=.*?Precision\.(\w+)', text))
        assert found == ({expected} if expected else set())


@pytest.mark.parametrize('rows', ['adam', 'lazy_adam'])
def test_a_step_that_sums_where_it_reads_is_the_step(rows):
    """Multi-valued fields summed where their rows are read, and read value by value."""
    found = []
    for values in (False, True):
        config = config_of(optimizer__embedding_rows=rows, embedding__penalty=0.1, optimizer__eps=1.0)
        setup = TrainingSetup(config, schema_of_bags(), 100, 32, jax.devices()[:1])
        setup.forward = dataclasses.replace(setup.forward, values=values)
        state, step = setup.create(np.int32(0)), jax.jit(setup.body())
        for i in range(2):
            state, metrics = step(state, batch_of_bags(32, i))
        found.append((state.params, metrics))
    chex.assert_trees_all_close(*found, rtol=1e-5, atol=1e-6)
