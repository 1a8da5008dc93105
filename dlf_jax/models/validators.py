"""Checks of a model's hyperparameters; every error names the key of `config.model` and what it accepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def _expected(key: str, value: Any, expectation: str) -> ValueError:
    return ValueError(f'model.{key}={value!r}: expected {expectation}')


def check_choice(key: str, value: Any, choices: Sequence[Any]) -> None:
    """Checks that a value is one of the choices. Raises ValueError otherwise."""
    if value not in choices:
        raise _expected(key, value, 'one of ' + ', '.join(map(repr, choices)))


def check_positive(**values: Any) -> None:
    """Checks that every value is an int of at least 1. Raises ValueError otherwise."""
    for key, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _expected(key, value, 'an int of at least 1')


def check_widths(**values: Any) -> None:
    """Checks that every value is a tuple, or (), of ints of at least 1. Raises ValueError otherwise."""
    for key, value in values.items():
        ints = isinstance(value, tuple) and all(type(width) is int for width in value)
        if not ints or any(width < 1 for width in value):
            raise _expected(key, value, 'a tuple of ints of at least 1, such as (512,) or ()')


def check_rate(**values: Any) -> None:
    """Checks that every value is a number in [0, 1). Raises ValueError otherwise."""
    for key, value in values.items():
        if not _is_rate(value):
            raise _expected(key, value, 'a number in [0, 1)')


def check_pairs(model: str, fields: int) -> None:
    """Checks that there are two fields for a model that reads pairs of them. Raises ValueError otherwise."""
    if fields < 2:
        raise ValueError(f'model.name: {model} reads pairs of fields, and needs at least two, found {fields}')


def check_own_rate(common: str, **values: Any) -> None:
    """Checks that every value is in [0, 1), or is -1, which stands for the field `common`.

    Raises ValueError otherwise.
    """
    for key, value in values.items():
        if value != -1 and not _is_rate(value):
            raise _expected(key, value, f'a number in [0, 1), or -1 for model.{common}')


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1
