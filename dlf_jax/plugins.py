"""Open lists: entries by name, and entries of one's own as `module:Name` or `file.py:Name`.

`MODELS`, `DATASETS`, `METRICS` and `ROW_OPTIMIZERS` are plain dicts; whatever looks an entry up does so
through `lookup`, so a config key may also name an object outside the package. The name is what the workdir
keeps, so it is found again by evaluation, prediction and comparison.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import tokenize
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from dlf_jax.errors import UsageError, suggest

T = TypeVar('T')
# Beginning of the names of modules that are made of files here.
_PREFIX = 'dlf_jax_plugin_'


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
    """The name by which `lookup` finds a class again, in this process and in another: `file.py:Name`, or
    `module:Name` of an installed package.

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
    if {'site-packages', 'dist-packages'} & set(Path(file).parts):
        return f'{found.__module__}:{found.__name__}'
    path = Path(file).resolve()
    # Takes note of its text.
    _from_file(path)
    return f'{path}:{found.__name__}'


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


# Modules that were made of files here, and the texts that were executed, by file.
_modules: dict[Path, tuple[str, ModuleType]] = {}
# Those of modules that were imported elsewhere, as they were first seen; a reload gives another spec.
_imported: dict[Path, tuple[Any, str]] = {}


def executed_text(path: Path) -> str | None:
    """The text of a file as this process has executed it, which may have changed since; None: not known."""
    if path in _imported:
        return _imported[path][1]
    return _modules[path][0] if path in _modules else None


def text_of(path: Path) -> str:
    """The text of a Python file in the encoding that it is in, which its first lines may say."""
    with tokenize.open(path) as file:
        return file.read()


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(path)
    text = text_of(path)
    # A file that is imported already, or runs as a script, would be another module with other classes.
    for name, imported in list(sys.modules.items()):
        file = getattr(imported, '__file__', None) or ''
        if name.startswith(_PREFIX) or not file.endswith(path.name) or Path(file).resolve() != path:
            continue
        spec = getattr(imported, '__spec__', None)
        if path not in _imported or _imported[path][0] is not spec:
            _imported[path] = spec, text
        return imported
    if path in _modules and _modules[path][0] == text:
        return _modules[path][1]
    # Two files of the same name are two modules, and so are two texts of a file.
    digest = hashlib.md5(f'{path}\n{text}'.encode(), usedforsecurity=False).hexdigest()[:8]
    name = f'{_PREFIX}{path.stem}_{digest}'
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _modules[path] = text, module
    return module
