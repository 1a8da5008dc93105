"""DIN: equations, counts, and what its attention must keep to."""

import jax
import numpy as np
import pytest

from dlf_jax.errors import UsageError
from dlf_jax.models.din import DIN
from dlf_jax.testing import check_model
from tests.models import checks, histories
from tests.references import din

SMALL = {'embedding_size': 4, 'attention_hidden': (6,), 'hidden': (8, 5)}
CASES = {
    'dice': {},
    'softmax and dice above': {'softmax': True, 'activation': 'dice', 'batch_norm': True},
    'prelu': {'attention_activation': 'prelu', 'attention_hidden': (6, 5)},
    'relu': {'attention_activation': 'relu', 'softmax': True, 'batch_norm': True},
}
MASKS = histories.masks()


@pytest.mark.parametrize('case', checks.daily(CASES, 'softmax and dice above'))
def test_reference(case):
    model = histories.from_tables(DIN, MASKS)(**{**SMALL, **CASES[case]})
    check_model(model, histories.reference_of(din.logits, MASKS), fields=3)


def test_parameter_count():
    # FuxiCTR's run on AmazonElectronics_x1, without tables.
    model = DIN(
        embedding_size=64, attention_hidden=(512, 256), softmax=True, hidden=(1024, 512, 256),
        activation='dice', batch_norm=True,
    )  # fmt: skip
    assert histories.count(model, ('history', 'tower')) == [395_009, 924_929]


def built(**fields):
    model = DIN(**{**SMALL, **fields})
    rows, values = histories.drawn()
    inputs = histories.inputs_of(values, MASKS)
    return model, rows, values, histories.variables_of(model, inputs, rows)


def test_weights_of_1_are_sum_pooling():
    model, rows, values, variables = built()
    for name in ('history_0', 'history_1'):
        unit = variables['params'][name]['unit']
        unit['out'] = {'kernel': 0 * unit['out']['kernel'], 'bias': np.ones(1, np.float32)}
    found = jax.jit(model.apply)(variables, {'embedding': rows}, inputs=histories.inputs_of(values, MASKS))
    seen, hidden = (np.where(MASKS[name][..., None], 1, 0) for name in ('seen', 'hidden'))
    both = np.concatenate([values['seen'], values['kinds']], -1)
    sums = (both * seen).sum(1), (values['hidden'] * hidden).sum(1)
    x = np.concatenate([rows[:, :3].reshape(len(rows), -1), *sums], 1)
    expected = din.mlp('relu', variables['params']['tower'], {}, x, False)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('softmax', [False, True])
def test_the_order_of_events_changes_nothing(softmax):
    model, rows, values, variables = built(softmax=softmax)

    @jax.jit
    def logits(values, seen, hidden):
        inputs = histories.inputs_of(values, {'seen': seen, 'hidden': hidden})
        return model.apply(variables, {'embedding': rows}, inputs=inputs)

    order = [2, 0, 1]
    permuted = {name: v[:, order] for name, v in values.items()}
    found = logits(values, MASKS['seen'], MASKS['hidden'])
    other = logits(permuted, MASKS['seen'][:, order], MASKS['hidden'][:, order])
    np.testing.assert_allclose(found, other, rtol=1e-5, atol=1e-6)
    # But what the events are does.
    assert not np.allclose(found, logits(permuted, MASKS['seen'], MASKS['hidden']))


@pytest.mark.parametrize('softmax', [pytest.param(False, marks=pytest.mark.slow), True])
def test_empty_histories_and_padding(softmax):
    histories.check_padding(DIN(**SMALL, softmax=softmax))


@pytest.mark.parametrize('rate', checks.daily(['dropout', 'attention_dropout'], 'attention_dropout'))
def test_dropout(rate):
    checks.check_dropout(histories.from_tables(DIN, MASKS)(**SMALL, **{rate: 0.5}), rate)


def test_data_without_histories_are_told_how_to_declare_one():
    model = DIN(**SMALL)
    rows, options = checks.call_of(model)
    options['inputs'] = options['inputs'].replace(histories=())
    with pytest.raises(UsageError, match=r'config.model.name: DIN reads histories, and the .*ordered = true'):
        model.init(jax.random.key(0), rows, **options)


@pytest.mark.parametrize(
    ('field', 'value'),
    [('attention_activation', 'gelu'), ('activation', 'tanh'), ('attention_hidden', (0,)), ('dropout', 1.0)],
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        DIN(**{field: value})
