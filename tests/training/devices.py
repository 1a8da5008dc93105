"""Checks of one step on several devices, run as `python -m tests.training.devices CHECK` in a process
with eight forced CPU devices: JAX counts them once, at its start."""

import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dlf_jax import models
from dlf_jax.config import get_config
from dlf_jax.data.schema import Field, Schema
from dlf_jax.training import train_state
from dlf_jax.training.model_setup import TrainingSetup
from dlf_jax.training.sharding import Partitioner
from tests.models.test_bag_sums import batch_of_bags, schema_of_bags
from tests.training.test_train_step import SCHEMA, batch_of, config_of

ROWS = 32
# So small that compiling is all that takes time.
SMALL = {
    'hidden': (8,), 'hidden_1': (8,), 'hidden_2': (8,), 'gate_hidden': (8,), 'head': (8,), 'layers': 1,
    'tokens': 3, 'rank': 4, 'heads': 2, 'attention_size': 4, 'neurons': 8, 'cin': (4,), 'dropout': 0.3,
    'dropout_1': 0.3, 'dropout_2': 0.3, 'token_size': 6, 'bottom_hidden': (8,), 'ecn_layers': 1,
    'lcn_layers': 1,
}  # fmt: skip


# The same with a history of three events of the first field.
SEEN = Field('seen', 'multi-valued', pooling='mean', length=3, ordered=True, shares='a')
WITH_HISTORY = Schema((*SCHEMA.fields, SEEN), 'label')


def with_history(batch, seed):
    """The batch with histories, some of them empty."""
    draw = np.random.default_rng([seed, 1])
    rows = len(batch['label'])
    there = np.arange(3) >= 3 - draw.integers(0, 4, rows)[:, None]
    return {**batch, 'bags': np.where(there, draw.integers(0, 7, (rows, 3)), -1).astype(np.int32)}


def small(model='mlp', **changes):
    """Changes are large, and follow the gradients' sizes and not the signs of their rounding."""
    large = {'optimizer__eps': 1.0, 'optimizer__learning_rate': 0.1, 'embedding__penalty': 0.01}
    fields = {f'model__{key}': value for key, value in SMALL.items() if key in get_config(model).model}
    return config_of(model, **{**large, **fields, **changes})


def train(config, devices, steps=3, schema=None, batch_of=batch_of):
    """The state, its tables without the rows that fill them up, and the metrics, on the host."""
    histories = models.model_class(config.model.name).needs_histories
    schema = schema or (WITH_HISTORY if histories else SCHEMA)
    setup = TrainingSetup(config, schema, 100, ROWS, devices)

    def placed(seed, padding=0):
        batch = batch_of(ROWS, padding, seed)
        return setup.partitioner.put(with_history(batch, seed) if histories else batch)

    state = setup.initial_state([0])
    step = setup.train_step(1)
    for i in range(steps):
        # Padding falls on the last devices alone.
        state, found = step(state, placed(i, padding=5))
    logits = setup.predict_step(1)(state.weights(), placed(0))
    rows = train_state.row_leaves(state, setup.optimizer)
    host = jax.device_get(state)
    cut = jax.tree.map(lambda leaf, is_row: leaf[: schema.vocabulary] if is_row else leaf, host, rows)
    logits = setup.partitioner.local_rows(logits)
    return (cut.params, cut.opt_state, cut.batch_stats, found, logits), (state, rows)


def assert_same(first, second):
    chex.assert_trees_all_close(first, second, rtol=2e-4, atol=2e-5)


def check_model(name):
    """One device, eight under jit, and eight under pmap."""
    config = small(name)
    one, _ = train(config, jax.devices()[:1])
    assert_same(one, train(config, jax.devices())[0])
    assert_same(one, train(small(name, parallel='pmap'), jax.devices())[0])


