"""MaskNet: mask blocks, serial and parallel."""

import pytest

from dlf_jax.models.masknet import MaskNet
from dlf_jax.testing import check_model
from tests.models import checks
from tests.references import masknet as reference

SMALL = {'embedding_size': 3, 'hidden': (6, 5)}
CASES = {
    'serial': {'hidden': (14, 12)},
    'serial, no norms': {'embedding_norm': False, 'layer_norm': False, 'reduction': 0.5},
    'parallel': {'structure': 'parallel', 'blocks': 2, 'block': 4, 'reduction': 2.0},
    'parallel, no hidden layer': {'structure': 'parallel', 'hidden': (), 'embedding_norm': False},
}


@pytest.mark.parametrize('case', checks.daily(CASES, 'serial', 'parallel'))
def test_reference(case):
    check_model(MaskNet(**{**SMALL, **CASES[case]}), reference.logits)


@pytest.mark.parametrize(
    ('fields', 'settings', 'published'),
    [
        # The leaderboard's runs on Frappe (two) and MovieLens, without tables.
        (
            10,
            {'structure': 'parallel', 'blocks': 3, 'block': 50, 'reduction': 2, 'embedding_norm': False},
            517_801,
        ),
        (10, {'layer_norm': False}, 782_401),
        (3, {'reduction': 4, 'embedding_norm': False}, 1_722_151),
    ],
)
def test_parameter_count(fields, settings, published):
    assert checks.count(MaskNet(hidden=(400, 400, 400), **settings), fields) == published


def test_contract():
    checks.check_variants(MaskNet)
    assert MaskNet().tables == {'embedding': 10}


@pytest.mark.parametrize('structure', checks.daily(['serial', 'parallel'], 'parallel'))
def test_dropout(structure):
    checks.check_dropout(MaskNet(**SMALL, structure=structure, dropout=0.3), 'dropout')


@pytest.mark.parametrize(
    ('field', 'value'),
    [('structure', 'both'), ('hidden', ()), ('blocks', 0), ('block', 0), ('reduction', 0), ('dropout', 1.0)],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        MaskNet(**{field: value})
