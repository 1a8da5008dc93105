"""The house's docstrings as napoleon and reStructuredText read them.

They are Google style, with prose instead of types before a colon, and with equations and commands in blocks
that are indented by four.
"""

from __future__ import annotations

import re
import sys
import typing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# Stands for a colon that napoleon must not see, which would take the words before it for a type.
_COLON = '\ue000'
_ENTRY = re.compile(r'\w+: ')


def before_napoleon(what: str, lines: list[str]) -> None:
    """Rewrites a docstring, in place, so that napoleon and reStructuredText read it as it is meant.

    Args:
      what: kind of the object, as Sphinx calls it.
      lines: the docstring.
    """
    if what in ('attribute', 'data', 'property') and lines:
        lines[0] = lines[0].replace(':', _COLON)
    lines[:] = _literal_blocks(_returns(lines))


def after_napoleon(lines: list[str]) -> None:
    """Gives the colons back, in place."""
    lines[:] = [line.replace(_COLON, ':') for line in lines]


def _returns(lines: list[str]) -> list[str]:
    """The entries of `Returns:` and `Yields:` as a list where there are several, as prose otherwise."""
    found = list(lines)
    for start, line in enumerate(found):
        if line not in ('Returns:', 'Yields:'):
            continue
        end = start + 1
        while end < len(found) and (not found[end] or found[end].startswith(' ')):
            end += 1
        body = found[start + 1 : end]
        entries = [text for text in body if text[:2] == '  ' and text[2:3] not in ('', ' ')]
        several = len(entries) > 1 and all(_ENTRY.match(text[2:]) for text in entries)
        for at, text in enumerate(body, start + 1):
            text = text.replace(':', _COLON)
            if several and text:
                text = f'  - {text[2:]}' if body[at - start - 1] in entries else f'  {text}'
            found[at] = text
    return found


def _literal_blocks(lines: list[str]) -> list[str]:
    """Puts `::` before blocks that follow an empty line and are indented by four or more."""
    found: list[str] = []
    above, inside = 0, False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line:
            after_empty = bool(found) and not found[-1]
            if not inside and after_empty and indent >= above + 4:
                found += [' ' * above + '::', '']
                inside = True
            elif inside and indent < above + 4:
                inside = False
            if not inside:
                above = indent
        found.append(line)
    return found


def signature(what: str, text: str | None) -> str | None:
    """A signature that Sphinx can parse.

    The arguments that Flax adds to every module are left out, and defaults that are no Python are dots.
    """
    if not text:
        return text
    if what == 'class':
        text = re.sub(r'(, )?parent: .*?, name: [^,)]*', '', text)
    return re.sub(r'=( ?)<(?:[^<>]|<[^<>]*>)*>', r'=\1...', text)


def is_type_variable(name: str) -> bool:
    """Whether a dotted name is a type variable, which has no documentation of its own to link to."""
    module, _, last = name.rpartition('.')
    return isinstance(getattr(sys.modules.get(module), last, None), typing.TypeVar)


def setup(app: Sphinx) -> dict[str, bool]:
    def before(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        before_napoleon(what, lines)

    def after(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        after_napoleon(lines)

    def parsable(
        app: Sphinx, what: str, name: str, obj: Any, options: Any, text: str | None, returned: str | None
    ) -> tuple[str | None, str | None]:
        return signature(what, text), returned

    def unlinked(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
        return content if is_type_variable(node.get('reftarget', '')) else None

    # Napoleon's own listener has the priority 500.
    app.connect('autodoc-process-docstring', before, priority=400)
    app.connect('autodoc-process-docstring', after, priority=600)
    app.connect('autodoc-process-signature', parsable)
    app.connect('missing-reference', unlinked)
    return {'parallel_read_safe': True}
