"""The pages of the models show every model, every key of it and every variant."""

import dataclasses

import pytest

from dlf_jax.models import MODELS
from tests.conftest import ROOT

PAGES = [(ROOT / 'docs' / 'models' / name).read_text() for name in ('dlf.md', 'baselines.md', 'newer.md')]


@pytest.fixture(scope='module')
def reference():
    # Its directives need Sphinx, which the tests' environment may not have.
    source = (ROOT / 'docs' / 'extensions' / 'model_tables.py').read_text()
    assert 'sphinx' not in source
    import model_tables

    return model_tables


@pytest.mark.parametrize('name', MODELS)
def test_every_model_has_a_section(name):
    assert sum(page.count(f'```{{model-reference}} {name}\n```') for page in PAGES) == 1
    module = MODELS[name].__module__
    assert any(f'{{py:class}}`{module}.{MODELS[name].__name__}`' in page for page in PAGES)


@pytest.mark.parametrize('name', MODELS)
def test_every_key_and_variant_is_in_its_tables(name, reference):
    model = MODELS[name]
    text = reference.to_markdown(model)
    for field in dataclasses.fields(model):
        if field.name not in ('parent', 'name'):
            assert f'\n| `{field.name}` | `{field.default!r}` | ' in text
    for variant, values in model.variants.items():
        assert (f'`--variant={variant}`' in text) == bool(values)


def test_descriptions_of_attributes(reference):
    docstring = (
        'A model.\n\nAttributes:\n  width: of an\n    embedding: d.\n  rate: 0 to 1.\n\nNotes:\n  hidden: no.'
    )
    assert reference.attributes(docstring) == {'width': 'of an embedding: d.', 'rate': '0 to 1.'}


def test_a_field_without_a_description_is_named(reference):
    @dataclasses.dataclass
    class Model:
        """A model."""

        width: int = 1
        variants = {}

    with pytest.raises(KeyError, match='width'):
        reference.to_markdown(Model)


def test_open_lists_show_the_first_paragraph(reference):
    def function():
        """Adds (Sum et al.
        2000).

        And more.
        """

    class Titled:
        title = 'AUC'

    text = reference.entries({'a': function, 'b': Titled()})
    assert '| `a` | Adds (Sum et al. 2000). |' in text
    assert '| `b` | AUC |' in text
    assert reference.entries({'a': lambda: 0, 'b': 3}) == '`a`, `b`.'
