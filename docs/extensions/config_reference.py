"""Directive `config-reference`: the keys of `dlf_jax/config.py`, made from its comments.

Each key is a `confval`, so that pages can link to it, and a link to a key that is gone ends the build.
"""

from __future__ import annotations

import inspect

import config_comments
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from dlf_jax import config as configs


class ConfigReference(SphinxDirective):
    """A section for each group of keys; `config.model` is on the models' pages."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(configs.__file__)
        return self.parse_text_to_nodes(to_markdown(inspect.getsource(configs)), allow_section_headings=True)


def to_markdown(source: str) -> str:
    """The reference as MyST Markdown, from the text of a config module."""
    lines: list[str] = []
    for section in config_comments.read(source):
        title = f'`config.{section.name}`' if section.name else 'At the top'
        lines += [f'## {title}', '', section.comment, '']
        if section.name == 'model':
            lines += ['The fields of the model that `config.model.name` selects: {doc}`models/index`.', '']
        for key in section.keys:
            lines += [f':::{{confval}} {key.name}', f':default: `{key.default}`', '', key.comment, ':::', '']
    return '\n'.join(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive('config-reference', ConfigReference)
    return {'parallel_read_safe': True}
