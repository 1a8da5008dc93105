"""Config files of the project: `configs/` in a checkout, `dlf_jax/configs/` in an installed wheel."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from dlf_jax.errors import UsageError, suggest


def folder() -> Path:
    """The folder of the config files that come with the package, and of their `spaces/`."""
    installed = Path(str(importlib.resources.files('dlf_jax') / 'configs'))
    # A checkout, also one that is installed as editable, has them beside the package.
    return installed if installed.is_dir() else Path(__file__).parents[1] / 'configs'


def find_config_file(name: str) -> Path:
    """The config file that a name stands for.

    Args:
      name: a path; or `configs/NAME.py` from any folder, which is the one that comes with the package where
        the current folder has none.

    Returns:
      The path of a file.

    Raises:
      UsageError: there is no such file; with the nearest name in the package.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.parent == Path('configs') and (folder() / path.name).is_file():
        return folder() / path.name
    known = [f'configs/{file.name}' for file in folder().glob('*.py')]
    raise UsageError(f'--config={name}: there is no such file{suggest(name, known)}')
