"""The page in headless Chromium: a row is scored, what is wrong is said, and it fits a phone."""

from pathlib import Path

import pytest

from tests.server.conftest import serving

# Texts whose contrast is too low.
CONTRAST = (Path(__file__).parents[1] / 'contrast.js').read_text()


@pytest.fixture(scope='module')
def row(frame):
    """What one types."""
    found = frame.drop('click', 'tags', 'history', 'links')[5:6].to_dicts()[0]
    return {**{name: str(value) for name, value in found.items()}, 'tags': 't1, t2', 'history': 'i1|i2'}


def submit(page, row):
    """Fills the form in and submits it; returns what the page then says."""
    page.locator('#fields input').first.wait_for()
    for name, value in row.items():
        page.get_by_label(name, exact=True).fill(value)
    with page.expect_response('**/v1/score'):
        page.get_by_role('button', name='Score').click()
    page.locator('#answer:not(:empty)').wait_for()
    return page.locator('#answer').inner_text()


def test_a_row_is_scored(server, frame, row, opened):
    page = opened(server[0])
    answer = submit(page, {**row, 'user': 'nobody', 'item': ''})
    scorer = server[1].scorer
    read = {
        **row,
        'user': 'nobody',
        'item': None,
        'tags': ['t1', 't2'],
        'history': ['i1', 'i2'],
        'links': None,
    }
    expected = scorer.score(scorer.reader.rows([read])).probabilities[0]
    assert answer.startswith('Probability of a click: 0.')
    assert float(answer.split(': ')[1]) == pytest.approx(expected, rel=1e-3)
    assert page.locator('#fields label').all_inner_texts() == frame.columns[1:]
    assert page.locator('#model').inner_text() == f'model, version {scorer.version}'
    notes = page.locator('#notes li').all_inner_texts()
    assert 'user: a value that training did not have' in notes
    assert {'item: missing', 'links: missing'} <= set(notes)
    assert page.locator('#fields .unknown label').all_inner_texts() == ['user']
    assert page.noted == []
    # Nothing is asked of anybody else.
    assert all(url.startswith(server[0]) for url in page.asked)


def test_an_error_is_shown(server, row, opened):
    page = opened(server[0])
    assert "column 'price': expected a number, found 'cheap'" in submit(page, {**row, 'price': 'cheap'})
    assert page.locator('#answer.wrong').count() == 1
    assert page.locator('#notes li').count() == 0


def test_a_token_is_asked_for(scorer, row, opened):
    with serving(scorer, token='secret') as (address, _):
        page = opened(address)
        page.get_by_label('Bearer token').fill('other')
        assert 'token' in page.locator('#answer.wrong').inner_text()
        page.get_by_role('button', name='Score').click()
        page.get_by_label('Bearer token').fill('secret')
        page.get_by_role('button', name='Score').click()
        assert submit(page, row).startswith('Probability')


@pytest.mark.parametrize(('width', 'scheme'), [(390, 'light'), (1280, 'dark')])
def test_it_fits_its_width_and_its_texts_stand_out(server, row, opened, width, scheme):
    page = opened(server[0], width, scheme)
    submit(page, {**row, 'user': 'nobody'})
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    assert page.evaluate(CONTRAST) == []
