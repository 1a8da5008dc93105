"""The folder of an export: written under another name and renamed whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from dlf_jax.errors import UserError
from dlf_jax.file_writing import replacing_folder, to_json, write_atomically

MANIFEST = 'manifest.json'
# What `kind` in a manifest says, and the version of its form: 1 had no encoder, dataset and step.
KIND, VERSION = 'dlf_jax export', 2


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
    folders = {parent.as_posix() for name in own for parent in PurePosixPath(name).parents}
    found = (path.relative_to(folder).as_posix() for path in folder.rglob('*'))
    return sorted(set(found) - own - folders)


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
      `bytes` and `sha256` by file; by its path, where it lies in a folder within.
    """
    files = {name: _facts(folder / name) for name in _files(folder)}
    whole = {'kind': KIND, 'version': VERSION, **manifest, 'files': files}
    write_atomically(folder / MANIFEST, to_json(whole, indent=1) + '\n')
    return files


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export, whose files are as they were written.

    Raises:
      UserError: it is of another version of its form, or a file is missing or damaged; names the file.
    """
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    if manifest['version'] != VERSION:
        raise UserError(
            f'{folder / MANIFEST}: expected version {VERSION}, found {manifest["version"]!r}; export again'
        )
    for name, facts in manifest['files'].items():
        path = folder / name
        if not path.is_file() or _facts(path) != facts:
            raise UserError(f'{path}: is not the file that was exported; copy it again, or export again')
    return manifest


def _files(folder: Path) -> list[str]:
    """Paths of all files of a folder, from there."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file())


def _facts(path: Path) -> dict[str, Any]:
    with open(path, 'rb') as file:
        return {'bytes': path.stat().st_size, 'sha256': hashlib.file_digest(file, 'sha256').hexdigest()}
