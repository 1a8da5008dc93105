"""The folder of an export: written under another name and renamed whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlf_jax.errors import UserError
from dlf_jax.file_writing import to_json, write_atomically, writing

MANIFEST = 'manifest.json'
# What `kind` in a manifest says, and the version of its form.
KIND, VERSION = 'dlf_jax export', 1


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yields an empty folder that takes the target's place if the block ends well, and is gone else.

    Args:
      target: a folder that is not there, or is an export, which the new one replaces.

    Raises:
      UserError: something else is there, or there is no folder to make it in.
    """
    # A link stays one, to the new export.
    target = Path(os.path.realpath(target))
    if not target.parent.is_dir():
        raise UserError(f'--output={target}: there is no folder {target.parent}; make it first')
    if os.path.lexists(target) and not is_export(target):
        raise UserError(
            f'--output={target}: there is something else there, which would be lost: it has no {MANIFEST} of '
            'an export; name another folder, or remove it'
        )
    temporary = target.with_name(f'.{target.name}.tmp')
    with writing(str(target)):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            _swap(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap(temporary: Path, target: Path) -> None:
    for path in temporary.iterdir():
        with open(path, 'rb') as file:
            os.fsync(file.fileno())
    if not target.exists():
        os.rename(temporary, target)
        return
    old = target.with_name(f'.{target.name}.old')
    shutil.rmtree(old, ignore_errors=True)
    os.rename(target, old)
    os.rename(temporary, target)
    shutil.rmtree(old)


def is_export(folder: Path) -> bool:
    """Whether a folder is an export, of this version of its form or another."""
    try:
        return json.loads((folder / MANIFEST).read_text())['kind'] == KIND
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_manifest(folder: Path, manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Writes the manifest, with sizes and sums of the other files.

    Args:
      folder: has all other files.
      manifest: all but `kind`, `version` and `files`.

    Returns:
      `bytes` and `sha256` by file.
    """
    files = {path.name: _facts(path) for path in sorted(folder.iterdir())}
    whole = {'kind': KIND, 'version': VERSION, **manifest, 'files': files}
    write_atomically(folder / MANIFEST, to_json(whole, indent=1) + '\n')
    return files


def _facts(path: Path) -> dict[str, Any]:
    with open(path, 'rb') as file:
        return {'bytes': path.stat().st_size, 'sha256': hashlib.file_digest(file, 'sha256').hexdigest()}
