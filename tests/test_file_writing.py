"""JSON that every reader takes."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

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
