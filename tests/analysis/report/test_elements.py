"""Text from data stays text: whatever a column is called, it is no markup."""

import html.parser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlf_jax.analysis.report import elements
from dlf_jax.analysis.report.elements import Cell, element, markup, printable, table

HOSTILE = (
    '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "'; alert(1) //", '&lt;b&gt; & &amp;',
    '</td></tr></table>', '<!-- ', ']]>', 'a\x00b', '\ud800', '\u202egnp.exe', 'x' * 5000, '',
)  # fmt: skip
texts = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(codec=None, exclude_categories=())))


class Parsed(html.parser.HTMLParser):
    """Tags with their attributes, and the text, of a page as a browser reads it."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.text = [], ''
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@given(texts)
def test_text_is_no_markup(text):
    found = Parsed(markup(element('p', text)))
    assert found.tags == [('p', {})]
    assert found.text == printable(text)


@given(texts)
def test_text_in_an_attribute_is_no_markup(text):
    found = Parsed(markup(element('p', 'x', title=text)))
    assert found.tags == [('p', {'title': printable(text)})]


@given(texts, texts)
def test_a_table_of_any_names_has_its_cells_and_no_more(name, value):
    found = Parsed(markup(table(name, [name, value], [[name, Cell(value, 1.5)]], sortable=True)))
    tags = [tag for tag, _ in found.tags]
    assert tags == ['div', 'table', 'caption', 'thead', 'tr', 'th', 'th', 'tbody', 'tr', 'th', 'td']
    assert found.text == printable(name) + 2 * (printable(name) + printable(value))
    # It can be written as a file.
    markup(table(name, [value], [])).encode()


def test_tables_name_their_columns_and_rows():
    page = markup(table('Caption', ['a', 'b'], [['r', '1']], numeric=[1]))
    assert '<caption>Caption</caption>' in page
    assert page.count('scope="col"') == 2
    assert page.count('scope="row"') == 1
    assert '<td class="n">1</td>' in page


def test_content_may_be_nested_and_left_out():
    found = element('p', 'a', None, ['b', [element('b', 'c'), 'd']], class_='x', aria_label='y', hidden_=None)
    assert markup(found) == '<p class="x" aria-label="y">ab<b>c</b>d</p>'
    assert elements.text_of(found) == 'abcd'


@pytest.mark.parametrize(('number', 'text'), [(1.5, '1.5'), (2.0, '2'), (0.123456, '0.12'), (7, '7')])
def test_numbers_of_drawings_are_short(number, text):
    assert element('rect', x=number).get('x') == text
