"""Wukong, in the paper's form and the library's."""

import pytest

from dlf_jax.models.wukong import Wukong
from dlf_jax.testing import check_model
from tests.models import checks
from tests.references import wukong as reference

SMALL = {
    'embedding_size': 3,
    'layers': 2,
    'fm_tokens': 3,
    'linear_tokens': 2,
    'rank': 2,
    'fm_hidden': (5,),
    'hidden': (12, 8),
}
CASES = {
    'tokens': {},
    'as many tokens as fields': {'linear_tokens': 1, 'fm_hidden': (5, 4)},
    'no hidden layers': {'layers': 1, 'fm_hidden': (), 'hidden': ()},
    'flat': {'form': 'flat'},
    'flat, no BatchNorm': {'form': 'flat', 'fm_hidden': (), 'batch_norm': False},
}


@pytest.mark.parametrize('case', CASES)
def test_reference(case):
    check_model(Wukong(**{**SMALL, **CASES[case]}), reference.logits)


@pytest.mark.parametrize('case', CASES)
def test_parameter_count(case):
    model = Wukong(**{**SMALL, **CASES[case]})
    d, k, count = 3, model.rank, checks.FIELDS
    made = model.fm_tokens + model.linear_tokens
    expected = 0
    for _ in range(model.layers):
        expected += count * k + 2 * count * k
        if model.form == 'tokens':
            expected += checks.mlp_count(count * k, model.fm_hidden, model.fm_tokens * d, False)
            expected += count * model.linear_tokens + 2 * d + (made != count) * count * made
            count = made
        else:
            width = count * d
            expected += checks.mlp_count(count * k, model.fm_hidden, model.fm_tokens, False)
            expected += checks.dense(width, model.linear_tokens) + checks.dense(made, width) + 2 * width
    expected += checks.mlp_count(count * d, model.hidden, 1, model.batch_norm)
    assert checks.count(model) == expected


def test_contract():
    checks.check_variants(Wukong)
    assert Wukong().tables == {'embedding': 10}


@pytest.mark.parametrize('form', ['tokens', 'flat'])
@pytest.mark.parametrize('rate', ['dropout', 'block_dropout'])
def test_dropout(form, rate):
    checks.check_dropout(Wukong(**SMALL, form=form, **{rate: 0.5}), rate)


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('form', 'token'),
        ('layers', 0),
        ('fm_tokens', 0),
        ('linear_tokens', -1),
        ('rank', 0),
        ('fm_hidden', [8]),
        ('hidden', (0,)),
        ('block_dropout', 1.0),
    ],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        Wukong(**{field: value})
