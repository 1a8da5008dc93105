"""Settings of the documentation, which `launch/docs.sh` builds; any warning ends the build."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The package as it is here, and the directives of `extensions/`.
sys.path[:0] = [str(ROOT), str(Path(__file__).parent / 'extensions')]

import dlf_jax  # noqa: E402 - found through the line above

project = 'dlf_jax'
copyright = 'the dlf_jax authors'
release = version = dlf_jax.__version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.autosummary',
    'sphinx.ext.napoleon',
    'sphinx.ext.mathjax',
    'docstrings',
    'config_reference',
    'model_reference',
]
exclude_patterns = ['templates', 'extensions']
templates_path = ['templates']

html_theme = 'furo'
html_title = f'dlf_jax {release}'
html_static_path = []

myst_enable_extensions = ['colon_fence', 'dollarmath']
# Headings down to this level can be linked to as `page.md#heading`.
myst_heading_anchors = 3

# Docstrings write `code` with single backticks.
default_role = 'literal'
# Too large to install for the signatures of two functions.
autodoc_mock_imports = ['tensorflow', 'jax.experimental.jax2tf']
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# `Parameters` are a model's weights; a function's arguments are called `Args`.
napoleon_custom_sections = ['Parameters', ('Class attributes', 'Attributes')]
autosummary_generate = True
autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
# A name is documented in the module that defines it, not in those that `__all__` of a package repeats it in.
autodoc_default_options = {
    'members': True,
    'show-inheritance': True,
    'ignore-module-all': True,
    # What scikit-learn adds to its estimators, whose texts refer to its own pages.
    'exclude-members': 'set_fit_request, set_score_request',
}

# Every reference must lead somewhere, but for
nitpicky = True
nitpick_ignore_regex = [
    # names of other projects, whose inventories would have to be fetched at each build;
    ('py:.*', r'(?!dlf_jax\.).*\..*'),
    # names of the standard library that autodoc writes without their module.
    ('py:class', r'[A-Z]\w*'),
]
