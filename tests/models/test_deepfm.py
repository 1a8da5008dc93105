"""DeepFM against its reference, and what its equations promise."""

import numpy as np
import pytest

from dlf_jax.models.deepfm import DeepFM
from dlf_jax.models.fm import FM
from tests.models import checks
from tests.references import deepfm

SMALL = {'embedding_size': 3, 'hidden': (6, 5)}


@pytest.mark.parametrize('fields', [{}, {'batch_norm': False}, {'hidden': ()}])
def test_reference(fields):
    checks.check_against(deepfm.logits, DeepFM(**{**SMALL, **fields}))


@pytest.mark.parametrize('batch_norm', [True, False])
def test_parameters(batch_norm):
    model = DeepFM(**SMALL, batch_norm=batch_norm)
    assert model.tables == {'embedding': 3, 'linear': 1}
    expected = checks.mlp_count(checks.FIELDS * 3, (6, 5), batch_norm=batch_norm) + 1
    assert checks.count(model) == expected


def test_fields_of_the_fm_may_be_permuted():
    model = DeepFM(**SMALL)
    variables = checks.random_variables(model)
    variables['params']['tower']['out']['kernel'] *= 0
    checks.check_permutation(model, variables)


def test_dropout():
    model = DeepFM(**SMALL, dropout=checks.ALL)
    variables, rows = checks.random_variables(model), checks.random_rows(model)
    machine = checks.evaluate(FM(3), {'params': {'bias': variables['params']['bias']}}, rows)
    expected = machine + variables['params']['tower']['out']['bias']
    np.testing.assert_allclose(checks.train(model, variables, rows), expected, rtol=1e-5, atol=1e-5)
    assert not np.allclose(checks.evaluate(model, variables, rows), expected)


@pytest.mark.parametrize(('field', 'value'), [('embedding_size', 0), ('hidden', (0,)), ('dropout', 1.0)])
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        DeepFM(**{field: value})
