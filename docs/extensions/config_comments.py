"""Reads the keys of `dlf_jax/config.py`, their defaults and their comments, from its source text."""

from __future__ import annotations

import ast
import dataclasses
import io
import tokenize
from collections.abc import Iterator


class CommentMissing(Exception):
    """Names the keys that have no comment of their own, with their lines."""


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of the config.

    Attributes:
      name: dotted, without `config.`: `training.epochs`.
      default: source text of the default.
      comment: the comment lines above it, joined; Markdown.
    """

    name: str
    default: str
    comment: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A group of keys with the same first part.

    Attributes:
      name: first part of the keys; '' for the keys at the top.
      comment: the comment lines above `config.NAME = ConfigDict()`; '' where there are none.
      keys: in the order of the source.
    """

    name: str
    comment: str
    keys: list[Key]


def read(source: str) -> list[Section]:
    """Parses the function `get_config` of a config module.

    Every `config.a.b = default` in it needs a comment of its own on the lines directly above. Of
    `config.a = ConfigDict(...)`, which begins a section, only the comment is read.

    Args:
      source: text of the module.

    Returns:
      The sections in the order of the source, that of the top first.

    Raises:
      CommentMissing: keys have no comment of their own.
    """
    comments = _comments(source)
    sections = {'': Section('', '', [])}
    missing = []
    for name, value, line in _assignments(source):
        comment = _above(comments, line)
        if _is_section(value):
            sections[name] = Section(name, comment, [])
            continue
        section = name.rpartition('.')[0]
        sections[section].keys.append(Key(name, ast.get_source_segment(source, value) or '', comment))
        if not comment:
            missing.append(f'line {line}: config.{name}')
    if missing:
        raise CommentMissing('no comment of its own on the line above: ' + ', '.join(missing))
    return list(sections.values())


def _assignments(source: str) -> Iterator[tuple[str, ast.expr, int]]:
    """Yields (dotted key, value, line) of the assignments to `config` in `get_config`."""
    for function in ast.parse(source).body:
        if not isinstance(function, ast.FunctionDef) or function.name != 'get_config':
            continue
        for statement in function.body:
            if isinstance(statement, ast.Assign) and (name := _dotted(statement.targets[0])):
                yield name, statement.value, statement.lineno


def _dotted(target: ast.expr) -> str:
    """`a.b` of the expression `config.a.b`, '' of any other."""
    parts: list[str] = []
    while isinstance(target, ast.Attribute):
        parts.insert(0, target.attr)
        target = target.value
    return '.'.join(parts) if isinstance(target, ast.Name) and target.id == 'config' else ''


def _is_section(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == 'ConfigDict'


def _comments(source: str) -> dict[int, str]:
    """Text of the comments that stand on lines of their own, by line."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.line.strip() == token.string:
            found[token.start[0]] = token.string.lstrip('#').strip()
    return found


def _above(comments: dict[int, str], line: int) -> str:
    lines: list[str] = []
    while line - 1 in comments:
        line -= 1
        lines.insert(0, comments[line])
    return ' '.join(lines)
