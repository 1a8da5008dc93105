"""Links of the pages that are read outside of the site lead to files; Sphinx checks those inside."""

import re

import pytest

from tests.docs.pages import name_of, pages

LINK = re.compile(r'\]\(([^)\s]+)\)')


@pytest.mark.parametrize('page', pages(), ids=name_of)
def test_relative_links_lead_to_files(page):
    for target in LINK.findall(page.read_text()):
        path = target.partition('#')[0]
        if path and not re.match(r'\w+:', path):
            assert (page.parent / path).exists(), target


def test_a_link_over_two_lines_is_seen():
    assert LINK.findall('[a\nb](docs/x.md), ![c](y.svg)') == ['docs/x.md', 'y.svg']
