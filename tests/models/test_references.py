"""The models against references in float64 NumPy that were written from the paper's equations.

Every parameter is drawn, so that no bias of zero or scale of one hides a term. Logits and batch statistics
are compared in float32, as the models run, and gradients in float64, where a difference is no rounding.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax import models
from dlf_jax.data.schema import Field, Schema, number_field
from dlf_jax.models import embedding
from dlf_jax.testing import gradient
from tests.references import dlf, lr, mlp
from tests.references import embedding as embedding_reference

B, F, D = 11, 5, 4
SMALL = {
    'embedding_size': D,
    'layers': 2,
    'attention_layers': 2,
    'tokens': 3,
    'rank': 2,
    'heads': 2,
    'hidden': (8,),
    'head': (7,),
}
VARIANTS = {name: fields for name, fields in models.MODELS['dlf'].variants.items() if name != 'fusion=naf'}
RELEASED = {**VARIANTS['released'], 'input_attention': True}
# What does not concern a layer's place in the model is switched in a model of one layer.
SWITCHES = {
    'one head': {'heads': 1},
    'one attention layer': {'attention_layers': 1},
    'three attention layers': {'attention_layers': 3},
    'one layer': {},
    'no hidden layer': {'hidden': (), 'fusion': 'concat'},
    'hidden layers': {'hidden': (8, 6), 'fusion': 'concat'},
    'implicit hidden layers': {'implicit_hidden': (6, 9), 'fusion': 'concat'},
    'token': {'implicit': 'token', 'fusion': 'concat'},
    'token without relu': {'implicit': 'token', 'fusion': 'concat', 'block_relu': False},
    'no low rank': {'low_rank': False, 'attention_layers': 1},
    'no low rank, concat': {'low_rank': False, 'fusion': 'concat'},
    'no low rank, mlp': {'low_rank': False, 'fusion': 'mlp'},
    'no low rank, gate': {'low_rank': False, 'fusion': 'gate'},
    'no low rank, attention': {'low_rank': False, 'fusion': 'attention', 'attention_layers': 1},
    'fusion hidden layers': {'fusion': 'mlp', 'fusion_hidden': (9, 6)},
    'attention over one layer': {'fusion': 'attention', 'attention_layers': 1},
    'no block relu': {'block_relu': False, 'attention_layers': 1},
    'large gate epsilon': {'gate_epsilon': 0.5, 'fusion': 'concat'},
    'no batch norm': {'batch_norm': False, 'attention_layers': 1},
    'no batch norm, mlp': {'batch_norm': False, 'fusion': 'mlp', 'fusion_hidden': (9,)},
    'no head': {'head': (), 'fusion': 'concat'},
    'deep head': {'head': (7, 6), 'fusion': 'concat'},
    'whole batch': {'fusion': 'concat'},
    'released with one head': {**RELEASED, 'heads': 1},
    'released with attention and relu': {**RELEASED, 'block_relu': True},
}
DEEP = {
    'three layers': {'layers': 3, 'attention_layers': 1},
    'no norm': {'norm': 'none', 'product_norm': 'none', 'fusion': 'concat'},
    'no norm, separate': {'norm': 'none', 'fusion': 'none'},
    'norms over the batch': {'norm': 'batch', 'product_norm': 'batch', 'fusion': 'concat'},
    'norms over the batch, separate': {'norm': 'batch', 'product_norm': 'batch', 'fusion': 'none'},
    'project first': {'project_first': True, 'fusion': 'concat'},
    'project first, separate': {'project_first': True, 'fusion': 'none'},
    'project first, as many tokens as fields': {'project_first': True, 'fusion': 'none', 'tokens': F},
    'no token map': {'tokens': F, 'fusion': 'none'},
    'released with attention': RELEASED,
    'released with two blocks': {**RELEASED, 'low_rank': False},
    'released with gate': {**VARIANTS['released'], 'gate': True},
    'released with mlp': {**VARIANTS['released'], 'implicit': 'mlp'},
}
CASES = {
    **{name: ('dlf', {**SMALL, **fields}) for name, fields in {**VARIANTS, **DEEP}.items()},
    **{name: ('dlf', {**SMALL, 'layers': 1, **fields}) for name, fields in SWITCHES.items()},
    'mlp': ('mlp', {'embedding_size': D, 'hidden': (8, 6)}),
    'mlp without batch norm': ('mlp', {'embedding_size': D, 'hidden': (8, 6), 'batch_norm': False}),
    'mlp without hidden layers': ('mlp', {'embedding_size': D, 'hidden': ()}),
    'lr': ('lr', {}),
}
every_case = pytest.mark.parametrize('case', CASES)
# Each part of a layer in one case at least; a wrong gradient of a right value is a mistake in a derivative
# of our own, of which attention has the one. The others' are compared in slow runs.
DIFFERENTIATED = (
    'full', 'wo_gate', 'fusion=mlp', 'fusion=gate', 'released with attention', 'released with two blocks',
    'norms over the batch', 'token', 'three attention layers', 'mlp', 'mlp without hidden layers', 'lr',
)  # fmt: skip


@pytest.fixture(autouse=True)
def full_precision():
    """Products in float32 proper on devices that would round their factors."""
    with jax.default_matmul_precision('highest'):
        yield


def build(case):
    name, fields = CASES[case]
    return models.build(name, **fields)


def example(case):
    """Drawn variables and rows in float64, as a tree, and the rows' mask."""
    model = build(case)
    ((table, width),) = model.tables.items()
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), {table: jnp.zeros((B, F, width))})

    def values(path, leaf):
        name = path[-1].key
        if name == 'var':
            return draw.uniform(0.3, 3.0, leaf.shape)
        spread = 1 / np.sqrt(leaf.shape[-2]) if 'kernel' in name else 0.5
        return spread * draw.normal(size=leaf.shape) + (name == 'scale')

    variables = jax.tree_util.tree_map_with_path(values, shapes)
    tree = {
        'params': variables['params'],
        'batch_stats': variables.get('batch_stats', {}),
        'rows': {table: draw.normal(size=(B, F, width))},
    }
    mask = np.ones(B, bool)
    mask[[2, 7]] = False
    return tree, None if case == 'whole batch' else mask


