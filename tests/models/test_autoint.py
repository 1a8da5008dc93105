"""AutoInt against its reference, and what its equations promise."""

import numpy as np
import pytest

from dlf_jax.models.autoint import AutoInt
from tests.models import checks
from tests.references import autoint

SMALL = {'embedding_size': 3, 'attention_size': 4, 'heads': 2, 'layers': 2, 'hidden': (6,)}


@pytest.mark.parametrize(
    'fields',
    [
        {},
        {'scale': True, 'layer_norm': True, 'plus': True},
        {'project_residual': False, 'wide': True, 'heads': 1},
        {'project_residual': False, 'embedding_size': 4, 'layers': 1},
        {'plus': True, 'batch_norm': False, 'wide': True, 'layers': 1, 'heads': 4},
    ],
)
def test_reference(fields):
    checks.check_against(autoint.logits, AutoInt(**{**SMALL, **fields}))


@pytest.mark.parametrize('embedding_size', [3, 4])
@pytest.mark.parametrize('project_residual', [True, False])
@pytest.mark.parametrize(
    'fields', [{}, {'layer_norm': True, 'wide': True}, {'plus': True}, {'plus': True, 'batch_norm': False}]
)
def test_parameters(embedding_size, project_residual, fields):
    model = AutoInt(
        **{**SMALL, 'embedding_size': embedding_size}, project_residual=project_residual, **fields
    )
    linear = {'linear': 1} if 'wide' in fields else {}
    assert model.tables == {'embedding': embedding_size, **linear}
    count = 0
    for width in (embedding_size, 4):
        residual = project_residual or width != 4
        count += (3 + residual) * width * 4 + ('layer_norm' in fields) * 2 * 4
    count += checks.FIELDS * 4 + 1
    if 'plus' in fields:
        flat = checks.FIELDS * embedding_size
        count += checks.mlp_count(flat, (6,), batch_norm=fields.get('batch_norm', True))
    assert checks.count(model) == count


def test_fields_may_be_permuted_with_the_head():
    model = AutoInt(**SMALL, wide=True, layer_norm=True)
    variables, rows = checks.random_variables(model), checks.random_rows(model)
    expected = checks.evaluate(model, variables, rows)
    checks.permute_kernel(variables['params']['head'])
    permuted = checks.permute_fields(rows)
    np.testing.assert_allclose(checks.evaluate(model, variables, permuted), expected, rtol=1e-4, atol=1e-5)


def test_dropout_of_attention():
    model = AutoInt(**SMALL, dropout=checks.ALL)
    variables, rows = checks.random_variables(model), checks.random_rows(model)
    trained = checks.train(model, variables, rows)
    assert not np.allclose(trained, checks.evaluate(model, variables, rows))
    # No weights, no values: the residuals are left.
    for i in range(2):
        variables['params'][f'layer_{i}']['value']['kernel'] *= 0
    np.testing.assert_allclose(trained, checks.evaluate(model, variables, rows), rtol=1e-4, atol=1e-5)


def test_dropout_of_the_mlp():
    model = AutoInt(**SMALL, plus=True, dropout=checks.ALL)
    variables, rows = checks.random_variables(model), checks.random_rows(model)
    for i in range(2):
        variables['params'][f'layer_{i}']['value']['kernel'] *= 0
    trained = checks.train(model, variables, rows)
    assert not np.allclose(trained, checks.evaluate(model, variables, rows))
    variables['params']['tower']['out']['kernel'] *= 0
    np.testing.assert_allclose(trained, checks.evaluate(model, variables, rows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('embedding_size', 0),
        ('attention_size', 0),
        ('heads', 0),
        ('heads', 3),
        ('layers', 0),
        ('hidden', (0,)),
        ('dropout', 1.0),
    ],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        AutoInt(**{field: value})
