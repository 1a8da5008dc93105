"""BST: equations, counts, and what its attention must keep to."""

import jax
import numpy as np
import pytest

from dlf_jax.errors import UsageError
from dlf_jax.models.bst import BST, sinusoids
from dlf_jax.testing import check_model
from tests.models import checks, histories
from tests.references import bst

# With a BatchNorm, since a bias of keys, which no softmax sees, counts as one that is taken away again.
SMALL = {'embedding_size': 4, 'hidden': (12, 9), 'batch_norm': True}
CASES = {
    'full': {},
    'sum, causal': {'causal': True, 'pooling': 'sum'},
    'two blocks': {'blocks': 2},
    'target without norms': {'layer_norm': False, 'pooling': 'target', 'heads': 4},
    'neither residuals nor places': {'residual': False, 'position': False},
}
MASKS = histories.masks()


@pytest.mark.parametrize('case', checks.daily(CASES, 'sum, causal'))
def test_reference(case):
    model = histories.from_tables(BST, MASKS)(**SMALL, **CASES[case])
    check_model(model, histories.reference_of(bst.logits, MASKS), fields=3)


@pytest.mark.slow
def test_reference_of_all_places():
    full = histories.masks({name: np.full_like(n, histories.LENGTH) for name, n in histories.LENGTHS.items()})
    model = histories.from_tables(BST, full)(**SMALL, pooling='concat')
    check_model(model, histories.reference_of(bst.logits, full), fields=3)


def test_parameter_count():
    # FuxiCTR's run on AmazonElectronics_x1, without tables.
    model = BST(
        embedding_size=64, heads=8, layer_norm=False, pooling='target', hidden=(1024, 512, 256),
        batch_norm=True,
    )  # fmt: skip
    parts = ('history_0_place', 'history_0_block', 'tower')
    assert histories.count(model, parts) == [6_464, 222_336, 988_673]


def test_no_blocks_are_mean_pooling_with_the_target():
    model = BST(**{**SMALL, 'batch_norm': False}, blocks=0, position=False)
    rows, values = histories.drawn()
    inputs = histories.inputs_of(values, MASKS)
    variables = histories.variables_of(model, inputs, rows)
    found = jax.jit(model.apply)(variables, {'embedding': rows}, inputs=inputs)
    means = []
    for i, row in enumerate(rows):
        both = np.concatenate([values['seen'][i], values['kinds'][i]], -1)[MASKS['seen'][i]]
        one = values['hidden'][i][MASKS['hidden'][i]]
        vectors = (np.mean([*both, row[:2].ravel()], 0), np.mean([*one, row[0]], 0))
        means.append(np.concatenate([row[:3].ravel(), *vectors]))
    expected = bst.blocks.mlp(variables['params']['tower'], None, np.array(means), False)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_only_places_tell_the_order():
    rows, values = histories.drawn()
    order = [2, 0, 1]
    permuted = {name: v[:, order] for name, v in values.items()}
    masks = {name: mask[:, order] for name, mask in MASKS.items()}
    found = []
    for position in (False, True):
        model = BST(**SMALL, position=position, pooling='target')
        inputs = histories.inputs_of(values, MASKS)
        variables = histories.variables_of(model, inputs, rows)
        logits = jax.jit(model.apply)
        pair = [
            logits(variables, {'embedding': rows}, inputs=i)
            for i in (inputs, histories.inputs_of(permuted, masks))
        ]
        found.append(np.allclose(*pair, rtol=1e-5, atol=1e-6))
    assert found == [True, False]


def test_places_begin_as_waves():
    waves = sinusoids(4, 5)
    assert waves.shape == (4, 5)
    second, third = 3 / 10000**0.4, 3 / 10000**0.8
    expected = [np.sin(3), np.cos(3), np.sin(second), np.cos(second), np.sin(third)]
    np.testing.assert_allclose(waves[3], expected, rtol=1e-6)


@pytest.mark.parametrize('pooling', checks.daily(['mean', 'target'], 'mean'))
def test_empty_histories_and_padding(pooling):
    histories.check_padding(BST(**SMALL, pooling=pooling))


@pytest.mark.parametrize('rate', checks.daily(['dropout', 'attention_dropout']))
def test_dropout(rate):
    checks.check_dropout(histories.from_tables(BST, MASKS)(**SMALL, **{rate: 0.5}), rate)


def test_data_without_histories_are_told_how_to_declare_one():
    model = BST(**SMALL)
    rows, options = checks.call_of(model)
    options['inputs'] = options['inputs'].replace(histories=())
    with pytest.raises(UsageError, match=r'config.model.name: BST reads histories, and the .*ordered = true'):
        model.init(jax.random.key(0), rows, **options)


def test_heads_that_do_not_divide_the_width():
    rows, values = histories.drawn()
    with pytest.raises(
        UsageError, match=r'config.model.heads=5: expected a divisor of 12, the width of an ev'
    ):
        histories.variables_of(BST(**SMALL, heads=5), histories.inputs_of(values, MASKS), rows)


@pytest.mark.parametrize(
    ('field', 'value'), [('heads', 0), ('blocks', -1), ('pooling', 'max'), ('attention_dropout', 1.0)]
)
def test_error_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf'model.{field}='):
        BST(**{field: value})