def check_rows(optimizer, model='deepfm'):
    """Tables that are cut over eight devices, replicated on eight, and on one."""
    config = small(model, optimizer__embedding_rows=optimizer)
    one, _ = train(config, jax.devices()[:1])
    assert_same(one, train(config, jax.devices())[0])
    sharded = small(model, optimizer__embedding_rows=optimizer, sharding__tables='rows')
    found, (state, rows) = train(sharded, jax.devices())
    assert_same(one, found)
    leaves = zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(rows), strict=True)
    for (path, leaf), is_row in leaves:
        held = leaf.addressable_shards[0].data.shape
        if is_row:
            assert held == (leaf.shape[0] // 8, *leaf.shape[1:]), path
        else:
            assert held == leaf.shape, path
    if optimizer != 'adam':
        assert_same(
            one,
            train(small(model, optimizer__embedding_rows=optimizer, parallel='pmap'), jax.devices())[0],
        )


def check_bags():
    """Multi-valued fields, summed on the device that has their rows."""
    data = {
        'schema': schema_of_bags(width=0),
        'batch_of': lambda rows, padding=0, seed=0: batch_of_bags(rows, seed, width=0),
    }
    for optimizer in ('adam', 'lazy_adam'):
        config = small('deepfm', optimizer__embedding_rows=optimizer)
        one, _ = train(config, jax.devices()[:1], **data)
        assert_same(one, train(config, jax.devices(), **data)[0])
        for other in ({'sharding__tables': 'rows'}, {'parallel': 'pmap'}):
            config = small('deepfm', optimizer__embedding_rows=optimizer, **other)
            assert_same(one, train(config, jax.devices(), **data)[0])


def check_accumulate():
    """A batch in parts is the batch at once, where BatchNorm does not look at the batch."""
    changes = {'model__batch_norm': False, 'model__dropout': 0.0}
    one, _ = train(small('mlp', **changes), jax.devices()[:1])
    for optimizer in ('adam', 'lazy_adam'):
        whole, _ = train(small('mlp', optimizer__embedding_rows=optimizer, **changes), jax.devices()[:1])
        parts = small('mlp', optimizer__embedding_rows=optimizer, training__accumulate=4, **changes)
        assert_same(whole, train(parts, jax.devices()[:1])[0])
        assert_same(whole, train(parts, jax.devices())[0])
    assert_same(
        one, train(small('mlp', training__accumulate=4, parallel='pmap', **changes), jax.devices())[0]
    )


def check_gradients():
    """The traps: a gradient as many times too large as there are devices, and one of 0."""
    config = small('mlp', optimizer__clip_norm=0.0)
    norms = []
    for devices, parallel in ((1, 'jit'), (8, 'jit'), (8, 'pmap')):
        config.parallel = parallel
        (_, _, _, found, _), _ = train(config, jax.devices()[:devices], steps=1)
        norms.append(float(found['gradient_norm']))
    np.testing.assert_allclose(norms, norms[0], rtol=1e-5)
    assert norms[0] > 1e-3


def check_seeds():
    """A stack of runs under pmap, and with tables cut over the devices."""
    from dlf_jax.training.seeds import stack_runs

    def stacked(config, devices):
        setup = TrainingSetup(config, SCHEMA, 100, ROWS, devices)
        state = setup.initial_state([0, 1])
        batch = stack_runs([batch_of(ROWS, 5, seed) for seed in (0, 1)], np.stack)
        state, found = setup.train_step(2)(state, setup.partitioner.put(batch, stacked=True))
        rows = state.params['tables']['categorical']['embedding'][:, : SCHEMA.vocabulary]
        return jax.device_get((rows, state.params['dense'], found))

    for tables in ('adam', 'lazy_adam'):
        config = small('mlp', optimizer__embedding_rows=tables)
        one = stacked(config, jax.devices()[:1])
        assert_same(
            one, stacked(small('mlp', optimizer__embedding_rows=tables, parallel='pmap'), jax.devices())
        )
        assert_same(
            one,
            stacked(small('mlp', optimizer__embedding_rows=tables, sharding__tables='rows'), jax.devices()),
        )


def check_memory():
    """Memory of a device with tables cut over devices, of a state that is nearly all tables."""
    from dlf_jax.data.schema import Field, Schema

    schema = Schema((Field('a', 'categorical', size=100_003),), 'label')
    batch = {
        'categorical': np.arange(ROWS, dtype=np.int32)[:, None],
        'label': np.zeros(ROWS, np.float32),
        'weight': np.ones(ROWS, np.float32),
    }
    sizes = {}
    for devices in (1, 2, 4, 8):
        for optimizer in ('adam', 'lazy_adam'):
            config = small('mlp', optimizer__embedding_rows=optimizer, sharding__tables='rows')
            config.model.embedding_size = 16
            setup = TrainingSetup(config, schema, 100, ROWS, jax.devices()[:devices])
            step = setup.train_step(1)
            step(setup.initial_state([0]), setup.partitioner.put(batch))
            found = step.executable.memory_analysis()
            held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
            sizes[optimizer, devices] = held, found.temp_size_in_bytes
    for optimizer in ('adam', 'lazy_adam'):
        one = sizes[optimizer, 1][0]
        for devices in (2, 4, 8):
            assert sizes[optimizer, devices][0] < 1.1 * one / devices, sizes
    # The gradient of dense Adam is cut as the table is.
    assert sizes['adam', 8][1] < 1.3 * sizes['adam', 1][1] / 8, sizes
    print(sizes)


def check_by_rows():
    """A function that each device calls with its own rows, and its gradients."""
    shares = set()

    def scale(rows, weight):
        shares.add(rows.shape)
        return jnp.sin(rows * weight)

    def gradients(function, *args):
        return jax.jit(jax.grad(lambda *args: jnp.sum(jnp.square(function(*args))), (0, 1)))(*args)

    partitioner = Partitioner(ROWS, jax.devices())
    rows, weight = np.linspace(-1, 1, 3 * ROWS, dtype=np.float32).reshape(ROWS, 3), np.float32([1, 2, 3])
    here = jax.device_put(rows, partitioner.by_row())
    found = gradients(partitioner.collectives.by_rows(scale), here, weight)
    assert shares == {(ROWS // 8, 3)}
    chex.assert_trees_all_close(found, gradients(scale, rows, weight), rtol=1e-5)


def check_kernel():
    """DLF's attention kernel, in whose place each device computes the plain form of its own rows."""
    from dlf_jax.models import dlf_attention_kernel, dlf_fusion

    shares = set()

    def plain(blocks, weights, heads, self_attention):
        shares.add(blocks[0].shape[0])
        layer = dlf_fusion.AttentionLayer(heads, self_attention)
        return layer.apply({'params': weights._asdict()}, blocks)

    dlf_attention_kernel.attention = plain
    models.model_class('dlf').check_training = lambda *args: None
    shape = {'model__embedding_size': 32, 'model__tokens': 4, 'model__attention_layers': 1}
    fused = {**shape, 'model__attention_kernel': 'mosaic_gpu'}
    one, _ = train(small('dlf', **shape), jax.devices()[:1], steps=1)
    assert not shares
    assert_same(one, train(small('dlf', **fused), jax.devices(), steps=1)[0])
    assert shares == {ROWS // 8}


CHECKS = {
    **{f'model-{name}': lambda name=name: check_model(name) for name in models.MODELS},
    **{
        f'rows-{tables}': lambda tables=tables: check_rows(tables)
        for tables in ('adam', 'lazy_adam', 'adagrad', 'rowwise_adagrad', 'sgd')
    },
    'bags': check_bags,
    # The rows of a history are the target's.
    'rows-of-histories': lambda: check_rows('lazy_adam', 'din'),
    'accumulate': check_accumulate,
    'gradients': check_gradients,
    'seeds': check_seeds,
    'memory': check_memory,
    'by-rows': check_by_rows,
    'kernel': check_kernel,
}

if __name__ == '__main__':
    assert jax.device_count() == 8
    assert jnp.ones(()).dtype == jnp.float32
    CHECKS[sys.argv[1]]()
