"""EDCN and its bridges."""

import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.models.edcn import EDCN, Regulation
from dlf_jax.models.mode import Mode
from dlf_jax.testing import check_model
from tests.models import checks
from tests.references import edcn as reference

SMALL = {'embedding_size': 3, 'layers': 2}
CASES = {
    'hadamard': {},
    'add': {'bridge': 'add', 'tau': 3.0},
    'concat': {'bridge': 'concat', 'batch_norm': False},
    'attention': {'bridge': 'attention'},
    'library': {
        'bridge': 'attention',
        'channel_attention': True,
        'residual': False,
        'batch_norm': False,
        'gate_norm': True,
    },
    'one layer': {'layers': 1, 'gate_norm': True},
    'no weights': {'regulation': False, 'gate_norm': True},
    'no regulation at all': {'regulation': False},
}


@pytest.mark.parametrize('case', CASES)
def test_reference(case):
    check_model(EDCN(**{**SMALL, **CASES[case]}), reference.logits)


@pytest.mark.parametrize('case', CASES)
def test_parameter_count(case):
    model = EDCN(**{**SMALL, **CASES[case]})
    f, width = checks.FIELDS, checks.FIELDS * 3
    bridge = {
        'hadamard': 0,
        'add': 0,
        'concat': checks.dense(2 * width, width),
        'attention': checks.dense(width, width) + width * (width if model.channel_attention else 1),
    }
    layer = 2 * f * model.regulation + 4 * width * model.gate_norm + 2 * width + bridge[model.bridge]
    layer += checks.mlp_count(width, (width,), 0, model.batch_norm)
    assert checks.count(model) == model.layers * layer + checks.dense(3 * width, 1)


def test_contract():
    checks.check_variants(EDCN)
    assert EDCN().tables == {'embedding': 10}


def test_tau_evens_the_weights():
    x = jnp.ones((1, 6))
    params = {'cross_gate': jnp.array([0.0, 1.0, 4.0]), 'deep_gate': jnp.ones(3)}
    spreads = []
    for tau in (1.0, 5.0, 1e6):
        cross, deep = Regulation(3, tau, norm=False).apply({'params': params}, x, Mode())
        np.testing.assert_allclose([cross.sum(), deep.sum()], 2, rtol=1e-6)  # twice: of width 2
        np.testing.assert_allclose(deep, 1 / 3, rtol=1e-6)
        spreads.append(np.ptp(cross))
    assert spreads[0] > spreads[1] > spreads[2]
    assert spreads[2] < 1e-5


def test_dropout():
    checks.check_dropout(EDCN(**SMALL, dropout=0.5), 'dropout')


@pytest.mark.parametrize(
    ('field', 'value'),
    [('layers', 0), ('bridge', 'sum'), ('tau', 0.0), ('channel_attention', True), ('dropout', 1.0)],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        EDCN(**{field: value})
