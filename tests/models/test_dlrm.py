"""DLRM and DLRM-DCNv2: raw numbers in a bottom MLP, and what follows."""

import functools

import jax
import numpy as np
import pytest

from dlf_jax.data.schema import Field, Schema, number_field
from dlf_jax.models import Inputs, embedding
from dlf_jax.models.dlrm import DLRM
from dlf_jax.models.dlrm_dcnv2 import DLRMDCNv2
from dlf_jax.testing import check_model
from tests.models import checks
from tests.references import dlrm, dlrm_dcnv2

SMALL = {'embedding_size': 4, 'bottom_hidden': (8,), 'hidden': (6, 5)}
CROSS = {**SMALL, 'cross_layers': 2, 'rank': 2}
NAMES = ('a', 'b', 'c', 'd')


def from_tables(model, numbers):
    """The model with its last `numbers` fields numeric, whose values are read from a table, not from inputs.

    So values and gradients are compared as those of the models that read embeddings alone.
    """

    class FromTables(model):
        wants_inputs = False

        @property
        def tables(self):
            return {'embedding': self.embedding_size, 'numbers': 1}

        def logits(self, embeddings, mode):
            numeric = NAMES[len(NAMES) - numbers :]
            inputs = Inputs(NAMES, embeddings['numbers'][:, :numbers, 0], numeric, {})
            return model.logits(self, embeddings, mode, inputs)

    return FromTables


CASES = {
    'dot': ({}, 2),
    'cat': ({'interaction': 'cat', 'batch_norm': True}, 1),
    'one layer below': ({'batch_norm': True, 'bottom_hidden': ()}, 3),
}
CROSS_CASES = {'plain': ({}, 2), 'batch norm': ({'batch_norm': True, 'hidden': (12, 9)}, 1)}


@pytest.mark.parametrize('case', checks.daily(CASES, 'dot', 'cat'))
def test_reference(case):
    fields, numbers = CASES[case]
    model = from_tables(DLRM, numbers)(**{**SMALL, **fields})
    check_model(model, functools.partial(dlrm.logits, numbers=numbers))


@pytest.mark.parametrize('case', checks.daily(CROSS_CASES, 'plain'))
def test_reference_with_a_cross_network(case):
    fields, numbers = CROSS_CASES[case]
    model = from_tables(DLRMDCNv2, numbers)(**{**CROSS, **fields})
    check_model(model, functools.partial(dlrm_dcnv2.logits, numbers=numbers))


@pytest.mark.parametrize(('model', 'reference'), [(DLRM, dlrm), (DLRMDCNv2, dlrm_dcnv2)])
def test_without_numbers(model, reference):
    """There is no bottom MLP; each field is as it is."""
    built = model(**(SMALL if model is DLRM else CROSS))
    schema = Schema(tuple(Field(name, 'categorical', size=3) for name in NAMES), 'label')
    _, inputs = embedding.example(built.tables, schema, 7)
    draw = np.random.default_rng(0)
    rows = {'embedding': draw.normal(size=(7, 4, 4))}
    shapes = jax.eval_shape(functools.partial(built.init, inputs=inputs), jax.random.key(0), rows)
    variables = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape), shapes)
    assert 'numbers' not in variables['params']
    found = jax.jit(built.apply)(*jax.tree.map(np.float32, (variables, rows)), inputs=inputs)
    expected = reference.logits(variables['params'], {}, rows, False, numbers=0, **checks.fields_of(built))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize(
    ('model', 'fields', 'numbers', 'published'),
    [
        # The leaderboard's runs on Criteo, Frappe and MovieLens, without tables; and MLPerf's model.
        (DLRM(bottom_hidden=(400,) * 3, hidden=(400,) * 3, batch_norm=True), 26, 13, 801_211),
        (DLRM(hidden=(400,) * 3, batch_norm=True, interaction='cat'), 10, 0, 364_001),
        (DLRM(hidden=(400,) * 3, batch_norm=True, interaction='cat'), 3, 0, 336_001),
        (DLRMDCNv2(), 26, 13, 16_044_545),
    ],
)
def test_parameter_count(model, fields, numbers, published):
    assert checks.count(model, fields + numbers, numbers) == published


@pytest.mark.parametrize(('model', 'width'), [(DLRM, 10), (DLRMDCNv2, 128)])
def test_contract(model, width):
    checks.check_variants(model)
    assert model().tables == {'embedding': width}


def test_the_numbers_embeddings_are_not_read():
    model = DLRM(**SMALL)
    # Categorical fields come first in the embeddings.
    schema = Schema((number_field('x', 'none'), *(Field(n, 'categorical', size=3) for n in 'abc')), 'label')
    _, inputs = embedding.example(model.tables, schema, checks.BATCH)
    assert inputs.fields == ('a', 'b', 'c', 'x')
    variables, rows = jax.tree.map(np.float32, checks.random_inputs(from_tables(DLRM, 1)(**SMALL)))
    numbers, fields = rows['numbers'][:, :1, 0], rows['embedding']
    other = fields.copy()
    other[:, 3] = 7

    @jax.jit
    def logits(fields, numbers):
        return model.apply(variables, {'embedding': fields}, inputs=inputs.replace(numeric=numbers))

    found = logits(fields, numbers)
    np.testing.assert_array_equal(found, logits(other, numbers))
    assert not np.allclose(found, logits(fields, numbers + 1))


@pytest.mark.parametrize('rate', checks.daily(['dropout', 'bottom_dropout'], 'bottom_dropout'))
def test_dropout(rate):
    checks.check_dropout(from_tables(DLRM, 2)(**SMALL, **{rate: 0.5}), rate)


def test_dropout_with_a_cross_network():
    checks.check_dropout(from_tables(DLRMDCNv2, 2)(**CROSS, dropout=0.5), 'dropout')


@pytest.mark.parametrize(
    ('model', 'field', 'value'),
    [
        (DLRM, 'interaction', 'sum'),
        (DLRM, 'bottom_hidden', [8]),
        (DLRM, 'bottom_dropout', 1.0),
        (DLRMDCNv2, 'rank', 0),
        (DLRMDCNv2, 'cross_layers', 0),
        (DLRMDCNv2, 'hidden', (0,)),
    ],
)
def test_error_names_the_field(model, field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        model(**{field: value})
