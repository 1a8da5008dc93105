"""RankMixer: tokens, their mixing, and the networks of each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.errors import UsageError
from dlf_jax.models import Inputs
from dlf_jax.models.rankmixer import RankMixer, cut, mix
from dlf_jax.testing import check_model
from tests.models import checks
from tests.references import rankmixer as reference

SMALL = {'embedding_size': 2, 'tokens': 3, 'token_size': 6, 'layers': 2, 'expansion': 2}
CASES = {
    'post': {},
    'one projection, head': {'shared_projection': True, 'hidden': (4,), 'layers': 1},
    'pre': {'norm': 'pre', 'pooling': 'flat', 'tokens': 2, 'expansion': 3, 'layers': 1},
}


@pytest.mark.parametrize('case', checks.daily(CASES, 'post', 'pre'))
def test_reference(case):
    check_model(RankMixer(**{**SMALL, **CASES[case]}), reference.logits)


def test_parameter_count():
    # 529,920 in the blocks, as told of the form that is a default here.
    d, fields, tokens, width = 10, 10, 8, 64
    chunk = -(-fields * d // tokens)
    expected = 529_920 + tokens * checks.dense(chunk, width) + checks.dense(width, 1)
    assert checks.count(RankMixer(embedding_size=d), fields) == expected
    shared = expected - (tokens - 1) * checks.dense(chunk, width)
    assert checks.count(RankMixer(embedding_size=d, shared_projection=True), fields) == shared
    before = expected + 2 * width + checks.dense(tokens * width, 1) - checks.dense(width, 1)
    assert checks.count(RankMixer(embedding_size=d, norm='pre', pooling='flat'), fields) == before


def test_contract():
    checks.check_variants(RankMixer)
    assert RankMixer().tables == {'embedding': 16}


def test_mixing():
    tokens = jnp.arange(8.0).reshape(1, 2, 4)
    np.testing.assert_array_equal(mix(tokens), [[[0, 1, 4, 5], [2, 3, 6, 7]]])
    many = jax.random.normal(jax.random.key(0), (3, 4, 8))
    np.testing.assert_array_equal(mix(mix(many)), many)


def test_chunks():
    flat = jnp.arange(1.0, 6).reshape(1, 5)
    np.testing.assert_array_equal(cut(flat, 3), [[[1, 2], [3, 4], [5, 0]]])


def test_named_fields_come_first():
    named = RankMixer(**SMALL, order=('c', 'a'))
    plain = RankMixer(**SMALL)
    variables, rows = jax.tree.map(np.float32, checks.random_inputs(plain))
    fields = ('a', 'b', 'c', 'd')
    inputs = Inputs(fields, np.zeros((len(checks.MASK), 0)), (), {})
    found = jax.jit(named.apply)(variables, rows, inputs=inputs)
    expected = jax.jit(plain.apply)(variables, {'embedding': rows['embedding'][:, [2, 0, 1, 3]]})
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(UsageError, match=r"config.model.order: there is no field 'e'"):
        jax.eval_shape(RankMixer(**SMALL, order=('e',)).apply, variables, rows, inputs=inputs)


def test_dropout():
    checks.check_dropout(RankMixer(**SMALL, dropout=0.5), 'dropout')


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('tokens', 7),
        ('layers', 0),
        ('expansion', 0),
        ('order', ('a', 'a')),
        ('order', 'user'),
        ('norm', 'none'),
        ('pooling', 'max'),
        ('hidden', [4]),
        ('dropout', 1.0),
    ],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        RankMixer(**{field: value})
