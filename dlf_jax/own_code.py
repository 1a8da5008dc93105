"""The text of one's own models, datasets, metrics and optimizers, which a workdir keeps and compares.

What `file.py:Name` or `module:Name` stands for may change after a model was trained with it, and would then
give other scores without a word. So the text of the file is kept, and compared when the run goes on and when
its model is loaded. What the file itself imports is not looked at.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from dlf_jax import plugins
from dlf_jax.errors import UserError
from dlf_jax.file_writing import replacing_folder, to_json

# Keys that name an entry of an open list, or several.
KEYS = (
    'model.name', 'dataset.name', 'optimizer.name', 'optimizer.embedding_rows', 'training.metrics',
    'training.monitor',
)  # fmt: skip
_INDEX = 'index.json'
_WITH_DOCSTRING = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def keep(config: ConfigDict, folder: Path) -> None:
    """Writes the texts of the files that a config names, as they were executed, in place of those before.

    Args:
      config: of the run.
      folder: of the texts; there is none where the config names no file.
    """
    index: dict[str, str] = {}
    texts: dict[str, str] = {}
    for place in _places(config):
        if file := _file(place):
            stem, number = file.stem, 1
            while f'{stem}.py' in texts:
                number += 1
                stem = f'{file.stem}-{number}'
            index[place] = f'{stem}.py'
            texts[index[place]] = plugins.executed_text(file) or _text(file)
    if not index:
        shutil.rmtree(folder, ignore_errors=True)
        return
    # Killed in between, there must be the texts of before: a model without them is compared with nothing.
    with replacing_folder(folder) as temporary:
        for name, text in {**texts, _INDEX: to_json(index, indent=1) + '\n'}.items():
            (temporary / name).write_text(text, 'utf-8')


def check(folder: Path) -> None:
    """Compares the files with the kept texts. Comments, docstrings and layout do not count.

    Args:
      folder: of the texts, which need not be there.

    Raises:
      UserError: a file is gone or does something else than the kept text; says how to go on.
    """
    for place, name in read_index(folder).items():
        kept = folder / name
        file = _file(place)
        if file is None:
            where = place if place.endswith('.py') else 'where Python finds it'
            raise UserError(
                f'{place}: is not there any more, and the model was trained with it; its text is kept in '
                f'{kept}: look at it, since it will be run, then copy it to {where}'
            )
        if _meaning(file) != _meaning(kept):
            raise UserError(
                f'{file}: has changed since the model was trained with it; the text of then is {kept}: put '
                'it back (and give the new one another name); where the change makes no difference to this '
                'model, copy the new text over the kept one'
            )


def read_index(folder: Path) -> dict[str, str]:
    """Names of the kept texts, by the file or module that each is of; {} where none is kept."""
    path = folder / _INDEX
    if not path.is_file():
        return {}
    try:
        index: dict[str, str] = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: cannot be read: {error}') from error
    return index


def _places(config: ConfigDict) -> Iterator[str]:
    """The files and modules that a config's entries are from, each once."""
    seen = set[str]()
    for key in KEYS:
        section, _, name = key.partition('.')
        value = config[section][name]
        for entry in [value] if isinstance(value, str) else value:
            place = entry.rpartition(':')[0]
            if place and place not in seen:
                seen.add(place)
                yield place


def _file(place: str) -> Path | None:
    """The file of an entry's `file.py` or `module`; None where there is none that can be read as text."""
    if place.endswith('.py'):
        path = Path(plugins.absolute(f'{place}:').removesuffix(':'))
    else:
        try:
            found = importlib.util.find_spec(place)
        except (ImportError, ValueError):
            found = None
        path = Path(found.origin) if found and found.origin and found.origin.endswith('.py') else Path()
    return path if path.is_file() else None


def _text(path: Path) -> str:
    """The text of a Python file in the encoding that it is in, which its first lines may say."""
    try:
        return plugins.text_of(path)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f'{path}: cannot be read as Python: {error}') from error


def _meaning(path: Path) -> str:
    """What a file does, as text: its syntax tree without docstrings, comments and places."""
    try:
        tree = ast.parse(_text(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f'{path}: cannot be read: {error}') from error
    for node in ast.walk(tree):
        body = getattr(node, 'body', None)
        if isinstance(body, list) and body and isinstance(node, _WITH_DOCSTRING):
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                body.pop(0)
    return ast.dump(tree)
