"""GDCN, stacked and parallel."""

import pytest

from dlf_jax.models.gdcn import GDCN
from dlf_jax.testing import check_model
from tests.models import checks
from tests.references import gdcn as reference

SMALL = {'embedding_size': 3, 'cross_layers': 2, 'hidden': (6, 4)}
CASES = {
    'stacked': {},
    'parallel': {'structure': 'parallel'},
    'three layers, no BatchNorm': {'cross_layers': 3, 'batch_norm': False},
    'one layer, no hidden layer': {'cross_layers': 1, 'structure': 'parallel', 'hidden': ()},
}


@pytest.mark.parametrize('case', CASES)
def test_reference(case):
    check_model(GDCN(**{**SMALL, **CASES[case]}), reference.logits)


@pytest.mark.parametrize('case', CASES)
def test_parameter_count(case):
    model = GDCN(**{**SMALL, **CASES[case]})
    width = checks.FIELDS * 3
    expected = model.cross_layers * (2 * width**2 + width)
    expected += checks.mlp_count(width, model.hidden, 0, model.batch_norm)
    final = (model.hidden or (width,))[-1] + width * (model.structure == 'parallel')
    assert checks.count(model) == expected + checks.dense(final, 1)


def test_contract():
    checks.check_variants(GDCN)
    assert GDCN().tables == {'embedding': 10}


def test_dropout():
    checks.check_dropout(GDCN(**SMALL, dropout=0.5), 'dropout')


@pytest.mark.parametrize(
    ('field', 'value'),
    [('cross_layers', 0), ('structure', 's'), ('hidden', (8, 0)), ('dropout', 1.0)],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        GDCN(**{field: value})
