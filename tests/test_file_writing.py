"""JSON that every reader takes; folders that are replaced whole."""

import ast
import json
import os
from pathlib import Path

import numpy as np
import pytest

from dlf_jax import file_writing
from dlf_jax.errors import UserError
from dlf_jax.file_writing import to_json

PACKAGE = Path(__file__).parents[1] / 'dlf_jax'
# Where `json.dumps` puts text in quotes, which holds no numbers.
QUOTES = {'data/readers/file_kinds.py', 'data/schema_proposal/kinds.py'}


def strict(text):
    """Reads JSON as other programs do."""

    def refuse(name):
        raise AssertionError(f'{name} is no JSON')

    return json.loads(text, parse_constant=refuse)


RESULT = {
    'auc': float('nan'),
    'runs': [{'std': (np.float64('inf'), 0.5)}],
    'rows': 3,
    'test': None,
    'ok': True,
}


def test_undefined_numbers_of_results_are_null():
    found = strict(to_json(RESULT, undefined_as_null=True))
    assert found == {'auc': None, 'runs': [{'std': [None, 0.5]}], 'rows': 3, 'test': None, 'ok': True}


def test_elsewhere_they_are_refused():
    with pytest.raises(ValueError, match='not JSON compliant'):
        to_json(RESULT)


def test_the_package_writes_json_in_one_place():
    found = set()
    for file in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(file.read_text())):
            name = getattr(node, 'attr', None) or getattr(node, 'name', None)
            if name in ('dumps', 'dump') and getattr(getattr(node, 'value', None), 'id', 'json') == 'json':
                found.add(str(file.relative_to(PACKAGE)))
    assert found - QUOTES == {'file_writing.py'}


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / 'model'
    for text in ('one', 'two'):
        with file_writing.replacing_folder(target) as folder:
            (folder / 'file').write_text(text)
            assert not target.exists() or (target / 'file').read_text() == 'one'
        assert (target / 'file').read_text() == text
    with pytest.raises(ZeroDivisionError), file_writing.replacing_folder(target) as folder:
        (folder / 'file').write_text(str(1 / 0))
    assert (target / 'file').read_text() == 'two'
    assert [path.name for path in tmp_path.iterdir()] == ['model']


def test_two_processes_do_not_write_the_same_folder(tmp_path):
    with file_writing.replacing_folder(tmp_path / 'model') as folder:
        (folder / 'file').write_text('first')
        with (
            pytest.raises(UserError, match='another process is writing it'),
            file_writing.replacing_folder(tmp_path / 'model'),
        ):
            pass
        assert (folder / 'file').read_text() == 'first'
    assert (tmp_path / 'model' / 'file').read_text() == 'first'


def test_a_replacement_that_was_killed_is_undone(tmp_path, monkeypatch):
    target, rename = tmp_path / 'model', os.rename
    with file_writing.replacing_folder(target) as folder:
        (folder / 'file').write_text('one')

    def refused(source, to):
        if to == target and source.name.endswith('.tmp'):
            raise OSError('refused')
        rename(source, to)

    monkeypatch.setattr(os, 'rename', refused)
    with pytest.raises(OSError, match='refused'), file_writing.replacing_folder(target) as folder:
        (folder / 'file').write_text('two')
    assert (target / 'file').read_text() == 'one'
    monkeypatch.undo()
    # Killed between the two renames, with files left from before.
    rename(target, tmp_path / '.model.old')
    (tmp_path / '.model.tmp').mkdir()
    (tmp_path / '.model.tmp' / 'half').write_text('')
    with file_writing.replacing_folder(target) as folder:
        assert (target / 'file').read_text() == 'one'
        assert list(folder.iterdir()) == []
    assert list(target.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ['model']
