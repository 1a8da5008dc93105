"""Folder of prepared data in a store: local copies of its content-named folders."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

from dlf_jax.errors import UserError, show_as
from dlf_jax.storage import cache, manifest, urls
from dlf_jax.storage.manifest import is_hidden

_log = logging.getLogger(__name__)

# URLs by the local folders that stand for them.
_known: dict[Path, str] = {}


def local(data_dir: str | os.PathLike) -> str:
    """The local folder of prepared data: itself, or one that stands for what is in a store.

    Args:
      data_dir: path or URL.
    """
    if not urls.is_url(data_dir):
        return urls.plain(data_dir)
    url = urls.check(data_dir)
    folder = cache.use('data', cache.key(url))
    _known[folder] = url
    show_as(str(folder), url)
    return str(folder)


def _url_of(folder: Path) -> str | None:
    for top, url in _known.items():
        if folder.is_relative_to(top):
            return urls.join(url, *folder.relative_to(top).parts)
    return None


def fetch(folder: Path) -> bool:
    """Fetches a folder of prepared data, whole or not at all, where it is in a store and not here.

    Args:
      folder: in `local`, of a name that tells its content; or any other, which is not in a store.

    Returns:
      Whether it is here now and was not before.

    Raises:
      UserError: the store does not answer or has lost something, or there is no room.
    """
    url = _url_of(folder)
    if url is None or folder.exists() or manifest.read(url) is None:
        return False
    # Under a name that preparing clears away.
    temporary = folder.parent / f'incomplete.{secrets.token_hex(4)}'
    _, _, fetched = manifest.pull_newest(url, lambda _: temporary)
    try:
        os.rename(temporary, folder)
    except OSError as error:
        if not folder.exists():
            raise UserError(f'{folder}: cannot be put in place ({error})') from error
        # Another process of this machine was first.
    cache.tell(fetched, url)
    return True


def fetch_named(top: Path, name: str) -> None:
    """Fetches the folders `*/name/*` of a folder of prepared data that is in a store.

    Args:
      top: of `local`.
      name: of the folders.
    """
    url = _known.get(top)
    if url is None:
        return
    for place in (found.split('/') for found in manifest.objects_below(url)):
        if len(place) == 4 and (place[1], place[3]) == (name, manifest.NAME):
            fetch(top.joinpath(*place[:3]))


def publish(folder: Path) -> None:
    """Puts a finished folder of prepared data into the store that it belongs to, unless it is there.

    Of two that put the same there, one is first, and the other one's objects are removed.

    Args:
      folder: see `fetch`.

    Raises:
      UserError: the store refuses or does not answer.
    """
    url = _url_of(folder)
    if url is None or manifest.read(url) is not None:
        return
    paths = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob('*')) if path.is_file())
    pusher = manifest.Pusher(url, None)
    try:
        pusher.push(folder, [name for name in paths if not is_hidden(name)])
    except manifest.Conflict:
        _log.info('%s: another process has put the same there meanwhile', url)
        pusher = manifest.Pusher(url, manifest.read(url))
    # What a killed process has left, or the one that was not first, which can no longer put its own there.
    pusher.clean()
