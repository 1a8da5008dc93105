"""DCN against its reference, and what its equations promise."""

import numpy as np
import pytest

from dlf_jax.models.dcn import DCN
from tests.models import checks
from tests.references import dcn

SMALL = {'embedding_size': 3, 'cross_layers': 3, 'hidden': (6, 5)}
WIDTH = checks.FIELDS * 3  # of `flat`


@pytest.mark.parametrize('fields', [{}, {'batch_norm': False, 'cross_layers': 1}, {'hidden': ()}])
def test_reference(fields):
    checks.check_against(dcn.logits, DCN(**{**SMALL, **fields}))


@pytest.mark.parametrize(('hidden', 'last'), [((6, 5), 5), ((), 0)])
@pytest.mark.parametrize('batch_norm', [True, False])
def test_parameters(hidden, last, batch_norm):
    model = DCN(embedding_size=3, cross_layers=4, hidden=hidden, batch_norm=batch_norm)
    assert model.tables == {'embedding': 3}
    tower = checks.mlp_count(WIDTH, hidden, output=0, batch_norm=batch_norm)
    assert checks.count(model) == 4 * 2 * WIDTH + tower + (WIDTH + last) + 1


def test_cross_layers_start_at_the_embeddings():
    model = DCN(**{**SMALL, 'hidden': ()})
    variables, rows = checks.random_variables(model), checks.random_rows(model)
    params = variables['params']
    params['cross'] = {name: 0 * values for name, values in params['cross'].items()}
    flat = rows['embedding'].reshape(checks.BATCH, WIDTH)
    expected = flat @ params['head']['kernel'][:, 0] + params['head']['bias']
    np.testing.assert_allclose(checks.evaluate(model, variables, rows), expected, rtol=1e-4, atol=1e-5)


def test_dropout():
    model = DCN(**SMALL, dropout=checks.ALL)
    variables, rows = checks.random_variables(model), checks.random_rows(model)
    trained = checks.train(model, variables, rows)
    assert not np.allclose(trained, checks.evaluate(model, variables, rows))
    variables['params']['head']['kernel'][WIDTH:] = 0
    np.testing.assert_allclose(trained, checks.evaluate(model, variables, rows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('field', 'value'),
    [('embedding_size', 0), ('cross_layers', 0), ('hidden', (0,)), ('dropout', 1.0)],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        DCN(**{field: value})
