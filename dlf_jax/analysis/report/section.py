"""A section of the page: its heading, what it shows, or what is missing for it."""

from __future__ import annotations

import dataclasses
import re

from dlf_jax.analysis.report.elements import Content, Element, details, element, paragraph

# Lines of a command that is not folded in.
_SHORT = 4
# Of a folder in which nothing is trained.
SAVED = 'A saved model has no scores; the report of the run that it was saved from shows more.'
_FLAG = re.compile(r'(--[\w.]+(?:=[^\s;,)]+)?)')


@dataclasses.dataclass(frozen=True)
class Section:
    """A section.

    Attributes:
      key: its place in the address of the page.
      title: its heading.
      content: what stands below; headings in it begin with h3.
      there: whether it shows what it is for; where not, it says what is missing.
    """

    key: str
    title: str
    content: tuple[Content, ...]
    there: bool = True


def section(key: str, title: str, *content: Content) -> Section:
    """A section that shows something."""
    return Section(key, title, content)


def missing(key: str, title: str, sentence: str, command: str = '') -> Section:
    """A section that says what is missing for it, and which command brings it."""
    return Section(key, title, (note(sentence, command),), there=False)


def note(sentence: str, command: str = '') -> Element:
    """What is missing, and which command brings it."""
    code: Element | None = None
    if command:
        code = element('pre', element('code', command))
        if command.count('\n') > _SHORT:
            code = details('The command', code)
    return element('div', paragraph(with_flags(sentence)), code, class_='note')


def with_flags(text: str) -> list[Content]:
    """The text with its flags as code, which no line breaks apart."""
    parts = _FLAG.split(text)
    return [element('code', part) if i % 2 else part for i, part in enumerate(parts)]


def draw(one: Section, level: int = 2, prefix: str = '', of: str = '') -> Element:
    """The section as an element.

    Args:
      one: the section.
      level: level of its heading; those below follow.
      prefix: of its key, for pages with several runs.
      of: name of the run that it is of, where there are several.
    """
    key = f'{prefix}{one.key}'
    heading = element(f'h{level}', one.title, id=f'{key}-title', class_='part' if level > 2 else None)
    # Regions of a page have different names.
    label = f'{one.title}, {of}' if of else one.title
    found = element('section', heading, list(one.content), id=key, aria_label=label)
    for part in found.iter():
        if part is not heading and part.tag in ('h3', 'h4'):
            part.tag = f'h{int(part.tag[1]) + level - 2}'
        if of and part.get('role') == 'region':
            part.set('aria-label', f'{part.get("aria-label")}, {of}')
    return found
