"""What is a URL and what is a path, and the parts of URLs."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dlf_jax.errors import UsageError

_URL = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*)://')
_LOCAL = 'file'
# A name or a password before the name of a bucket or machine; a number after it is a port.
_PASSWORD = re.compile(r'[^/]*@|[^/:]*:(?!\d+(?:/|$)).*@')


def is_url(name: object) -> bool:
    """Whether a name is in a store; a path, and `file://` before one, are not."""
    if not isinstance(name, str | os.PathLike):
        return False
    found = _URL.match(os.fspath(name))
    return bool(found) and found[1].lower() != _LOCAL  # type: ignore[index]


def plain(name: str | os.PathLike) -> str:
    """A local path without `file://` and with the home folder for `~`; a URL as it is."""
    text = os.fspath(name)
    if is_url(text):
        return text
    if text.lower().startswith(f'{_LOCAL}://'):
        text = text[len(_LOCAL) + 3 :]
        text = text.removeprefix('localhost') if text.startswith('localhost/') else text
    return os.path.expanduser(text)


def whole(name: str) -> str:
    """A path from the root on, with links followed; a URL as it is."""
    return check(name) if is_url(name) else os.path.realpath(plain(name))


def local(name: str | os.PathLike, what: str) -> Path:
    """The path that a name is, where only paths can be.

    Args:
      name: path or URL.
      what: the flag or argument, for the error.

    Raises:
      UsageError: it is a URL.
    """
    if is_url(name):
        raise UsageError(f'{what}={check(name)}: takes a folder of a file system, not a URL')
    return Path(plain(name))


def check(url: str | os.PathLike) -> str:
    """The URL without a slash at its end.

    Raises:
      UsageError: it holds a password, names no bucket, or steps upwards; a password is not repeated.
    """
    text = os.fspath(url)
    place = scheme(text) + '://'
    rest = text[len(place) :]
    if _PASSWORD.match(rest):
        raise UsageError(
            f'{place}...: a name or a password in a URL would be logged; leave it out and give it to the '
            "store's library by its own means (environment, file or role)"
        )
    if not rest.strip('/'):
        raise UsageError(f'{text}: names no bucket or folder')
    if any(part in ('', '.', '..') for part in rest.strip('/').split('/')):
        raise UsageError(f'{text}: has an empty part, or "." or ".." in it')
    return place + rest.rstrip('/')


def scheme(url: str) -> str:
    """What is before `://`, such as `s3`."""
    found = _URL.match(url)
    assert found, url
    return found[1].lower()


def join(url: str, *parts: str) -> str:
    """The URL of something below another one."""
    return '/'.join((url.rstrip('/'), *parts))
