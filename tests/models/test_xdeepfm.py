"""xDeepFM."""

import pytest

from dlf_jax.models.xdeepfm import XDeepFM
from dlf_jax.testing import check_model
from tests.models import checks
from tests.references import xdeepfm as reference

SMALL = {'embedding_size': 3, 'cin': (5, 2, 3), 'hidden': (6, 4)}
CASES = {
    'full': {},
    'with biases': {'cin_bias': True},
    'one layer': {'cin': (4,), 'cin_bias': True, 'batch_norm': False},
    'no hidden layer': {'cin': (4, 3), 'hidden': ()},
}


@pytest.mark.parametrize('case', CASES)
def test_reference(case):
    check_model(XDeepFM(**{**SMALL, **CASES[case]}), reference.logits)


@pytest.mark.parametrize('case', CASES)
def test_parameter_count(case):
    model = XDeepFM(**{**SMALL, **CASES[case]})
    d, f = 3, checks.FIELDS
    expected = checks.mlp_count(f * d, model.hidden, 0, model.batch_norm)
    before = f
    for maps in model.cin:
        expected += before * f * maps + maps * model.cin_bias
        before = maps
    expected += checks.dense((model.hidden[-1] if model.hidden else f * d) + sum(model.cin), 1)
    assert checks.count(model) == expected


def test_contract():
    checks.check_variants(XDeepFM)
    assert XDeepFM().tables == {'embedding': 10, 'linear': 1}


def test_dropout():
    checks.check_dropout(XDeepFM(**SMALL, dropout=0.5), 'dropout')


@pytest.mark.parametrize(
    ('field', 'value'),
    [('embedding_size', 0), ('cin', ()), ('cin', (4, 0)), ('hidden', 8), ('dropout', -0.1)],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        XDeepFM(**{field: value})
