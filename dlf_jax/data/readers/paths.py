"""Files that a flag or config value names: paths, lists, globs, and folders of data files."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dlf_jax.data.readers.stored_files import stored_files
from dlf_jax.errors import UserError
from dlf_jax.storage import urls

# Endings of the files of a folder that are read.
ENDINGS = ('.csv', '.tsv', '.txt', '.gz', '.parquet', '.pq', '.libsvm', '.svm', '.libffm', '.ffm', '.libfm')
# Beginnings of names that programs give to files beside the data (_SUCCESS, .crc).
_HIDDEN = ('_', '.')


def expand(spec: str | Sequence[str], key: str) -> tuple[str, ...]:
    """Paths that a flag or config value names; for what is in a store, those of local copies.

    Args:
      spec: a path or URL, a folder, a glob (`**` stands for folders within folders), or several by commas;
        a comma in a name is written `\\,` in a list, and as it is in a path alone. A folder stands for its
        data files and those of its subfolders `key=value`, in the order of their names.
      key: the flag or config key, for error messages.

    Raises:
      UserError: a path that does not exist, a folder without data files, or no path at all; or a store that
        does not answer, or what is in it has no room in the local cache.
    """
    if not isinstance(spec, str):
        names = list(spec)
    elif Path(urls.plain(spec)).exists():
        names = [spec]
    else:
        pieces = re.split(r'(?<!\\),', spec)
        names = [piece.strip().replace('\\,', ',') for piece in pieces]
    paths = [path for name in names if name for path in _named(urls.plain(name), key)]
    if not paths:
        raise UserError(f'{key}: no file named')
    return tuple(paths)


def _named(name: str, key: str) -> list[str]:
    """The files that a path or URL stands for."""
    return stored_files(urls.check(name), key, ENDINGS) if urls.is_url(name) else _matches(name, key)


def _matches(name: str, key: str) -> list[str]:
    """The files that one name stands for."""
    if not glob.has_magic(name) or Path(name).exists():
        return _files(name, key)
    hidden = os.path.basename(name).startswith('_')
    found = [
        path
        for path in sorted(set(glob.glob(name, recursive=True)))
        if hidden or not os.path.basename(path).startswith('_')
    ]
    # A pattern that finds files does not mean the folders that it finds beside them.
    files = [path for path in found if Path(path).is_file()]
    files = files or [file for path in found if Path(path).is_dir() for file in _data_files(path)]
    if not files:
        raise UserError(f'{key}: no file matches {name!r}')
    return files


def _files(path: str, key: str) -> list[str]:
    if Path(path).is_dir():
        found = list(_data_files(path))
        if not found:
            raise UserError(
                f'{key}: {path} is a folder without data files ({", ".join(ENDINGS)}), in itself or in '
                f'subfolders such as day=1; name the files, for example {path.rstrip("/")}/*.data'
            )
        return found
    if not Path(path).is_file():
        raise UserError(f'{key}: no such file: {path}')
    return [path]


def _data_files(folder: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yields the data files of a folder, then those of its subfolders `key=value`, by name."""
    real = os.path.realpath(folder)
    if real in above:
        # A link to a folder that it is in.
        return
    names = sorted(name for name in os.listdir(folder) if not name.startswith(_HIDDEN))
    paths = {name: os.path.join(folder, name) for name in names}
    for name, path in paths.items():
        if name.lower().endswith(ENDINGS) and Path(path).is_file():
            yield path
    for name, path in paths.items():
        if '=' in name.strip('=') and Path(path).is_dir():
            yield from _data_files(path, (*above, real))
