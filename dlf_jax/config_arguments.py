"""The arguments of a command that set keys of a config: `--config=FILE.py:MODEL --config.KEY=VALUE`."""

from __future__ import annotations

import re
import sys

from dlf_jax import config as configs
from dlf_jax import plugins
from dlf_jax.config_files import find_config_file


def select_model(argv: list[str]) -> list[str]:
    """The arguments with the config file and its model in one flag, placed first."""
    file, model, rest = configs.__file__, '', []
    arguments = iter(argv[1:])
    for argument in arguments:
        if argument in ('--config', '--config.model.name'):
            argument = f'{argument}={next(arguments, "")}'
        if argument.startswith('--config='):
            file, _, named = argument.removeprefix('--config=').partition(':')
            file, model = str(find_config_file(file)), named or model
        elif argument.startswith('--config.model.name='):
            model = argument.removeprefix('--config.model.name=')
        else:
            rest.append(_renamed(argument))
    model = plugins.absolute(model)
    return [argv[0], f'--config={file}:{model}' if model else f'--config={file}', *rest]


def _renamed(argument: str) -> str:
    """The argument with a config key of an earlier version as the key of today, with a warning."""
    key, equals, value = argument.removeprefix('--config.').partition('=')
    new = configs.RENAMED.get(key) if argument.startswith('--config.') else None
    if new is None:
        return argument
    print(f'--config.{key} is called --config.{new} now', file=sys.stderr)
    return f'--config.{new}{equals}{value}'


def explain(argv: list[str], error: Exception) -> str:
    """The mistake in one line."""
    text = str(error)
    if isinstance(error, AttributeError | KeyError):
        # ml_collections names the last part of an unknown key, and perhaps the nearest one.
        unknown = re.search(r'\w+', text.replace('\\n', ' '))
        nearest = re.search(r'Did you mean "(\w+)"', text)
        for argument in argv:
            key = argument.split('=')[0]
            if argument.startswith('--config.') and unknown and unknown[0] in key.split('.'):
                hint = f"; did you mean '{nearest[1]}'?" if nearest else ''
                return f'{key}: there is no such key{hint}'
    return ' '.join(text.split())
