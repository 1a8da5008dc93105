"""Dense parameters and steps out of proportion: when they are told, and what is said to be smaller."""

import logging
import re

import jax
import pytest

import dlf_jax
from dlf_jax import models
from dlf_jax.data.schema import Field, Schema, number_field
from dlf_jax.errors import UserError
from dlf_jax.training import model_size
from dlf_jax.training.model_setup import TrainingSetup

WIDE = Schema(
    (*(Field(f'c{i}', 'categorical', size=50) for i in range(20)),
     *(number_field(f'x{i}', 'standard') for i in range(800))),
    'y',
)  # fmt: skip
NARROW = Schema(WIDE.fields[:10], 'y')


def config_of(model, **overrides):
    return dlf_jax.load_config(model=model, overrides={'model.embedding_size': 16, **overrides})


def warning(caplog, config, schema, memory=16e9, rows=14_000):
    size = 16 * model_size.dense_count(models.build(**config.model.to_dict()), schema)
    with caplog.at_level(logging.WARNING, 'dlf_jax'):
        model_size.warn_of_proportions(config, schema, size, memory, rows)
    return caplog.text


def flags(text):
    """Config flags of a text, as overrides."""
    found = {}
    for key, value in re.findall(r"--config\.(\S+?)='?(\([^)]*\)|\d+)", text):
        found[key] = tuple(map(int, re.findall(r'\d+', value))) if value[0] == '(' else int(value)
    return found


def test_too_few_fields_are_refused():
    schema = Schema(WIDE.fields[:1], 'y')
    with pytest.raises(UserError, match=r'config.model.name: fibinet .* at least two, found 1'):
        TrainingSetup(config_of('fibinet'), schema, 10, 16)


def test_matrices_as_wide_as_all_fields_are_told(caplog, monkeypatch):
    monkeypatch.setattr(model_size, '_operations_a_second', lambda: 1e11)
    text = warning(caplog, config_of('dcnv2'), WIDE)
    assert 'dcnv2 has 522 million dense parameters for 14,000 training rows; they take 8.4 of 16 GB' in text
    assert 'and a step 128 s or more' in text
    assert 'cross/layer_0/kernel [13120, 13120]' in text
    assert '--variant=mixture (15.9 million), --config.model.embedding_size=4 (33.9 million)' in text
    assert 'both --variant=mixture and --config.model.embedding_size=4' in text
    assert 'the model mlp (5.57 million)' in text


@pytest.mark.parametrize('name', ['dcnv2', 'edcn', 'gdcn', 'pnn', 'finalmlp', 'xdeepfm', 'sam'])
def test_what_is_said_to_be_smaller_is(name):
    config = config_of(name)
    before = model_size.dense_count(models.build(**config.model.to_dict()), WIDE)
    found = model_size.smaller(config.model.to_dict(), lambda model: model_size.dense_count(model, WIDE))
    assert found
    for change in found:
        if change.flag.startswith('--variant='):
            changed = dlf_jax.load_config(
                model=name, variant=change.flag.partition('=')[2], overrides={'model.embedding_size': 16}
            )
        elif change.flag.startswith('--config'):
            changed = config_of(name, **flags(change.flag))
        else:
            continue
        count = model_size.dense_count(models.build(**changed.model.to_dict()), WIDE)
        assert count == change.size < before / 2


def test_slow_steps_without_many_parameters_are_told(caplog, monkeypatch):
    monkeypatch.setattr(model_size, '_operations_a_second', lambda: 1e11)
    text = warning(caplog, config_of('autoint'), WIDE)
    assert re.search(r'autoint has 244,\d{3} dense parameters', text)
    assert re.search(r'a step \d+ s or more', text)
    assert re.search(r'Quicker: --config\.model\.attention_size=\d+ \(\d+ s\)', text)


def test_what_is_in_proportion_is_not_told(caplog, monkeypatch):
    def never(*args):
        raise AssertionError('traced for nothing')

    monkeypatch.setattr(model_size, 'step_operations', never)
    assert not warning(caplog, config_of('dcnv2'), NARROW)


def test_many_parameters_for_many_rows_are_in_proportion(caplog, monkeypatch):
    monkeypatch.setattr(model_size, '_operations_a_second', lambda: 1e15)
    assert not warning(caplog, config_of('dcnv2'), WIDE, memory=1e12, rows=10_000_000)
    assert warning(caplog, config_of('dcnv2'), WIDE, memory=16e9, rows=10_000_000)


def test_operations_are_those_of_the_products():
    config = config_of('mlp', **{'model.hidden': (400, 400, 400)})
    model = models.build(**config.model.to_dict())
    products = 2 * 64 * (160 * 400 + 2 * 400 * 400 + 400)
    assert model_size.step_operations(model, NARROW, 64) == pytest.approx(3 * products, rel=0.1)


def test_a_state_that_no_device_holds_is_refused_with_what_is_smaller():
    config = config_of('dcnv2', **{'sharding.device_memory': 1_000_000_000})
    with pytest.raises(UserError, match=r'the state takes 8\.\d+ GB .* --variant=mixture \(15\.9 million\)'):
        TrainingSetup(config, WIDE, 100, 4096, jax.devices()[:1])


def test_gradients_are_part_of_a_state():
    setup = TrainingSetup(config_of('mlp'), NARROW, 100, 256, jax.devices()[:1])
    shapes = setup.abstract_state(1)
    params = sum(leaf.size for leaf in jax.tree.leaves(shapes.params['dense']))
    # Values, two moments, gradients; and the running statistics and counters.
    others = setup.state_bytes()[1]
    assert 16 * params <= others < 16 * params + 50_000
