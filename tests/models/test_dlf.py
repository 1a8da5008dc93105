"""DLF: shapes and parameters of every variant, gradients, and what must not change its logits."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax import models
from dlf_jax.models.dlf import DLF
from tests.models import checks

B, F, D, N, R, L = 16, 5, 4, 3, 2, 2
SMALL = {
    'embedding_size': D,
    'layers': L,
    'attention_layers': 1,
    'tokens': N,
    'rank': R,
    'heads': 2,
    'hidden': (8,),
    'head': (7,),
}
VARIANTS = DLF.variants
CASES = {
    **{name: fields for name, fields in VARIANTS.items() if name != 'fusion=naf'},
    'two attention layers': {'attention_layers': 2, 'layers': 1},
    'released with attention': {**VARIANTS['released'], 'input_attention': True, 'layers': 1},
    'deep mlps': {'fusion': 'mlp', 'fusion_hidden': (6,), 'implicit_hidden': (9,), 'layers': 1},
    'bare': {
        'fusion': 'concat',
        'norm': 'none',
        'product_norm': 'none',
        'batch_norm': False,
        'hidden': (),
        'head': (),
    },
    'norms over the batch': {'fusion': 'gate', 'norm': 'batch', 'product_norm': 'batch', 'layers': 1},
}
# What differs most; the others are held to the references every day, and to these properties in slow runs.
QUICK = ('full', 'released', 'deep mlps', 'bare', 'norms over the batch')
every_case = pytest.mark.parametrize(
    'case', [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
# Cases that only count their parameters: what they set is run by the others.
COUNTED = {
    'token': {'implicit': 'token'},
    'project_first': {'project_first': True},
    'three layers': {'layers': 3},
}
# Compiled in a hurry: the tests' time is compilation.
jit = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def build(case):
    return models.build('dlf', **{**SMALL, **{**CASES, **COUNTED}[case]})


def shapes(case):
    rows = {'embedding': jnp.zeros((B, F, D))}
    return jax.eval_shape(build(case).init, jax.random.key(0), rows)


@functools.cache
def example(case):
    """Variables away from their special initial values, and rows."""
    draw = np.random.default_rng(0)

    def values(path, shape):
        name = path[-1].key
        # Kernels wide enough that no ReLU is shut for all rows.
        spread = 0.8 if 'kernel' in name else 0.2
        values = (name in ('scale', 'var')) + spread * draw.uniform(-1, 1, shape.shape)
        return jnp.asarray(values, jnp.float32)

    rows = {'embedding': jnp.asarray(draw.normal(size=(B, F, D)), jnp.float32)}
    return jax.tree.map_with_path(values, shapes(case)), rows


@functools.cache
def evaluation(case):
    """`(params, rows) -> logits, gradient`."""
    model, (variables, _) = build(case), example(case)

    def loss(params, rows):
        logits = model.apply({**variables, 'params': params}, rows)
        return jnp.sum(jnp.sin(logits + jnp.arange(B))), logits

    def both(params, rows):
        gradient, logits = jax.grad(loss, has_aux=True)(params, rows)
        return logits, gradient

    return jit(both)


@functools.cache
def training(case):
    """`(rows, mask) -> logits, new statistics, gradient`."""
    model, (variables, _) = build(case), example(case)

    def loss(params, rows, mask):
        logits, changed = model.apply(
            {**variables, 'params': params}, rows, train=True, mask=mask, mutable=['batch_stats']
        )
        return jnp.sum(jnp.where(mask, jnp.sin(logits), 0)), (logits, changed)

    def both(rows, mask):
        gradient, (logits, changed) = jax.grad(loss, has_aux=True)(variables['params'], rows, mask)
        return logits, changed, gradient

    return jit(both)


def evaluate(case):
    variables, rows = example(case)
    return evaluation(case)(variables['params'], rows)[0]


def dense(inputs, outputs):
    return inputs * outputs + outputs


def mlp(inputs, hidden, outputs, norm):
    count = 0
    for width in hidden:
        count += dense(inputs, width) + 2 * width * norm
        inputs = width
    return count + dense(inputs, outputs)


def expected_parameters(
    layers=L,
    attention_layers=1,
    heads=2,
    hidden=(8,),
    head=(7,),
    low_rank=True,
    implicit='mlp',
    implicit_hidden=(),
    block_relu=True,
    project_first=False,
    fusion='naf',
    fusion_hidden=(),
    input_attention=False,
    gate=True,
    norm='layer',
    product_norm='layer',
    batch_norm=True,
):
    """Number of parameters, from the equations."""
    blocks = 3 if low_rank else 2
    fused = N if fusion == 'none' else N * blocks
    if fusion in ('naf', 'attention', 'mlp', 'gate') or input_attention:
        fused += N
    residuals = blocks if fusion == 'none' else 1

    def rank_block(left, state):
        flat = left * R
        return state * R + 2 * flat * (product_norm != 'none') + mlp(flat, hidden, N * D, batch_norm)

    total, state = 0, F
    for layer in range(layers):
        total += rank_block(state, state)
        if low_rank:
            projects = project_first and layer > 0
            total += rank_block(state if projects else F, state) + projects * F * state
        total += mlp(state * D, implicit_hidden, N * D, batch_norm) if implicit == 'mlp' else state * N
        if fusion in ('naf', 'attention'):
            per_block = dense(D, 3 * D) + dense((blocks - 1) * D, D)
            total += attention_layers * blocks * per_block + dense(blocks * D, D)
        elif fusion == 'mlp':
            total += mlp(blocks * D, fusion_hidden, D, batch_norm)
        elif fusion == 'gate':
            total += dense(blocks * D, blocks)
        elif input_attention:
            total += dense(D, 3 * D) + 2 * state * D + mlp(state * D, hidden, N * D, batch_norm)
        projection = state * fused if state != fused else 0
        normed = {'layer': D, 'batch': fused * D, 'none': 0}[norm]
        total += residuals * (gate * D * D + projection + 2 * normed)
        state = fused
    return total + mlp(residuals * state * D, head, 1, batch_norm)


@pytest.mark.parametrize('case', {**CASES, **COUNTED})
def test_parameter_count(case):
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes(case)['params']))
    assert count == expected_parameters(**{**CASES, **COUNTED}[case])


def test_variants():
    assert list(VARIANTS) == [
        'full',
        'wo_gate',
        'wo_rli',
        'wo_naf',
        'wo_rli_naf',
        'fusion=concat',
        'fusion=mlp',
        'fusion=gate',
        'fusion=attention',
        'fusion=naf',
        'released',
    ]
    assert DLF(**VARIANTS['fusion=naf']) == DLF(**VARIANTS['full'])


def test_initial_values():
    model = models.build('dlf', embedding_size=32, layers=1, hidden=(64,))
    variables = jit(model.init)(jax.random.key(0), {'embedding': jnp.ones((2, F, 32))})
    for path, leaf in jax.tree.leaves_with_path(variables['params']):
        name = path[-1].key
        if 'kernel' in name:
            # Xavier; a leading axis of blocks is no fan.
            deviation = np.sqrt(2 / sum(leaf.shape[-2:]))
            assert abs(leaf.std() / deviation - 1) < 6 / np.sqrt(leaf.size), jax.tree_util.keystr(path)
        else:
            np.testing.assert_array_equal(leaf, float(name == 'scale'))


@every_case
def test_logits(case):
    logits = evaluate(case)
    chex.assert_shape(logits, (B,))
    chex.assert_type(logits, jnp.float32)
    chex.assert_tree_all_finite(logits)
    assert np.std(logits) > 0
    chex.assert_trees_all_equal(logits, evaluate(case))


@every_case
def test_gradient_reaches_every_parameter(case):
    # In evaluation: in training BatchNorm takes away the gradient of the bias before it.
    variables, rows = example(case)
    _, gradient = evaluation(case)(variables['params'], rows)
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
        assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


@every_case
def test_logits_follow_their_rows(case):
    variables, rows = example(case)
    order = np.random.default_rng(1).permutation(B)
    permuted = {'embedding': rows['embedding'][order]}
    logits, _ = evaluation(case)(variables['params'], permuted)
    np.testing.assert_allclose(logits, evaluate(case)[order], rtol=1e-4, atol=1e-5)


TRAINED = ['full', 'deep mlps']


@pytest.mark.parametrize('case', TRAINED)
def test_training_does_not_see_padding(case):
    _, rows = example(case)
    mask = jnp.arange(B) < B - 3
    results = []
    for garbage in (0, 1e3):
        padded = {'embedding': rows['embedding'].at[B - 3 :].set(garbage)}
        logits, changed, gradient = training(case)(padded, mask)
        chex.assert_tree_all_finite(gradient)
        results.append((logits[: B - 3], changed, gradient))
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-6)


def test_padded_batch_trains_as_the_rows_alone():
    # The case with a BatchNorm wherever there can be one.
    case = 'deep mlps'
    _, rows = example(case)
    mask = jnp.arange(B) < B - 3
    padded = training(case)({'embedding': rows['embedding'].at[B - 3 :].set(7)}, mask)
    whole = training(case)({'embedding': rows['embedding'][: B - 3]}, mask[: B - 3])
    chex.assert_trees_all_close((padded[0][: B - 3], *padded[1:]), whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('case', TRAINED)
def test_training_updates_statistics(case):
    variables, rows = example(case)
    logits, changed, _ = training(case)(rows, jnp.ones(B, bool))
    chex.assert_trees_all_equal_shapes(changed['batch_stats'], variables['batch_stats'])
    assert not np.allclose(logits, evaluate(case))
    for old, new in zip(*map(jax.tree.leaves, (variables['batch_stats'], changed)), strict=True):
        assert not np.allclose(old, new)


def test_vmap_over_parameters():
    model, (variables, rows) = build('wo_naf'), example('wo_naf')
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), variables)
    logits = jit(jax.vmap(model.apply, in_axes=(0, None)))(stacked, rows)
    chex.assert_shape(logits, (2, B))
    np.testing.assert_allclose(logits[0], evaluate('wo_naf'), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('rate', ['dropout', 'block_dropout'])
def test_dropout_is_for_training(rate):
    variables, rows = example('fusion=concat')
    model = models.build('dlf', **{**SMALL, 'fusion': 'concat', rate: 0.5})

    @jit
    def trained(key):
        rngs = {'dropout': key}
        return model.apply(variables, rows, train=True, rngs=rngs, mutable=['batch_stats'])[0]

    keys = jax.random.split(jax.random.key(0))
    chex.assert_trees_all_equal(trained(keys[0]), trained(keys[0]))
    assert not np.allclose(trained(keys[0]), trained(keys[1]))
    logits = jit(model.apply)(variables, rows)
    np.testing.assert_allclose(logits, evaluate('fusion=concat'), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('own', 'fields'),
    [
        ('head_dropout', {'implicit_hidden': (), 'head': (7,)}),
        ('implicit_dropout', {'implicit_hidden': (9,), 'head': ()}),
    ],
)
def test_dropout_of_a_pathway(own, fields):
    """In a model whose only hidden layer is that pathway's, its own rate alone decides."""
    fields = {**SMALL, 'layers': 1, 'hidden': (), 'fusion': 'concat', **fields}
    rows = example('bare')[1]
    variables = jit(models.build('dlf', **fields).init)(jax.random.key(1), rows)
    keys = jax.random.split(jax.random.key(0))

    def spread(**rates):
        model = models.build('dlf', **fields, **rates)

        @jit
        def trained(key):
            rngs = {'dropout': key}
            return model.apply(variables, rows, train=True, rngs=rngs, mutable=['batch_stats'])[0]

        return np.abs(trained(keys[0]) - trained(keys[1])).max()

    assert spread(dropout=0.5) > 0
    assert spread(**{own: 0.5}) > 0
    assert spread(**{'dropout': 0.5, own: 0.0}) == 0
    others = {'head_dropout', 'implicit_dropout'} - {own}
    assert spread(**dict.fromkeys(others, 0.5)) == 0


