"""The reference of the config is made from the comments of its source."""

import ast
import inspect

import pytest

from dlf_jax import config as configs

SOURCE = '''
def helper(config):
    config.other = 1


def get_config(model='dlf'):
    """Defaults."""
    config = ConfigDict()
    # Seed of everything.
    config.seed = 0

    # Paragraph of the section.
    config.training = ConfigDict()
    # Maximum number of epochs,
    # and more of `it`.
    config.training.epochs = 1_000  # not this
    # A tuple.
    config.training.shares = (7.0, 2.0)
    config.model = ConfigDict({'name': model})
    return config
'''


def test_sections_keys_defaults_and_comments():
    import config_comments

    top, training, model = config_comments.read(SOURCE)
    assert (top.name, top.comment) == ('', '')
    assert top.keys == [config_comments.Key('seed', '0', 'Seed of everything.')]
    assert (training.name, training.comment) == ('training', 'Paragraph of the section.')
    assert training.keys == [
        config_comments.Key('training.epochs', '1_000', 'Maximum number of epochs, and more of `it`.'),
        config_comments.Key('training.shares', '(7.0, 2.0)', 'A tuple.'),
    ]
    assert (model.name, model.comment, model.keys) == ('model', '', [])


@pytest.mark.parametrize(
    'lines', ['', '# Far away.\n\n    ', '# Of the key before.\n    config.a.b = 2\n    ']
)
def test_a_key_without_a_comment_of_its_own_is_named(lines):
    import config_comments

    source = f'def get_config():\n    config.a = ConfigDict()\n    {lines}config.a.c = 1\n'
    line = source.count('\n', 0, source.index('config.a.c')) + 1
    with pytest.raises(config_comments.CommentMissing, match=rf'line {line}: config\.a\.c'):
        config_comments.read(source)


def test_every_key_of_the_config_is_documented():
    import config_comments

    sections = config_comments.read(inspect.getsource(configs))
    documented = [key.name for section in sections for key in section.keys]
    keys = [key for key, _ in configs.flatten(configs.get_config()) if not key.startswith('model.')]
    assert sorted(documented) == sorted(keys)


def test_defaults_are_those_of_the_config():
    import config_comments

    values = dict(configs.flatten(configs.get_config()))
    for section in config_comments.read(inspect.getsource(configs)):
        for key in section.keys:
            assert ast.literal_eval(key.default) == values[key.name], key.name
