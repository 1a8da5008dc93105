"""Directives `model-reference`, one model's config keys and variants, and `open-list`, the entries of a dict.

Both read the code, so that the pages show the defaults and entries that there are.
"""

from __future__ import annotations

import importlib
import inspect

import model_tables
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from dlf_jax.models import MODELS


class ModelReference(SphinxDirective):
    """Tables of the keys, with defaults and meanings, and of the variants of the model that is named."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        model = MODELS[self.arguments[0]]
        self.env.note_dependency(inspect.getfile(model))
        return self.parse_text_to_nodes(model_tables.to_markdown(model))


class OpenList(SphinxDirective):
    """Table of the entries of the dict that is named, such as `dlf_jax.models.MODELS`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].rpartition('.')
        found = getattr(importlib.import_module(module), name)
        return self.parse_text_to_nodes(model_tables.entries(found))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive('model-reference', ModelReference)
    app.add_directive('open-list', OpenList)
    return {'parallel_read_safe': True}
