"""Open lists: entries by name, and entries of one's own as `module:Name` or `file.py:Name`.

`MODELS`, `DATASETS`, `METRICS` and `ROW_OPTIMIZERS` are plain dicts; whatever looks an entry up does so
through `lookup`, so a config key may also name an object outside the package. The name is what the workdir
keeps, so it is found again by evaluation, prediction and comparison.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from dlf_jax.errors import UsageError, suggest

T = TypeVar('T')


def is_external(name: str) -> bool:
    """Whether a name is `module:Name` or `file.py:Name` rather than an entry of a list."""
    return ':' in name


def absolute(name: str) -> str:
    """The name with a `file.py` in it as an absolute path, so that it means the same from any folder."""
    place, colon, attribute = name.rpartition(':')
    if not colon or not place.endswith('.py'):
        return name
    return f'{Path(place).expanduser().resolve()}:{attribute}'


def name_of(found: type) -> str:
    """The name by which `lookup` finds a class again, in this process and in another: `file.py:Name`.

    Args:
      found: a class at the top level of a module that is a file.

    Raises:
      UsageError: it was defined inside a function, or in a notebook or at the prompt, where there is no file.
    """
    told = f'{found.__module__}.{found.__qualname__}'
    file = getattr(sys.modules.get(found.__module__), '__file__', None)
    if '.' in found.__qualname__:
        raise UsageError(
            f'{told}: expected a class at the top level of a module, where it is found by its name'
        )
    if not file or not file.endswith('.py'):
        raise UsageError(
            f'{told}: expected a class in a .py file, which the trained model keeps; write it into one (in a '
            'notebook with %%writefile) and import it'
        )
    return f'{Path(file).resolve()}:{found.__name__}'


def lookup(name: str, known: Mapping[str, T], key: str) -> T:
    """The entry called `name`, or the object that `module:Name` or `file.py:Name` stands for.

    Args:
      name: what the user wrote.
      known: the open list.
      key: the config key that holds the name, for errors.

    Raises:
      UsageError: there is no such entry, file, module or object; or importing it fails.
    """
    if name in known:
        return known[name]
    if not is_external(name):
        near = suggest(name, known)
        raise UsageError(
            f'{key}={name!r}: there is no such entry{near} (your own: module:Name or file.py:Name)'
        )
    place, _, attribute = name.rpartition(':')
    module = _module(place, f'{key}={name!r}')
    if not hasattr(module, attribute):
        names = [found for found in vars(module) if not found.startswith('_')]
        raise UsageError(f'{key}={name!r}: {place} has no {attribute!r}{suggest(attribute, names)}')
    return getattr(module, attribute)


def _module(place: str, told: str) -> ModuleType:
    try:
        return _from_file(Path(place).expanduser().resolve()) if place.endswith('.py') else _by_name(place)
    except FileNotFoundError as error:
        raise UsageError(f'{told}: there is no file {place}') from error
    except Exception as error:
        raise UsageError(f'{told}: importing {place} failed: {type(error).__name__}: {error}') from error


def _by_name(name: str) -> ModuleType:
    return importlib.import_module(name)


@functools.cache
def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(path)
    # A file that is imported already, or runs as a script, would be another module with other classes.
    for imported in list(sys.modules.values()):
        file = getattr(imported, '__file__', None) or ''
        if file.endswith(path.name) and Path(file).resolve() == path:
            return imported
    # Two files of the same name are two modules.
    name = (
        f'dlf_jax_plugin_{path.stem}_{hashlib.md5(str(path).encode(), usedforsecurity=False).hexdigest()[:8]}'
    )
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
