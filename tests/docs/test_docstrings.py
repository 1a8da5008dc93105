"""Docstrings of the house's style become what napoleon and reStructuredText read."""

import typing

import pytest


@pytest.fixture(scope='module')
def docstrings():
    import docstrings

    return docstrings


def rewritten(docstrings, text, what='function'):
    lines = text.splitlines()
    docstrings.before_napoleon(what, lines)
    docstrings.after_napoleon(lines)
    return '\n'.join(lines)


def test_prose_before_a_colon_is_no_type(docstrings):
    lines = ['The exit code: 0.', '', 'Returns:', '  For each file: its sum.', '  More: of it.']
    docstrings.before_napoleon('property', lines)
    assert not any(':' in line for line in lines if line != 'Returns:')
    docstrings.after_napoleon(lines)
    assert lines[0] == 'The exit code: 0.'
    lines = ['Has: a colon.']
    docstrings.before_napoleon('method', lines)
    assert lines == ['Has: a colon.']


def test_several_returned_values_become_a_list(docstrings):
    text = 'Does.\n\nReturns:\n  first: one,\n    of two.\n  second: two.\n\nRaises:\n  ValueError: never.'
    assert rewritten(docstrings, text) == (
        'Does.\n\nReturns:\n  - first: one,\n    of two.\n  - second: two.\n\nRaises:\n  ValueError: never.'
    ).replace('    of two', '      of two')
    # Prose with a colon in it is prose.
    text = 'Returns:\n  A number: 1,\n  or 2.'
    assert rewritten(docstrings, text) == text


def test_blocks_indented_by_four_are_literal(docstrings):
    text = 'Computes\n\n    x = y * z\n\n    and = more\n\nof it.\n\nArgs:\n  a: of\n    two lines.'
    assert rewritten(docstrings, text) == (
        'Computes\n\n::\n\n    x = y * z\n\n    and = more\n\nof it.\n\nArgs:\n  a: of\n    two lines.'
    )


def test_signatures_can_be_parsed(docstrings):
    added = 'parent: Module | None = <object at 0x1>, name: str | None = None'
    text = f'(a: int = 1, b: list = <factory>, {added})'
    assert docstrings.signature('class', text) == '(a: int = 1, b: list = ...)'
    assert docstrings.signature('function', '(f=<function g at 0x1>)') == '(f=...)'
    assert docstrings.signature('class', None) is None


T = typing.TypeVar('T')


def test_type_variables_are_told(docstrings):
    assert docstrings.is_type_variable(f'{__name__}.T')
    assert not docstrings.is_type_variable(f'{__name__}.typing')
    assert not docstrings.is_type_variable('nowhere.T')
