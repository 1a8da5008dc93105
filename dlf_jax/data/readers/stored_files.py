"""Files in a store that a URL names, as `paths` has it for paths: objects, globs, folders of data files."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable

from dlf_jax.errors import UserError
from dlf_jax.storage import inputs, urls
from dlf_jax.storage.object_info import Info

_HIDDEN = ('_', '.')
_WILDCARD = re.compile(r'[*?[]')


def stored_files(url: str, key: str, endings: tuple[str, ...]) -> list[str]:
    """Paths of local copies of the objects that a URL names.

    Args:
      url: of an object; a glob; or of a folder, which stands for its data files and those of its subfolders
        `key=value`.
      key: the flag or config key, for error messages.
      endings: of the names of data files, in small letters.

    Raises:
      UserError: there are none, the store does not answer, or they have no room in the local cache.
    """
    if glob.has_magic(url):
        found = _matching(url, endings)
        if not found:
            raise UserError(f'{key}: no file matches {url!r}')
        return inputs.fetch(found, url)
    if seen := inputs.info(url):
        return inputs.fetch({url: seen}, url)
    below = inputs.objects(url)
    if not below:
        raise UserError(f'{key}: no such file: {url}')
    data = _data_files(url, below, endings)
    if not data:
        raise UserError(
            f'{key}: {url} is a folder without data files ({", ".join(endings)}), in itself or in subfolders '
            f'such as day=1; name the files, for example {url}/*.data'
        )
    return inputs.fetch({place: below[place] for place in data}, url)


def _matching(pattern: str, endings: tuple[str, ...]) -> dict[str, Info]:
    """The objects that a glob stands for; where none has such a name, those of the folders that have."""
    first = _WILDCARD.search(pattern)
    assert first
    below = inputs.objects(urls.check(pattern[: first.start()].rpartition('/')[0]))
    expression, hidden = _translated(pattern), pattern.rpartition('/')[2].startswith('_')
    whole = re.compile(expression)
    found = {
        place: seen
        for place, seen in below.items()
        if whole.fullmatch(place) and (hidden or not place.rpartition('/')[2].startswith(_HIDDEN))
    }
    if found:
        return found
    above = re.compile(f'(?P<folder>{expression})/.*')
    folders = {match['folder'] for place in below if (match := above.fullmatch(place))}
    return {
        place: below[place] for folder in sorted(folders) for place in _data_files(folder, below, endings)
    }


def _translated(pattern: str) -> str:
    """The regular expression of a glob, in which `*` stays inside a folder and `**/` is any folders."""
    found = []
    for piece in re.split(r'(\*\*/|\*+|\?|\[!?[^]]+\])', pattern):
        if piece == '**/':
            found.append('(?:[^/.][^/]*/)*')
        elif piece.startswith('*'):
            found.append('[^/]*')
        elif piece == '?':
            found.append('[^/]')
        elif piece.startswith('[') and piece.endswith(']'):
            found.append(piece.replace('\\', r'\\').replace('[!', '[^', 1))
        else:
            found.append(re.escape(piece))
    return ''.join(found)


def _data_files(folder: str, objects: Iterable[str], endings: tuple[str, ...]) -> list[str]:
    """Data files of a folder, then those of its subfolders `key=value`, by name."""
    inside = {
        place: place[len(folder) + 1 :].split('/') for place in objects if place.startswith(folder + '/')
    }
    data = [
        place
        for place, (*folders, name) in inside.items()
        if name.lower().endswith(endings)
        and not name.startswith(_HIDDEN)
        and all('=' in one.strip('=') and not one.startswith(_HIDDEN) for one in folders)
    ]
    # A file comes before what is in the folders beside it.
    return sorted(data, key=lambda place: [*((1, one) for one in inside[place][:-1]), (0, inside[place][-1])])
