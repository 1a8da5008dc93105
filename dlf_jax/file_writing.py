"""Writing of files: whole or not at all, as JSON that every reader takes, with the file system's refusals as
errors for people."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlf_jax.errors import UserError

# Error codes of a file system that takes no more: full, over quota, over the process's limit.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Turns the file system's refusals inside the block into a `UserError` that names `what`.

    Libraries wrap the system's error in their own (tensorstore raises ValueError with the text), so
    the chain of causes and the message are both looked at.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = _refusal(error)
        if reason is None:
            raise
        raise UserError(
            f'cannot write {what}: {reason}; make room or choose another place, then run the same '
            'command again: what was finished before is kept'
        ) from error


def write_atomically(path: Path, text: str) -> None:
    """Writes under a temporary name and renames, so that a reader sees all of it or nothing."""
    with writing(str(path)):
        temporary = path.with_name(f'.{path.name}.tmp')
        with open(temporary, 'w') as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def to_json(
    value: Any, *, undefined_as_null: bool = False, indent: int | None = None, sort_keys: bool = False
) -> str:
    """A value as JSON text, without the `NaN` and `Infinity` that Python writes and JSON does not know.

    Args:
      value: of dicts, lists, tuples, strings, numbers, booleans and None.
      undefined_as_null: whether a number that is not finite becomes null, as it should in results, where it
        is a metric that is undefined.
      indent: number of spaces of a level; None: all in one line.
      sort_keys: whether keys are sorted.

    Raises:
      ValueError: a number is not finite, unless `undefined_as_null`.
    """
    if undefined_as_null:
        value = _without_undefined(value)
    return json.dumps(value, allow_nan=False, indent=indent, sort_keys=sort_keys)


def _without_undefined(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_undefined(found) for key, found in value.items()}
    if isinstance(value, list | tuple):
        return [_without_undefined(found) for found in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refusal(error: BaseException | None) -> str | None:
    while error is not None:
        text = str(error)
        if (isinstance(error, OSError) and error.errno in _NO_ROOM) or 'No space left' in text:
            return 'no space left on the device'
        if 'File too large' in text:
            return 'the file would be larger than this process may write (ulimit -f)'
        if isinstance(error, PermissionError) or 'Read-only file system' in text:
            return 'no permission to write there'
        if isinstance(error, NotADirectoryError | FileExistsError):
            return f'{error.filename} is a file where a folder belongs'
        error = error.__cause__ or error.__context__
    return None
