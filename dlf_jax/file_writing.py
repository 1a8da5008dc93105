"""Writing of files: whole or not at all, as JSON that every reader takes, with the file system's refusals as
errors for people."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
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
        with open(temporary, 'w', encoding='utf-8') as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


@contextlib.contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder that takes the target's place whole if the block ends well, and is gone else.

    What a killed process has left of this is cleared away; a target that it was about to replace is put back.

    Args:
      target: a folder that is not there, or may be replaced; the one that it is in is there.

    Raises:
      UserError: another process is doing the same, or the file system refuses to write.
    """
    temporary, old = (target.with_name(f'.{target.name}.{end}') for end in ('tmp', 'old'))
    with writing(str(target)), contextlib.ExitStack() as stack:
        temporary.mkdir(exist_ok=True)
        stack.enter_context(_held(temporary, target))
        _clear(temporary)
        if old.exists() and not target.exists():
            os.rename(old, target)
        try:
            yield temporary
            for path in temporary.rglob('*'):
                if path.is_file():
                    with open(path, 'rb') as file:
                        os.fsync(file.fileno())
            _put_in_place(temporary, target, old)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _held(folder: Path, target: Path) -> Iterator[None]:
    """Holds a lock on a folder, which the system drops when the process dies."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have put it in place just now.
            held = folder.exists() and os.path.samestat(os.fstat(handle), os.stat(folder))
        except BlockingIOError:
            held = False
        if not held:
            raise UserError(f'{target}: another process is writing it; wait for it, or name another folder')
        yield
    finally:
        os.close(handle)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _put_in_place(temporary: Path, target: Path, old: Path) -> None:
    if not target.exists():
        os.rename(temporary, target)
        return
    shutil.rmtree(old, ignore_errors=True)
    os.rename(target, old)
    try:
        os.rename(temporary, target)
    except BaseException:
        os.rename(old, target)
        raise
    # The new one is in place, whatever becomes of the old one.
    shutil.rmtree(old, ignore_errors=True)


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
    seen: set[int] = set()
    # One that is its own cause is looked at once.
    while error is not None and id(error) not in seen:
        seen.add(id(error))
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