def apply(case, tree, mask):
    """The model's logits in evaluation and in training, and the new batch statistics."""
    model = build(case)
    variables = {'params': tree['params']}
    if tree['batch_stats']:
        variables['batch_stats'] = tree['batch_stats']
    evaluation = model.apply(variables, tree['rows'], train=False)
    training, changed = model.apply(variables, tree['rows'], train=True, mask=mask, mutable=['batch_stats'])
    return evaluation, training, changed.get('batch_stats', {})


def refer(case, tree, mask):
    """What `apply` returns, from the reference."""
    name, _ = CASES[case]
    params, stats = tree['params'], tree['batch_stats']
    (rows,) = tree['rows'].values()
    if name == 'lr':
        logits = lr.forward(params, rows)
        return logits, logits, {}
    model = build(case)
    fields = {field: getattr(model, field) for field in models.field_names(name)}
    forward = {'dlf': dlf, 'mlp': mlp}[name].forward
    evaluation, _ = forward(params, stats, rows, fields)
    return evaluation, *forward(params, stats, rows, fields, train=True, mask=mask)


def close(actual, expected, tolerance):
    """Equal but for `tolerance` of the expected array's scale."""
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def check(actual, expected, mask, tolerance):
    """Logits, of the rows that count where the batch has a mask, and batch statistics."""
    rows = slice(None) if mask is None else mask
    close(actual[0], expected[0], tolerance)
    close(actual[1][rows], expected[1][rows], tolerance)
    assert jax.tree.structure(actual[2]) == jax.tree.structure(expected[2])
    jax.tree.map(functools.partial(close, tolerance=tolerance), actual[2], expected[2])


@every_case
def test_forward(case):
    tree, mask = example(case)
    single = jax.tree.map(np.float32, tree)
    actual = apply(case, single, mask)
    # The reference reads the same rounded numbers.
    expected = refer(case, jax.tree.map(np.float64, single), mask)
    check(actual, expected, mask, 1e-5)


