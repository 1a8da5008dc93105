"""Every variant of every model with every config file; what conflicts yields by one rule."""

import logging

import pytest

from dlf_jax import config as configs
from dlf_jax import models
from dlf_jax.comparison.resolve import resolve
from dlf_jax.comparison.settings import Setting
from dlf_jax.config_by_size import stand_in
from dlf_jax.errors import UsageError
from tests.conftest import ROOT

FILES = sorted(path for path in (ROOT / 'configs').glob('*.py') if path.stem != '__init__')


@pytest.mark.parametrize('model', models.MODELS)
@pytest.mark.parametrize('file', FILES, ids=lambda path: path.stem)
def test_every_config_with_every_variant(file, model):
    """What comes out is valid, is the variant, and keeps the file's settings but for what conflicts."""
    plain = resolve(file, Setting(model), {}).model
    defaults = configs.get_config(model).model
    for name, fields in models.MODELS[model].variants.items():
        config = resolve(file, Setting(model, name), {})
        assert config.variant == name
        configs.build_model(stand_in(config))
        for field, value in config.model.items():
            if field in fields:
                assert value == fields[field], (name, field)
            elif value != plain[field]:
                assert value == defaults[field], (name, field)
                config.model[field] = plain[field]
                with pytest.raises(UsageError):
                    configs.build_model(stand_in(config))
                config.model[field] = value


def config_with(model, variant, from_file=None, command_line=None):
    """A config as main has it before the variant is applied, and after."""
    config = configs.get_config(model)
    config.model.update(from_file or {})
    config.model.update(command_line or {})
    config.variant = variant
    configs.apply_choices(config, [f'model.{field}' for field in command_line or {}])
    return config.model


def test_what_conflicts_in_the_file_has_its_default_again(caplog):
    configs._log_once.cache_clear()
    with caplog.at_level(logging.INFO, 'dlf_jax'):
        for _ in range(2):
            fields = config_with('sam', '2a', {'pooling': 'weighted', 'layers': 2, 'dropout': 0.3})
    assert (fields.block, fields.pooling, fields.layers, fields.dropout) == ('2a', 'concat', 2, 0.3)
    assert caplog.messages == [
        "--variant=2a: config.model.pooling='concat', the default, in place of the config file's 'weighted', "
        'which conflicts with it'
    ]


def test_only_as_much_yields_as_must(caplog):
    # 'attention' needs heads that divide the embedding size; the size comes first in the model's order.
    with caplog.at_level(logging.INFO, 'dlf_jax'):
        fields = config_with(
            'dlf',
            'fusion=attention',
            {'embedding_size': 9, 'heads': 3, 'fusion_hidden': (8,), 'fusion': 'mlp'},
        )
    assert (fields.embedding_size, fields.heads, fields.fusion_hidden) == (9, 3, ())
    assert len(caplog.messages) == 1


def test_two_settings_yield_where_one_is_not_enough():
    fields = config_with('dlf', 'released', {'implicit_hidden': (8,), 'fusion_hidden': (8,), 'fusion': 'mlp'})
    assert (fields.implicit_hidden, fields.fusion_hidden, fields.fusion) == ((), (), 'released')


def test_the_command_line_wins_over_the_variant():
    fields = config_with('dlf', 'wo_rli', command_line={'gate': True})
    assert (fields.low_rank, fields.gate) == (False, True)
    # It may need the variant, and the file's settings yield to both.
    fields = config_with('dlf', 'released', {'implicit_hidden': (8,)}, {'input_attention': True})
    assert (fields.implicit_hidden, fields.input_attention) == ((), True)


@pytest.mark.parametrize('from_file', [{}, {'layers': 3}, {'implicit_hidden': (8,)}])
def test_a_variant_and_the_command_line_that_conflict_are_both_named(from_file):
    with pytest.raises(UsageError) as error:
        config_with('dlf', 'released', from_file, {'implicit_hidden': (400,)})
    expected = (
        '--variant=released conflicts with --config.model.implicit_hidden=(400,): config.model.implicit_'
    )
    assert str(error.value).startswith(expected)


def test_a_mistake_on_the_command_line_is_not_the_variant_s():
    """It is left as it is, for validation to name it alone."""
    fields = config_with('dlf', 'released', {'layers': 3}, {'tokens': 0})
    assert (fields.layers, fields.tokens, fields.fusion) == (3, 0, 'released')
    fields = config_with('dlf', 'full', {'heads': 3}, {'embedding_size': 10})
    assert (fields.heads, fields.embedding_size) == (3, 10)
