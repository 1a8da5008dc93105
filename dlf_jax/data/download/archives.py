"""Files taken out of a zip archive, whatever folders they are in there."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from dlf_jax.data.download.free_space import check_free_space
from dlf_jax.data.progress import Progress
from dlf_jax.file_writing import writing

_CHUNK_BYTES = 1 << 20


class Damaged(Exception):
    """An archive that cannot be read, or that lacks a file."""


def unpack(archive: Path, names: Sequence[str], folder: Path) -> Iterator[tuple[str, Path, str]]:
    """Unpacks files one by one, each under an unfinished name that the caller changes.

    Args:
      archive: zip file.
      names: names of the wanted files, without folders; each must be in the archive exactly once.
      folder: folder to unpack into; paths inside the archive are ignored, so nothing is written elsewhere.

    Yields:
      Name, path of the unpacked file (NAME.unpacking), md5 sum (hexadecimal).

    Raises:
      Damaged: not a zip file, an incomplete one, or a file is missing or is there twice.
      UserError: too little free disk space.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = {name: _member(opened, name) for name in names}
            needed = sum(member.file_size for member in members.values())
            check_free_space(folder, needed, str(archive))
            for name, member in members.items():
                path = folder / f'{name}.unpacking'
                yield name, path, _extract(opened, member, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise Damaged(f'not a whole zip archive: {error}') from error


def _member(opened: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    members = [member for member in opened.infolist() if not member.is_dir()]
    # macOS adds a second file of each name.
    paths = [(member, PurePosixPath(member.filename)) for member in members]
    found = [member for member, path in paths if path.name == name and '__MACOSX' not in path.parts]
    if len(found) != 1:
        held = ', '.join(member.filename for member in members[:8])
        raise Damaged(f'holds {len(found)} files named {name}, but: {held}')
    return found[0]


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> str:
    """Writes a member to the path and returns its md5 sum, hexadecimal; leaves no incomplete file."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with (
            opened.open(member) as source,
            writing(str(path)),
            open(path, 'wb') as file,
            Progress(f'unpacking {path.stem}', 'B', member.file_size) as progress,
        ):
            while data := source.read(_CHUNK_BYTES):
                digest.update(data)
                file.write(data)
                progress.advance(len(data))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return digest.hexdigest()
