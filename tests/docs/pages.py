"""What the tests of the documentation share: its pages, and the code in them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from tests.conftest import ROOT

# `<!-- runs -->` or `<!-- runs slowly -->` before a fence says that the tests run the block.
_FENCE = re.compile(
    r'^(?:<!-- (?P<mark>runs(?: slowly)?) -->\n)?```(?P<language>\S*)\n(?P<code>.*?)^```$', re.M | re.S
)


@dataclasses.dataclass(frozen=True)
class Snippet:
    """A fenced block: `mark` is 'runs', 'runs slowly' or ''."""

    mark: str
    language: str
    code: str


def pages() -> list[Path]:
    """Markdown files that people read, by path."""
    folders = ('', 'docs/**/', 'benchmarks/', 'examples/')
    found = [page for folder in folders for page in ROOT.glob(f'{folder}*.md')]
    return sorted(found)


def name_of(page: Path) -> str:
    """Path of a page from the project's root, for the names of tests."""
    return str(page.relative_to(ROOT))


def snippets(page: Path) -> list[Snippet]:
    """Fenced blocks of a page, in their order."""
    return [
        Snippet(found['mark'] or '', found['language'], found['code'])
        for found in _FENCE.finditer(page.read_text())
    ]
