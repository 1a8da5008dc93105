"""DCN-V2 against its reference, and what its equations promise."""

import numpy as np
import pytest

from dlf_jax.models.dcnv2 import DCNv2
from tests.models import checks
from tests.references import dcnv2

SMALL = {'embedding_size': 3, 'cross_layers': 2, 'rank': 2, 'experts': 3, 'hidden': (6,)}
WIDTH = checks.FIELDS * 3  # of `flat`


@pytest.mark.parametrize(
    'fields',
    [
        {},
        {'hidden': (), 'cross_layers': 3},
        {'structure': 'stacked', 'batch_norm': False, 'hidden': (6, 5)},
        {'structure': 'crossnet_only'},
        {'mixture': True},
        {'mixture': True, 'shared_gate': True, 'structure': 'crossnet_only'},
        {'mixture': True, 'structure': 'stacked'},
    ],
)
def test_reference(fields):
    checks.check_against(dcnv2.logits, DCNv2(**{**SMALL, **fields}))


@pytest.mark.parametrize('structure', ['parallel', 'stacked', 'crossnet_only'])
@pytest.mark.parametrize('cross', [{}, {'mixture': True}, {'mixture': True, 'shared_gate': True}])
@pytest.mark.parametrize('batch_norm', [True, False])
def test_parameters(structure, cross, batch_norm):
    model = DCNv2(**SMALL, **cross, structure=structure, batch_norm=batch_norm)
    assert model.tables == {'embedding': 3}
    layers, rank, experts = 2, 2, 3
    if cross:
        gates = 1 if 'shared_gate' in cross else layers
        count = layers * (experts * (2 * WIDTH * rank + rank * rank) + WIDTH) + gates * WIDTH * experts
    else:
        count = layers * (WIDTH * WIDTH + WIDTH)
    if structure != 'crossnet_only':
        count += checks.mlp_count(WIDTH, (6,), output=0, batch_norm=batch_norm)
    final = {'parallel': WIDTH + 6, 'stacked': 6, 'crossnet_only': WIDTH}[structure]
    assert checks.count(model) == count + final + 1


def test_equal_experts_are_one():
    one = DCNv2(**{**SMALL, 'experts': 1, 'structure': 'crossnet_only'}, mixture=True)
    three = DCNv2(**{**SMALL, 'structure': 'crossnet_only'}, mixture=True)
    variables, rows = checks.random_variables(one), checks.random_rows(one)
    many = checks.random_variables(three)
    # The gates stay as drawn: with equal experts they do not matter.
    params = {
        name: values
        if name.startswith('gate')
        else np.resize(variables['params']['cross'][name], values.shape)
        for name, values in many['params']['cross'].items()
    }
    many['params'] = {'cross': params, 'head': variables['params']['head']}
    expected = checks.evaluate(one, variables, rows)
    np.testing.assert_allclose(checks.evaluate(three, many, rows), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('structure', ['parallel', 'stacked'])
def test_dropout(structure):
    model = DCNv2(**SMALL, structure=structure, dropout=checks.ALL)
    variables, rows = checks.random_variables(model), checks.random_rows(model)
    trained = checks.train(model, variables, rows)
    assert not np.allclose(trained, checks.evaluate(model, variables, rows))
    variables['params']['head']['kernel'][-6:] = 0
    np.testing.assert_allclose(trained, checks.evaluate(model, variables, rows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('embedding_size', 0),
        ('cross_layers', 0),
        ('structure', 'serial'),
        ('rank', 0),
        ('experts', 0),
        ('shared_gate', True),
        ('hidden', (0,)),
        ('dropout', 1.0),
    ],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        DCNv2(**{field: value})
