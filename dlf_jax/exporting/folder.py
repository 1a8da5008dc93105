"""The folder of an export: written under another name and renamed whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlf_jax.errors import UserError
from dlf_jax.file_writing import replacing_folder, to_json, write_atomically

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
    if os.path.lexists(target):
        if not is_export(target):
            raise UserError(
                f'--output={target}: there is something else there, which would be lost: it has no '
                f'{MANIFEST} of an export; name another folder, or remove it'
            )
        if others := _others(target):
            raise UserError(
                f'--output={target}: {others[0]!r} is no part of the export there, and would be lost; '
                'move it, or name another folder'
            )
    with replacing_folder(target) as temporary:
        yield temporary


def _others(folder: Path) -> list[str]:
    """Names in an export's folder that are not its own."""
    own = {MANIFEST, *json.loads((folder / MANIFEST).read_text()).get('files', {})}
    return sorted(path.name for path in folder.iterdir() if path.name not in own)


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
