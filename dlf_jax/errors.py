"""Errors that a user can cause and mend; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """One line for a person: where, what was expected, what was found, what to do. Exit code 1."""


class UsageError(UserError):
    """The command itself is wrong: a flag, a config key, a mode. Exit code 2."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?` for the nearest known name, or the list where none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else f'; known: {", ".join(known)}'
