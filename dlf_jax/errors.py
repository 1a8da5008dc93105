"""Errors that a user can cause and mend; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# White space with a line end in it, of any kind that `str.splitlines` knows.
_LINE_ENDS = re.compile(r'\s*[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]\s*')


# Names for people by the local paths that messages would give instead: those of copies of what is in a store.
_SHOWN: dict[str, str] = {}


def show_as(path: str, name: str) -> None:
    """Lets messages give a name instead of a local path, and of what is below it.

    Args:
      path: absolute, of a file or folder.
      name: what a person knows it by, such as the URL that it is a copy of.
    """
    _SHOWN[path] = name


def shown(text: str) -> str:
    """A text with the names that people know instead of the paths of local copies."""
    if not _SHOWN:
        return text
    for path in sorted((path for path in _SHOWN if path in text), key=len, reverse=True):
        text = text.replace(path, _SHOWN[path])
    return text


class UserError(Exception):
    """One line for a person: where, what was expected, what was found, what to do. Exit code 1."""

    def __init__(self, message: str):
        """Makes one line of the message.

        Args:
          message: may quote the text of another error; line ends, with the white space around them, become
            spaces.
        """
        super().__init__(_LINE_ENDS.sub(' ', shown(message).strip()))


class UsageError(UserError):
    """The command itself is wrong: a flag, a config key, a mode. Exit code 2."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?` for the nearest known name, or the list where none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else f'; known: {", ".join(known)}'
