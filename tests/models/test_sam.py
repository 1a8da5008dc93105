"""SAM against its reference, and what its equations promise."""

import jax
import numpy as np
import pytest

from dlf_jax.models.sam import SAM
from tests.models import checks
from tests.references import sam

SMALL = {'embedding_size': 3, 'layers': 2}
F = checks.FIELDS


@pytest.mark.parametrize(
    'fields',
    [
        {},
        {'residual': False, 'pooling': 'weighted'},
        {'block': '3e'},
        {'block': '3e', 'residual': False, 'layers': 1},
        {'block': '3e', 'pooling': 'weighted'},
        {'block': '2a'},
        {'block': '2e'},
    ],
)
def test_reference(fields):
    checks.check_against(sam.logits, SAM(**{**SMALL, **fields}))


@pytest.mark.parametrize('residual', [True, False])
@pytest.mark.parametrize('pooling', ['concat', 'weighted'])
@pytest.mark.parametrize(('block', 'pair'), [('3a', F * F * 3), ('3e', 0)])
def test_parameters_of_the_third_order(block, pair, pooling, residual):
    model = SAM(**SMALL, block=block, pooling=pooling, residual=residual)
    assert model.tables == {'embedding': 3}
    head = F * 3 + 1 if pooling == 'concat' else F + 3 + 1
    assert checks.count(model) == 2 * (pair + (1 + residual) * 3 * 3) + head


@pytest.mark.parametrize(('block', 'pair'), [('2a', F * F * 3), ('2e', 0)])
def test_parameters_of_the_second_order(block, pair):
    assert checks.count(SAM(**SMALL, block=block)) == pair + F * F * 3 + 1


def test_pair_vectors_and_pooling_start_at_one():
    model = SAM(**SMALL, pooling='weighted')
    params = model.init(jax.random.key(0), checks.random_rows(model))['params']
    for values in (params['pool'], params['layer_0']['pair'], params['layer_1']['pair']):
        np.testing.assert_array_equal(values, 1)


def test_fields_may_be_permuted_with_the_head():
    model = SAM(**SMALL, block='3e')
    variables, rows = checks.random_variables(model), checks.random_rows(model)
    expected = checks.evaluate(model, variables, rows)
    checks.permute_kernel(variables['params']['head'])
    permuted = checks.permute_fields(rows)
    np.testing.assert_allclose(checks.evaluate(model, variables, permuted), expected, rtol=1e-4, atol=1e-5)


def test_fields_may_be_permuted_with_the_pool():
    model = SAM(**SMALL, block='3e', pooling='weighted')
    variables = checks.random_variables(model)
    variables['params']['pool'] = np.ones((F, 1))
    checks.check_permutation(model, variables)


@pytest.mark.parametrize('block', ['2a', '2e', '3a', '3e'])
def test_dropout(block):
    model = SAM(**SMALL, block=block, dropout=checks.ALL)
    variables, rows = checks.random_variables(model), checks.random_rows(model)
    expected = np.tile(variables['params']['head']['bias'], checks.BATCH)
    np.testing.assert_allclose(checks.train(model, variables, rows), expected, rtol=1e-5)
    assert not np.allclose(checks.evaluate(model, variables, rows), expected)


@pytest.mark.parametrize(
    ('field', 'value'),
    [('embedding_size', 0), ('block', '3b'), ('layers', 0), ('pooling', 'mean'), ('dropout', 1.0)],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        SAM(**{field: value})


@pytest.mark.parametrize('block', ['2a', '2e'])
def test_second_order_cannot_be_pooled(block):
    with pytest.raises(ValueError, match=r"model.pooling='weighted': needs model.block="):
        SAM(block=block, pooling='weighted')
