"""Markdown tables of a model's config keys and variants, and of the entries of a list, made from the code."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any


def to_markdown(model: type) -> str:
    """Keys and variants of a model.

    Raises:
      KeyError: a field has no entry in the docstring's `Attributes`.
    """
    meanings = attributes(inspect.getdoc(model) or '')
    fields = [field for field in dataclasses.fields(model) if field.name not in ('parent', 'name')]
    rows = [(f'`{field.name}`', f'`{field.default!r}`', meanings[field.name]) for field in fields]
    tables = [_table(('`config.model.` key', 'default', 'meaning'), rows)] if rows else []
    variants = {name: values for name, values in model.variants.items() if values}
    if variants:
        settings = [
            (f'`--variant={name}`', ', '.join(f'`{key}={value!r}`' for key, value in values.items()))
            for name, values in variants.items()
        ]
        tables.append(_table(('variant', 'sets'), settings))
    return '\n\n'.join(tables)


def entries(found: Mapping[str, Any]) -> str:
    """Names of a list, each with the first paragraph of its entry's documentation, where any has one."""
    rows = [(f'`{name}`', _summary(value)) for name, value in found.items()]
    if not any(summary for _, summary in rows):
        return ', '.join(name for name, _ in rows) + '.'
    return _table(('name', 'entry'), rows)


def attributes(docstring: str) -> dict[str, str]:
    """Descriptions in the `Attributes:` section of a docstring in Google style, by name."""
    _, _, section = docstring.partition('\nAttributes:\n')
    found: dict[str, str] = {}
    for line in section.splitlines():
        if line and not line.startswith(' '):
            break
        if match := re.match(r' {2}(\w+): (.*)', line):
            name = match[1]
            found[name] = match[2]
        elif line.strip():
            found[name] += f' {line.strip()}'
    return found


def _summary(value: Any) -> str:
    """First paragraph of an entry's documentation, or its title; '' of a value without one of its own."""
    documented = isinstance(value, type) or inspect.isfunction(value)
    text = inspect.getdoc(value) or '' if documented else str(getattr(value, 'title', ''))
    return ' '.join(text.split('\n\n')[0].split())


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple('---' for _ in head), *rows]
    return '\n'.join('| ' + ' | '.join(cell.replace('|', '\\|') for cell in line) + ' |' for line in lines)
