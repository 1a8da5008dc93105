"""Config of a run as its flags would make it, without starting the run."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from dlf_jax import config as configs
from dlf_jax import config_checks, plugins
from dlf_jax.comparison.settings import Setting
from dlf_jax.errors import UsageError, suggest

# Config keys that have flags of their own in `dlf_jax.compare`, and those flags.
RESERVED = {
    'seed': '--seeds',
    'baselines': '--models=dlf,logistic,lightgbm',
    'variant': '--models=MODEL:VARIANT',
    'model.name': '--models',
    'dataset.name': '--dataset',
}


def config_file(folder: str, dataset: str) -> Path:
    """The config file of a dataset.

    Args:
      folder: of config files, `NAME.py` each.
      dataset: name of a dataset; of one's own, `file.py:Name`, the file may be missing: then it is that of
        the defaults.

    Raises:
      UsageError: there is no such file, with the nearest name.
    """
    directory, name = Path(folder).expanduser(), dataset.rpartition(':')[2]
    known = {path.stem for path in directory.glob('*.py')}
    if not known:
        raise UsageError(f'{directory}: no config files there; --configs=FOLDER says where they are')
    if name in known:
        return directory / f'{name}.py'
    if plugins.is_external(dataset):
        return Path(configs.__file__)
    raise UsageError(f'--dataset={dataset}: {directory} has no {name}.py{suggest(name, known)}')


def parse_overrides(arguments: Iterable[str], reserved: Mapping[str, str] = RESERVED) -> dict[str, str]:
    """Keys and values of `--config.KEY=VALUE` arguments.

    Args:
      arguments: those alone.
      reserved: keys that have flags of their own, and those flags.

    Raises:
      UsageError: an argument of another form, or a reserved key.
    """
    found = {}
    for argument in arguments:
        key, equals, value = argument.removeprefix('--config.').partition('=')
        if not equals:
            raise UsageError(f'{argument}: expected --config.KEY=VALUE')
        if key in reserved:
            raise UsageError(f'{argument}: has a flag of its own; use {reserved[key]}')
        found[key] = value
    return found


@functools.cache
def keys(file: Path, model: str) -> dict[str, object]:
    """Every dotted key of a config file for a model, with its value."""
    return dict(configs.flatten(_load([f'--config={file}:{model}'])))


def resolve(file: Path, setting: Setting, overrides: Mapping[str, str], dataset: str = '') -> ConfigDict:
    """The validated config of a setting.

    Args:
      file: the config file.
      setting: model, variant and swept keys, which win over `overrides`.
      overrides: values as text, by dotted key.
      dataset: name of the dataset; '': the config file's.

    Raises:
      UsageError: names the setting and the key.
    """
    values = {**overrides, **dict(setting.swept)}
    known = keys(file, setting.model)
    for key in values:
        if key not in known:
            section = [name for name in known if name.split('.')[0] == key.split('.')[0]]
            raise UsageError(f'{setting.name}: there is no key config.{key}{suggest(key, section or known)}')
        if key in RESERVED:
            raise UsageError(f'{setting.name}: config.{key} cannot be swept; use {RESERVED[key]}')
    try:
        config = _load([f'--config={file}:{setting.model}', *flags_of(values)])
        config.dataset.name = dataset or config.dataset.name
        config.variant = setting.variant
        configs.apply_choices(config, values)
        config_checks.validate(config)
    except (UsageError, flags.Error, TypeError, ValueError) as error:
        raise UsageError(f'{setting.name}: {" ".join(str(error).split())}') from error
    return config


def flags_of(values: Mapping[str, str]) -> list[str]:
    """`--config.KEY=VALUE` for each key."""
    return [f'--config.{key}={value}' for key, value in values.items()]


def _load(arguments: list[str]) -> ConfigDict:
    # Flags of their own: the command's flags are global, and are parsed once.
    values, argv = flags.FlagValues(), ['compare', *arguments]
    holder = config_flags.DEFINE_config_file('config', flag_values=values, sys_argv=argv)
    values(argv)
    return holder.value
