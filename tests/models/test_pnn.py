"""PNN against its reference, and what its equations promise."""

import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.models.interactions import outer_product
from dlf_jax.models.pnn import PNN
from tests.models import checks
from tests.references import pnn

SMALL = {'embedding_size': 3, 'hidden': (6, 5)}


@pytest.mark.parametrize('fields', [{}, {'batch_norm': False}, {'hidden': ()}, {'product': 'outer'}])
def test_reference(fields):
    checks.check_against(pnn.logits, PNN(**{**SMALL, **fields}))


@pytest.mark.parametrize(('product', 'products'), [('inner', 4 * 3 // 2), ('outer', 3 * 3)])
@pytest.mark.parametrize('batch_norm', [True, False])
def test_parameters(product, products, batch_norm):
    model = PNN(**SMALL, product=product, batch_norm=batch_norm)
    assert model.tables == {'embedding': 3}
    expected = checks.mlp_count(4 * 3 + products, (6, 5), batch_norm=batch_norm)
    assert checks.count(model) == expected


def test_fields_of_the_outer_product_may_be_permuted():
    embedding = jnp.asarray(checks.random_rows(PNN(**SMALL))['embedding'], jnp.float32)
    expected = outer_product(embedding)
    np.testing.assert_allclose(outer_product(embedding[:, ::-1]), expected, rtol=1e-4, atol=1e-5)


def test_dropout():
    model = PNN(**SMALL, dropout=checks.ALL)
    variables, rows = checks.random_variables(model), checks.random_rows(model)
    expected = np.tile(variables['params']['tower']['out']['bias'], checks.BATCH)
    np.testing.assert_allclose(checks.train(model, variables, rows), expected, rtol=1e-5)
    assert not np.allclose(checks.evaluate(model, variables, rows), expected)


@pytest.mark.parametrize(
    ('field', 'value'),
    [('embedding_size', 0), ('product', 'both'), ('hidden', (0,)), ('dropout', 1.0)],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        PNN(**{field: value})
