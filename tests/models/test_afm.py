"""AFM against its reference, and what its equations promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.models.afm import AFM
from dlf_jax.models.fm import FM
from tests.models import checks
from tests.references import afm

SMALL = {'embedding_size': 3, 'attention_size': 5}


def test_reference():
    checks.check_against(afm.logits, AFM(**SMALL))


@pytest.mark.parametrize(('d', 'a'), [(3, 5), (10, 128)])
def test_parameters(d, a):
    model = AFM(embedding_size=d, attention_size=a)
    assert model.tables == {'embedding': d, 'linear': 1}
    assert checks.count(model) == (d * a + a) + a + d + 1


def test_fields_may_be_permuted():
    model = AFM(**SMALL)
    checks.check_permutation(model, checks.random_variables(model))


def test_equal_attention_is_the_mean_of_an_fm():
    model = AFM(**SMALL)
    variables, rows = checks.random_variables(model), checks.random_rows(model)
    params = variables['params']
    params['score']['kernel'] = np.zeros((5, 1))
    params['pool']['kernel'] = np.ones((3, 1))
    rows['linear'] *= 0
    pairs = checks.FIELDS * (checks.FIELDS - 1) / 2
    bias = params['bias']
    expected = checks.evaluate(FM(3), {'params': {'bias': np.zeros(1)}}, rows) / pairs + bias
    np.testing.assert_allclose(checks.evaluate(model, variables, rows), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('field', ['attention_dropout', 'dropout'])
def test_dropout(field):
    model = AFM(**SMALL, **{field: checks.ALL})
    variables, rows = checks.random_variables(model), checks.random_rows(model)
    # Nothing but the linear terms is left.
    expected = variables['params']['bias'] + rows['linear'].sum((1, 2))
    np.testing.assert_allclose(checks.train(model, variables, rows), expected, rtol=1e-5, atol=1e-6)
    without = checks.evaluate(AFM(**SMALL), variables, rows)
    np.testing.assert_array_equal(checks.evaluate(model, variables, rows), without)


def test_one_field_is_refused():
    rows = {table: jnp.ones((2, 1, width)) for table, width in AFM().tables.items()}
    with pytest.raises(ValueError, match=r'model.name: afm .* at least two, found 1'):
        AFM().init(jax.random.key(0), rows)


@pytest.mark.parametrize(
    ('field', 'value'),
    [('embedding_size', 0), ('attention_size', 0), ('attention_dropout', 1.0), ('dropout', -0.1)],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}={value}: '):
        AFM(**{field: value})
