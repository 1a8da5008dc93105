"""FinalNet: blocks, gate and distillation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.models.finalnet import FieldGate, FinalNet
from dlf_jax.testing import check_model
from tests.models import checks
from tests.references import finalnet as reference

SMALL = {'embedding_size': 3, 'hidden_1': (6, 4), 'hidden_2': (8,)}
CASES = {
    'two blocks': {},
    'one block': {'blocks': 1},
    'sum': {'residual': 'sum', 'hidden_1': (5, 3)},
    'no gate': {'gate': False, 'batch_norm': False},
    'relu': {'relu': True, 'hidden_2': ()},
}


@pytest.mark.parametrize('case', CASES)
def test_reference(case):
    model = FinalNet(**{**SMALL, **CASES[case]})

    def hold(params, stats, rows):
        # The target of the distillation, which has no gradient.
        return {'target': reference.logits(params, stats, rows, True, **checks.fields_of(model))[0]}

    check_model(model, reference.logits, hold=hold)


@pytest.mark.parametrize('case', CASES)
def test_parameter_count(case):
    model = FinalNet(**{**SMALL, **CASES[case]})
    f, d = checks.FIELDS, 3
    expected = model.gate * checks.dense(f, f)
    inputs = [(model.hidden_1, f * d * (1 + model.gate)), (model.hidden_2, f * d)]
    for hidden, before in inputs[: model.blocks]:
        for width in hidden:
            expected += checks.dense(before, width * (1 + (model.residual == 'sum')))
            expected += 2 * width * model.batch_norm
            before = width
        expected += checks.dense(before, 1)
    assert checks.count(model) == expected


def test_contract():
    checks.check_variants(FinalNet)
    assert FinalNet().tables == {'embedding': 10}


@pytest.mark.parametrize(('blocks', 'train', 'sown'), [(2, True, True), (2, False, False), (1, True, False)])
def test_losses_are_sown_in_training_with_two_blocks(blocks, train, sown):
    model = FinalNet(**SMALL, blocks=blocks)
    variables, rows = checks.random_inputs(model)
    options = {'train': train, 'mask': checks.MASK, 'mutable': ['batch_stats', 'losses']}
    _, changed = jax.eval_shape(functools.partial(model.apply, **options), variables, rows)
    losses = jax.tree.leaves(changed.get('losses', {}))
    assert [loss.shape for loss in losses] == [()] * sown


def test_losses_over_a_mapped_axis():
    model = FinalNet(**SMALL, batch_norm=False)
    variables, _ = jax.tree.map(jnp.float32, checks.random_inputs(model))
    embedding = jax.random.normal(jax.random.key(0), (8, 4, 3))
    mask = jnp.arange(8) < 5

    def loss(embedding, mask, **options):
        options = {'train': True, 'mask': mask, 'mutable': ['losses'], **options}
        _, changed = model.apply(variables, {'embedding': embedding}, **options)
        return changed['losses']['distillation'][0]

    split = jax.vmap(functools.partial(loss, collectives=checks.Mapped()), axis_name='devices')
    losses = jax.jit(split)(embedding.reshape(2, 4, 4, 3), mask.reshape(2, 4))
    np.testing.assert_allclose(losses, np.full(2, jax.jit(loss)(embedding, mask)), rtol=1e-5)


def test_gate_starts_open():
    first = jax.random.normal(jax.random.key(0), (2, 4, 3))
    gated, _ = FieldGate().init_with_output(jax.random.key(1), first)
    np.testing.assert_array_equal(gated, jnp.concatenate([first, first], axis=1))


def test_dropout():
    checks.check_dropout(FinalNet(**SMALL, dropout=0.5), 'dropout')


def test_dropout_of_the_second_block_alone():
    model = FinalNet(**SMALL, dropout_2=checks.ALL, batch_norm=False)
    variables, rows = jax.tree.map(jnp.float32, checks.random_inputs(model))
    params = variables['params']
    # Nothing passes the second block but its last bias; the first is as it is without dropout.
    first = model.clone(blocks=1).apply(
        {'params': {name: params[name] for name in ('gate', 'block_1')}}, rows
    )
    options = {'train': True, 'rngs': {'dropout': jax.random.key(0)}, 'mutable': ['losses']}
    logits, _ = model.apply(variables, rows, **options)
    np.testing.assert_allclose(logits, (first + params['block_2']['out']['bias']) / 2, rtol=1e-5)
    evaluated = model.apply(variables, rows)
    np.testing.assert_array_equal(evaluated, model.clone(dropout_2=-1.0).apply(variables, rows))


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('blocks', 3),
        ('residual', 'max'),
        ('hidden_1', (5,)),
        ('hidden_2', [8]),
        ('dropout', 1.0),
        ('dropout_2', 1.0),
    ],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        FinalNet(**{field: value})
