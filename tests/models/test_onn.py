"""ONN: an embedding for each pair of fields."""

import functools

import jax
import numpy as np
import pytest

from dlf_jax.config import get_config
from dlf_jax.data.schema import Field, Schema, number_field
from dlf_jax.errors import UserError
from dlf_jax.models.onn import ONN
from dlf_jax.models.pnn import PNN
from dlf_jax.testing import check_model
from dlf_jax.training import train_state
from dlf_jax.training.model_setup import TrainingSetup
from tests.models import checks
from tests.references import onn as reference

SMALL = {'embedding_size': 2, 'hidden': (6, 5)}


def test_reference():
    check_model(ONN(**SMALL, batch_norm=True), reference.logits)


def test_parameter_count():
    model = ONN(embedding_size=3, hidden=(6, 5))
    assert checks.count(model, 5) == checks.mlp_count(5 * 3 + 10, (6, 5), 1, False)


def test_contract():
    checks.check_variants(ONN)
    assert ONN().tables_of(7) == {'embedding': 14}


def test_the_table_grows_with_the_fields():
    """Categorical, numeric and multi-valued fields alike."""
    fields = (
        Field('a', 'categorical', size=7),
        number_field('x', 'none'),
        Field('tags', 'multi-valued', pooling='sum', length=2, size=5),
    )
    model, schema = ONN(embedding_size=4), Schema(fields, 'label')
    create = functools.partial(train_state.create, model=model, schema=schema, std=0.1)
    state = jax.eval_shape(create, np.int32(0))
    assert state.params['tables']['categorical']['embedding'].shape == (12, 3 * 4)
    assert state.params['dense']['embedding']['numeric']['embedding'].shape == (1, 3 * 4)


def test_what_the_table_takes_is_known_before_it_is_made():
    config = get_config('onn')
    schema = Schema(tuple(Field(name, 'categorical', size=1000) for name in 'abc'), 'label')
    # Values, two moments and a gradient of 3000 rows of 3 fields x 2 numbers.
    setup = TrainingSetup(config, schema, 100, 8, jax.devices()[:1])
    assert setup.state_bytes()[0] == 4 * 3000 * 3 * 2 * 4
    config.sharding.device_memory = 250_000
    with pytest.raises(UserError, match=r'the state takes .* smaller --config.model.embedding_size'):
        TrainingSetup(config, schema, 100, 8, jax.devices()[:1])


def test_equal_slices_give_inner_products():
    onn, ipnn = ONN(**SMALL), PNN(**SMALL, product='inner', batch_norm=False)
    variables, rows = jax.tree.map(np.float32, checks.random_inputs(ipnn))
    wide = {'embedding': np.tile(rows['embedding'], (1, 1, 4))}
    found, expected = jax.jit(lambda: (onn.apply(variables, wide), ipnn.apply(variables, rows)))()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_dropout():
    checks.check_dropout(ONN(**SMALL, dropout=0.5), 'dropout')


@pytest.mark.parametrize(('field', 'value'), [('embedding_size', 0), ('hidden', [8]), ('dropout', 1.0)])
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        ONN(**{field: value})
