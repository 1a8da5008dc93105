"""FinalMLP."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.errors import UsageError
from dlf_jax.models.finalmlp import FinalMLP
from dlf_jax.testing import check_model
from tests.models import checks
from tests.references import finalmlp as reference

SMALL = {'embedding_size': 3, 'hidden_1': (5, 4), 'hidden_2': (6,), 'heads': 2, 'gate_hidden': (5,)}
CASES = {
    'learned contexts': {},
    'wo_gate': {'gate': False},
    'a field and a learned vector': {'context_1': (2,)},
    'fields, of their own tables': {'context_1': (0, 3), 'context_2': (1,), 'context_tables': True},
    'one table': {'context_2': (1,), 'context_tables': True, 'gate_hidden': ()},
    'one head, no BatchNorm': {'heads': 1, 'batch_norm': False},
}


@pytest.mark.parametrize('case', CASES)
def test_reference(case):
    check_model(FinalMLP(**{**SMALL, **CASES[case]}), reference.logits)


@pytest.mark.parametrize('case', CASES)
def test_parameter_count(case):
    model = FinalMLP(**{**SMALL, **CASES[case]})
    d, width = 3, checks.FIELDS * 3
    expected = checks.dense(4 + 6, 1) + 4 * 6 // model.heads
    for hidden, context in ((model.hidden_1, model.context_1), (model.hidden_2, model.context_2)):
        expected += checks.mlp_count(width, hidden, 0, model.batch_norm)
        if model.gate:
            expected += checks.mlp_count(d * max(1, len(context)), model.gate_hidden, width, False)
            expected += d * (not context)
    assert checks.count(model) == expected


def test_contract():
    checks.check_variants(FinalMLP)
    assert FinalMLP(context_1=(0,)).tables == {'embedding': 10}
    model = FinalMLP(context_2=(0,), context_tables=True)
    assert model.tables == {'embedding': 10, 'context_2': 10}


def test_gates_start_open_and_see_their_context():
    model = FinalMLP(**SMALL)
    rows = {'embedding': jax.random.normal(jax.random.key(0), (5, 4, 3))}
    variables = jax.jit(model.init)(jax.random.key(1), rows)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient(params):
        logits = model.apply({**variables, 'params': params}, rows)
        return jnp.sum(logits**2), logits

    gradients, logits = gradient(variables['params'])
    ungated = jax.jit(FinalMLP(**SMALL, gate=False).apply)(variables, rows)
    np.testing.assert_allclose(logits, ungated, atol=1e-2)
    assert gradients['context_1'].any()
    assert gradients['context_2'].any()


@pytest.mark.parametrize('rate', ['dropout_1', 'dropout_2'])
def test_dropout(rate):
    checks.check_dropout(FinalMLP(**SMALL, **{rate: 0.5}), rate)


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('heads', 3),
        ('heads', 0),
        ('hidden_1', ()),
        ('hidden_2', (8, 0)),
        ('gate_hidden', [8]),
        ('context_1', (-1,)),
        ('context_2', 3),
        ('context_tables', True),
        ('dropout_1', 1.0),
    ],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        FinalMLP(**{field: value})


def test_context_without_a_gate():
    with pytest.raises(ValueError, match=r'model.context_1=\(0,\): needs model.gate'):
        FinalMLP(context_1=(0,), gate=False)


def test_context_past_the_last_field():
    model = FinalMLP(**SMALL, context_2=(4,))
    with pytest.raises(
        UsageError, match=r'config.model.context_2=\(4,\): .* from 0 to 3, there are 4 fields'
    ):
        jax.eval_shape(model.init, jax.random.key(0), {'embedding': jnp.ones((2, 4, 3))})
