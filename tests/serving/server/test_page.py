"""The page's script, run by Node on a stand-in for a page: no browser is needed, and none is tried."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.serving.server.conftest import serving

NODE = shutil.which('node')
pytestmark = pytest.mark.skipif(NODE is None, reason='needs Node')


def page(address, row, token=''):
    """What the page shows after a row was filled in and submitted."""
    line = [NODE, str(Path(__file__).with_name('page_in_node.js')), address, json.dumps(row), token]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope='module')
def row(frame):
    """What one types."""
    found = frame.drop('click', 'tags', 'history', 'links')[5:6].to_dicts()[0]
    return {**{name: str(value) for name, value in found.items()}, 'tags': 't1, t2', 'history': 'i1|i2'}


def test_a_row_is_scored(server, model, frame, row):
    shown = page(server[0], {**row, 'user': 'nobody', 'item': ''})
    assert shown['fields'] == frame.columns[1:]
    assert shown['model'] == f'model, version {server[1].scorer.version}'
    assert shown['wrong'] == ''
    read = {
        **row,
        'user': 'nobody',
        'item': None,
        'tags': ['t1', 't2'],
        'history': ['i1', 'i2'],
        'links': None,
    }
    expected = server[1].scorer.score(server[1].scorer.reader.rows([read])).probabilities[0]
    assert shown['answer'].startswith('Probability of a click: 0.')
    assert float(shown['answer'].split(': ')[1]) == pytest.approx(expected, rel=1e-3)
    assert 'user: a value that training did not have' in shown['notes']
    assert {'item: missing', 'links: missing'} <= set(shown['notes'])
    assert shown['marked'] == ['user']


def test_an_error_is_shown(server, row):
    shown = page(server[0], {**row, 'price': 'cheap'})
    assert shown['wrong'] == 'wrong'
    assert "column 'price': expected a number, found 'cheap'" in shown['answer']
    assert shown['notes'] == []


def test_a_token_is_asked_for(scorer, row):
    with serving(scorer, token='secret') as (address, _):
        shown = page(address, row, 'secret')
        assert shown['first']['asks']
        assert 'token' in shown['first']['answer']
        assert shown['answer'].startswith('Probability')
        assert 'token' in page(address, row, 'other')['answer']