def test_mapped_axis_makes_batch_norm_global():
    model, (variables, rows) = build('fusion=concat'), example('fusion=concat')

    def logits(embedding, **options):
        embeddings = {'embedding': embedding}
        return model.apply(variables, embeddings, train=True, mutable=['batch_stats'], **options)

    shards = rows['embedding'].reshape(2, B // 2, F, D)
    mapped = jax.vmap(functools.partial(logits, collectives=checks.Mapped()), axis_name='devices')
    split, statistics = jit(mapped)(shards)
    whole, expected = jit(logits)(rows['embedding'])
    np.testing.assert_allclose(split.ravel(), whole, rtol=1e-3, atol=1e-4)
    first = jax.tree.map(lambda leaf: leaf[0], statistics)
    chex.assert_trees_all_close(first, expected, rtol=1e-4, atol=1e-5)


def test_streams_without_fusion_do_not_meet():
    variables, rows = example('wo_naf')
    model = build('wo_naf')

    @jit
    def states(params):
        _, found = model.apply(
            {**variables, 'params': params},
            rows,
            capture_intermediates=lambda module, _: module.name == 'layer_1',
            mutable=['intermediates'],
        )
        return found['intermediates']['layer_1']['__call__'][0]

    changed = jax.tree.map(lambda leaf: leaf, variables['params'])
    changed['layer_0']['implicit']['mlp']['out']['bias'] += 1
    before, after = states(variables['params']), states(changed)
    for name in ('low_rank', 'high_rank'):
        chex.assert_trees_all_equal(before[name], after[name])
    assert not np.allclose(before['implicit'], after['implicit'])


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'fusion': 'x'}, r"model.fusion='x': expected one of 'naf'"),
        ({'implicit': 'dense'}, r"model.implicit='dense'"),
        ({'layers': 0}, r'model.layers=0'),
        ({'rank': 2.5}, r'model.rank=2.5'),
        ({'tokens': True}, r'model.tokens=True'),
        ({'head': (8, -1)}, r'model.head='),
        ({'block_dropout': 1.5}, r'model.block_dropout=1.5'),
        ({'head_dropout': -0.5}, r'model.head_dropout=-0.5: .* or -1 for model.dropout'),
        ({'norm': 'group'}, r"model.norm='group'"),
        ({'product_norm': True}, r'model.product_norm=True'),
        ({'gate_epsilon': -1.0}, r'model.gate_epsilon=-1.0'),
        ({'heads': 3}, r'model.heads=3.*embedding_size=4'),
        ({'implicit': 'token', 'implicit_hidden': (8,)}, r'model.implicit_hidden=.*implicit'),
        ({'fusion_hidden': (8,)}, r'model.fusion_hidden=.*fusion'),
        ({'input_attention': True}, r'model.input_attention=True.*fusion'),
    ],
)
def test_error_names_the_key(fields, message):
    with pytest.raises(ValueError, match=message):
        models.build('dlf', **{**SMALL, **fields})


def test_heads_are_free_where_nothing_attends():
    models.build('dlf', **{**SMALL, 'heads': 3, 'fusion': 'concat'})


def test_rows_of_another_width_are_refused():
    with pytest.raises(AssertionError):
        models.build('dlf', **SMALL).init(jax.random.key(0), {'embedding': jnp.ones((2, F, D + 1))})
