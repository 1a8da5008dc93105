"""The page in headless Chromium: nothing is logged or asked for, and everything that it promises works."""

import itertools
from pathlib import Path

import pytest

from tests.analysis.report.conftest import VALUE

# Texts whose contrast is too low.
CONTRAST = (Path(__file__).parents[2] / 'contrast.js').read_text()


def texts(page, selector):
    return page.locator(selector).all_inner_texts()


def test_nothing_is_logged_and_nothing_is_asked_for(report, page):
    page.wait_for_timeout(100)
    assert page.noted == []
    assert [url for url in page.asked if not url.startswith('data:')] == [report[0].as_uri()]


def test_the_policy_lets_nothing_else_run(report, opened):
    page = opened(report[0])
    page.evaluate("""() => {
      const script = document.createElement('script');
      script.textContent = 'window.ran = 1';
      document.body.append(script);
      document.body.setAttribute('onclick', 'window.ran = 1');
      document.body.click();
    }""")
    assert page.evaluate('window.ran') is None
    assert 'Content Security Policy' in ' '.join(page.noted)


def test_every_picture_is_there_and_has_words(page):
    pictures = page.eval_on_selector_all(
        'img', 'all => all.map(i => [i.complete && i.naturalWidth > 0, i.alt.length > 10])'
    )
    assert len(pictures) >= 2
    assert all(map(all, pictures))
    charts = page.eval_on_selector_all(
        'svg.chart', "all => all.map(c => c.getAttribute('role') + c.getAttribute('aria-label'))"
    )
    assert len(charts) >= 8
    assert all(chart.startswith('img') and len(chart) > 25 for chart in charts)


@pytest.mark.parametrize(('width', 'scheme'), [(390, 'light'), (1280, 'dark')])
def test_it_fits_its_width_and_its_texts_stand_out(report, opened, width, scheme):
    page = opened(report[0], width, scheme)
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    assert page.evaluate(CONTRAST) == []


def test_a_table_is_sorted_by_the_mouse_and_by_keys(report, opened):
    page = opened(report[0])
    table = page.locator('#segments table.sortable').first
    head = table.locator('thead th').nth(4)

    def column():
        return [float(text) for text in texts(table, 'tbody td:nth-child(5)')]

    head.locator('button').click()
    page.wait_for_function("h => h.getAttribute('aria-sort') === 'descending'", arg=head.element_handle())
    page.wait_for_timeout(50)
    assert column() == sorted(column(), reverse=True)
    head.locator('button').focus()
    page.keyboard.press('Enter')
    page.wait_for_function("h => h.getAttribute('aria-sort') === 'ascending'", arg=head.element_handle())
    page.wait_for_timeout(50)
    assert column() == sorted(column())
    assert len(set(column())) > 1


def test_a_field_of_the_segments_is_chosen(report, opened):
    page = opened(report[0])
    select = page.get_by_label('Field', exact=True)
    shown = page.locator('#segments .choose > details:visible table caption')
    assert texts(select, 'option')[2] == 'price'
    assert shown.count() == 1
    select.select_option(label='price')
    assert shown.count() == 1
    assert shown.inner_text().startswith('price: ')


def test_a_value_is_told_by_the_pointer_and_by_keys(report, opened):
    page = opened(report[0])
    chart = page.locator('#training svg.chart').first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    point = chart.locator('circle').nth(1).bounding_box()
    page.mouse.move(box['x'] + 5, box['y'] + 5)
    page.mouse.move(point['x'] + 2, point['y'] + 2)
    tip = page.locator('.tip')
    assert tip.is_visible()
    assert tip.inner_text().startswith('step 4: ')
    page.mouse.move(0, 0)
    assert tip.is_hidden()
    chart.focus()
    page.keyboard.press('ArrowRight')
    assert tip.inner_text().startswith('step 2: ')


def test_without_a_script_everything_is_there_to_read(report, opened):
    page = opened(report[0], script=False)
    assert page.locator('#segments .choose > details').count() == 3
    page.locator('#segments .choose > details summary').nth(1).click()
    assert page.locator('#segments .choose > details').nth(1).locator('table').is_visible()
    assert page.locator('th button').count() == 0
    assert page.locator('svg.chart circle title').count() > 10


def test_on_paper_what_is_folded_in_is_folded_out(report, opened):
    page = opened(report[0])
    assert page.locator('details:not([open])').count() > 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator('details:not([open])').count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator('details:not([open])').count() > 0


def test_names_of_columns_and_values_are_text(page):
    assert page.evaluate("document.querySelectorAll('img[src=x], section script').length") == 0
    assert VALUE in page.locator('#segments').inner_text()


def test_headings_labels_and_tables_are_in_order(page):
    levels = page.eval_on_selector_all('h1, h2, h3, h4, h5', 'all => all.map(h => Number(h.tagName[1]))')
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert page.evaluate(
        "[...document.querySelectorAll('table')].every(t => t.caption.textContent.length > 3)"
    )
    assert page.evaluate("[...document.querySelectorAll('thead th')].every(h => h.scope === 'col')")
    assert page.evaluate("[...document.querySelectorAll('select')].every(s => s.labels.length === 1)")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    links = page.evaluate('[...document.querySelectorAll(\'a[href^="#"]\')].map(a => a.hash.slice(1))')
    assert set(links) <= set(ids)
