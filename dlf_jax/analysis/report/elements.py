"""Elements of the page, built as a tree, so that no text from data can become markup.

The standard library's `xml.etree` holds the tree and escapes what it writes.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from typing import TypeAlias

Element: TypeAlias = ET.Element
# What an element may contain; None is nothing.
Content: TypeAlias = 'Element | str | Iterable[Content] | None'

# Characters that a page cannot hold, or that turn the text around them: controls, halves of pairs, marks of
# direction.
_UNPRINTABLE = re.compile(
    '[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]'
)
# In attributes of SVG and HTML that are read as numbers.
_DIGITS = 2


def element(tag: str, *content: Content, **attributes: str | int | float | None) -> Element:
    """An element; text in it stays text, whatever it holds.

    Args:
      tag: its name.
      content: elements, texts, lists of them; None is left out.
      attributes: by name, with `_` for `-`, and `class_` for `class`; None is left out.
    """
    named = {name.rstrip('_').replace('_', '-'): value for name, value in attributes.items()}
    found = ET.Element(tag, {name: _text(value) for name, value in named.items() if value is not None})
    _append(found, content)
    return found


def _append(parent: Element, content: Content) -> None:
    if content is None:
        return
    if isinstance(content, str):
        text = printable(content)
        if len(parent):
            parent[-1].tail = (parent[-1].tail or '') + text
        else:
            parent.text = (parent.text or '') + text
    elif isinstance(content, Element):
        parent.append(content)
    else:
        for part in content:
            _append(parent, part)


def _text(value: str | int | float) -> str:
    if isinstance(value, float):
        return f'{value:.{_DIGITS}f}'.rstrip('0').rstrip('.')
    return printable(str(value))


def printable(text: str) -> str:
    """The text with what no page can hold as the sign of a character that is none."""
    return _UNPRINTABLE.sub('\ufffd', text)


def markup(root: Element) -> str:
    """The element as HTML."""
    return ET.tostring(root, encoding='unicode', method='html')


def text_of(root: Element) -> str:
    """The text in an element, without its markup."""
    return ''.join(root.itertext())


class Cell:
    """A cell of a table.

    Attributes:
      content: what it shows.
      value: number that it is sorted by; None: by its text.
    """

    def __init__(self, content: Content, value: float | None = None, class_: str | None = None):
        self.content, self.value, self.class_ = content, value, class_


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[Cell | Content]],
    *,
    sortable: bool = False,
    numeric: Iterable[int] = (),
    hidden_caption: bool = False,
) -> Element:
    """A table whose first column names the rows.

    Args:
      caption: says what it holds.
      head: names of the columns.
      rows: cells, as many as `head` has.
      sortable: whether the page's script lets the reader sort it.
      numeric: numbers of the columns that are set to the right.
      hidden_caption: whether only readers that speak say the caption, where a heading above says the same.
    """
    right = set(numeric)

    def cell(tag: str, place: int, content: Cell | Content, **attributes: str) -> Element:
        found = content if isinstance(content, Cell) else Cell(content)
        classes = ' '.join(filter(None, ('n' if place in right else '', found.class_)))
        value = None if found.value is None else _as_script_reads(found.value)
        return element(tag, found.content, class_=classes or None, data_sort=value, **attributes)

    body = [
        element(
            'tr',
            [cell('td' if i else 'th', i, c, **({} if i else {'scope': 'row'})) for i, c in enumerate(row)],
        )
        for row in rows
    ]
    found = element(
        'table',
        element('caption', caption, class_='spoken' if hidden_caption else None),
        element('thead', element('tr', [cell('th', i, name, scope='col') for i, name in enumerate(head)])),
        element('tbody', body),
        class_='sortable n-last' if sortable else None,
    )
    # It scrolls by itself where it is wider than the page; a region that scrolls must be reached by keys.
    return element('div', found, class_='wide', role='region', aria_label=caption, tabindex='0')


def _as_script_reads(value: float) -> str | None:
    """A number for the page's script; None where it is none."""
    if math.isinf(value):
        return 'Infinity' if value > 0 else '-Infinity'
    return None if math.isnan(value) else repr(float(value))


def definitions(pairs: Iterable[tuple[str, Content]], class_: str | None = None) -> Element:
    """A list of names and what they stand for."""
    rows = [element('div', element('dt', name), element('dd', value)) for name, value in pairs]
    return element('dl', rows, class_=class_)


def details(summary: Content, *content: Content, open_: bool = False) -> Element:
    """What the reader may fold out."""
    return element('details', element('summary', summary), *content, **({'open': ''} if open_ else {}))


def paragraph(*content: Content, class_: str | None = None) -> Element:
    """A paragraph."""
    return element('p', *content, class_=class_)


def figure(caption: Content, *content: Content, class_: str | None = None) -> Element:
    """A figure with its caption above."""
    return element('figure', element('figcaption', caption), *content, class_=class_)
