"""The whole page: head, contents, sections, script; one file that asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from collections.abc import Sequence

import dlf_jax
from dlf_jax.analysis.report import elements
from dlf_jax.analysis.report.elements import Content, Element, element, paragraph

_ASSETS = importlib.resources.files(__package__) / 'assets'
# In their order: the library first, whose listener the page's own buttons call.
_SCRIPTS = ('sortable.min.js', 'page.js')

# Links of the contents: key, title, and those below it.
Links = Sequence[tuple[str, str, Sequence[tuple[str, str]]]]


def page(title: str, lead: Content, over: str, links: Links, main: Content, notes: str = '') -> str:
    """The page as HTML.

    Nothing but what is in it may be loaded or run: the policy in its head names the style sheet and the
    script by their sums.

    Args:
      title: its heading.
      lead: a sentence or two below the heading.
      over: a line above the heading.
      links: of the contents, in their order.
      main: the sections.
      notes: what stands at its end beside the version.
    """
    style = _asset('page.css')
    script = '\n'.join(_asset(name) for name in _SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data:; style-src {_sum(style)}; script-src {_sum(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    head = element(
        'head',
        element('meta', charset='utf-8'),
        element('meta', name='viewport', content='width=device-width, initial-scale=1'),
        element('meta', http_equiv='Content-Security-Policy', content=policy),
        element('meta', name='color-scheme', content='light dark'),
        element('meta', name='generator', content=f'dlf_jax {dlf_jax.__version__}'),
        element('title', title),
        _raw('style', style),
    )
    body = element(
        'body',
        element('a', 'To the content', href='#main', class_='skip'),
        element(
            'div',
            element(
                'header',
                paragraph(over, class_='over'),
                element('h1', title),
                element('div', lead, class_='lead'),
                class_='top',
            ),
            _contents(links),
            element('main', main, id='main'),
            element('footer', f'Written by dlf_jax {dlf_jax.__version__}. ', notes),
            class_='page',
        ),
        _raw('script', script),
    )
    root = element('html', head, body, lang='en')
    return f'<!doctype html>\n{elements.markup(root)}\n'


def _contents(links: Links) -> Element:
    def link(key: str, title: str) -> Element:
        return element('a', title, href=f'#{key}')

    items = [
        element(
            'li',
            link(key, title),
            element('ul', [element('li', link(*pair)) for pair in below]) if below else None,
        )
        for key, title, below in links
    ]
    return element('nav', element('ul', items), class_='contents', aria_label='Contents')


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text('utf-8').strip()


def _raw(tag: str, text: str) -> Element:
    """An element whose text is this package's own, and is written as it is."""
    found = elements.Element(tag)
    found.text = text
    return found


def _sum(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