@pytest.mark.parametrize(
    'case', [case if case in DIFFERENTIATED else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_gradient(case):
    """Of random sums of the logits of evaluation and training, along random directions."""
    tree, mask = example(case)
    draw = np.random.default_rng(1)
    weights = draw.normal(size=(2, B))
    if mask is not None:
        weights[1] *= mask

    def total(outcome):
        return (weights[0] * outcome[0]).sum() + (weights[1] * outcome[1]).sum()

    def model(inputs):
        outcome = apply(case, {**tree, **inputs}, mask)
        return total(outcome), outcome

    def reference(inputs):
        return total(refer(case, {**tree, **inputs}, mask))

    inputs = {'params': tree['params'], 'rows': tree['rows']}
    with jax.enable_x64(True):
        (_, outcome), gradients = jax.value_and_grad(model, has_aux=True)(inputs)
    check(outcome, refer(case, tree, mask), mask, 1e-11)
    gradients = dict(gradient.leaves(gradients))
    for path, array in gradient.leaves(inputs):
        assert np.abs(gradients[path]).max() > 1e-6, f'{path}: nothing to compare'
        # A difference over 1e-5 keeps about ten digits of the sum.
        gradient.check(reference, inputs, path, array, gradients[path], draw, 1e-7)


@pytest.mark.parametrize('case', ['full', 'released with attention', 'mlp'])
def test_dropout_is_off_in_evaluation(case):
    tree, mask = example(case)
    name, fields = CASES[case]
    rates = {'dropout': 0.5, 'block_dropout': 0.5} if name == 'dlf' else {'dropout': 0.5}
    model = models.build(name, **{**fields, **rates})
    single = jax.tree.map(np.float32, tree)
    logits = model.apply({key: single[key] for key in ('params', 'batch_stats')}, single['rows'])
    close(logits, refer(case, jax.tree.map(np.float64, single), mask)[0], 1e-5)


def parted(by_table):
    """The trees `tables` and `dense` of arrays by table and part."""
    found = {}, {}
    for table, parts in by_table.items():
        for part, values in parts.items():
            tree = found[not part.startswith('categorical')]
            tree.setdefault(part, {})[table] = values
    return found


@pytest.mark.parametrize('numeric', [0, 2])
def test_lookup(numeric):
    """Rows of all tables and their gradient: some features in many rows, one in none."""
    sizes, widths = (3, 1, 7, 2), {'embedding': D, 'linear': 1}
    draw = np.random.default_rng(2)
    first = embedding_reference.offsets(sizes)
    tables = {name: {'categorical': draw.normal(size=(sum(sizes), widths[name]))} for name in widths}
    for name in widths if numeric else ():
        tables[name]['numeric'] = draw.normal(size=(numeric, widths[name]))
    ids = np.stack([np.arange(B) % size for size in (3, 1, 7, 1)], axis=1)
    values = draw.normal(size=(B, numeric))
    weights = {name: draw.normal(size=(B, len(sizes) + numeric, widths[name])) for name in widths}
    batch = {'categorical': (ids + first).astype(np.int32), 'numeric': values}
    categorical = [Field(f'c{i}', 'categorical', size=size) for i, size in enumerate(sizes)]
    schema = Schema((*categorical, *(number_field(f'n{i}', 'none') for i in range(numeric))), 'label')

    def model(tables):
        rows = embedding.lookup(*parted(tables), batch, schema)
        return total(rows), rows

    def reference(tables):
        rows = {}
        for name, table in tables.items():
            fields = np.split(table['categorical'], first[1:])
            rows[name] = embedding_reference.lookup(fields, table.get('numeric', ()), ids, values)
        return rows

    def total(rows):
        return sum((weights[name] * rows[name]).sum() for name in weights)

    single = embedding.lookup(
        *parted(jax.tree.map(np.float32, tables)), {**batch, 'numeric': values.astype(np.float32)}, schema
    )
    assert set(single) == set(widths)
    jax.tree.map(functools.partial(close, tolerance=1e-6), single, reference(tables))
    with jax.enable_x64(True):
        (_, rows), gradients = jax.value_and_grad(model, has_aux=True)(jax.tree.map(jnp.asarray, tables))
    jax.tree.map(functools.partial(close, tolerance=1e-15), rows, reference(tables))
    gradients = dict(gradient.leaves(gradients))
    for path, array in gradient.leaves(tables):
        gradient.check(lambda t: total(reference(t)), tables, path, array, gradients[path], draw, 1e-7)


@pytest.mark.parametrize(
    'pooling', [*(pytest.param(each, marks=pytest.mark.slow) for each in ('sum', 'mean')), 'max']
)
def test_lookup_of_bags_and_of_narrow_fields(pooling):
    """A bag that shares a vocabulary, one of its own, both beside fields with 2 numbers a row."""
    schema = Schema(
        (
            Field('item', 'categorical', size=6),
            Field('history', 'multi-valued', pooling=pooling, length=3, shares='item'),
            Field('site', 'categorical', size=4, embedding_size=2),
            number_field('price', 'none'),
            Field('user', 'categorical', size=3),
            Field('tags', 'multi-valued', pooling=pooling, length=2, size=5, embedding_size=2),
        ),
        'label',
    )
    assert schema.offsets == {'item': 0, 'user': 6, 'site': 0, 'tags': 4}
    draw = np.random.default_rng(3)
    tables = {
        'embedding': {
            'categorical': draw.normal(size=(9, D)),
            'categorical_2': draw.normal(size=(9, 2)),
            'projection_2': draw.normal(size=(2, D)),
            'numeric': draw.normal(size=(1, D)),
        },
        'linear': {
            'categorical': draw.normal(size=(9, 1)),
            'categorical_2': draw.normal(size=(9, 1)),
            'numeric': draw.normal(size=(1, 1)),
        },
    }
    made = jax.eval_shape(
        lambda: embedding.init(jax.random.key(0), {'embedding': D, 'linear': 1}, schema, 0.1)
    )
    assert jax.tree.map(np.shape, parted(tables)) == jax.tree.map(lambda leaf: leaf.shape, made)
    item, site, user = (draw.integers(0, n, B) for n in (6, 4, 3))
    histories = [draw.choice(6, draw.integers(1, 4), replace=False) for _ in range(B)]
    tags = [draw.choice(5, draw.integers(1, 3), replace=False) for _ in range(B)]

    def padded(bags, length, offset):
        return [[*(bag + offset), *[-1] * (length - len(bag))] for bag in bags]

    price = draw.normal(size=(B, 1))
    batch = {
        'categorical': np.stack([item, site, user + 6], 1).astype(np.int32),
        'numeric': price,
        'bags': np.concatenate([padded(histories, 3, 0), padded(tags, 2, 4)], 1).astype(np.int32),
    }
    weights = {'embedding': draw.normal(size=(B, 6, D)), 'linear': draw.normal(size=(B, 6, 1))}

    def reference(tables):
        rows = {}
        for name, parts in tables.items():
            narrow = parts['categorical_2'] @ parts.get('projection_2', np.eye(1))
            one_by_one = [
                [
                    parts['categorical'][item[b]],
                    narrow[site[b]],
                    parts['categorical'][6 + user[b]],
                    parts['numeric'][0] * price[b, 0],
                    embedding_reference.pool(parts['categorical'][histories[b]], pooling),
                    embedding_reference.pool(narrow[4 + tags[b]], pooling),
                ]
                for b in range(B)
            ]
            rows[name] = np.array(one_by_one)
        return rows

    def total(rows):
        return sum((weights[name] * rows[name]).sum() for name in weights)

    def model(tables):
        rows = embedding.lookup(*parted(tables), batch, schema)
        return total(rows), rows

    with jax.enable_x64(True):
        (_, rows), gradients = jax.value_and_grad(model, has_aux=True)(jax.tree.map(jnp.asarray, tables))
    jax.tree.map(functools.partial(close, tolerance=1e-14), rows, reference(tables))
    gradients = dict(gradient.leaves(gradients))
    for path, array in gradient.leaves(tables):
        gradient.check(lambda t: total(reference(t)), tables, path, array, gradients[path], draw, 1e-7)
    batch['bags'] = np.full_like(batch['bags'], -1)
    empty = embedding.lookup(*parted(jax.tree.map(np.float32, tables)), batch, schema)['embedding']
    assert not empty[:, 4:].any()
