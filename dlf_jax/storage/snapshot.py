"""Local copies, to be read, of folders in a store: runs, saved models, exports."""

from __future__ import annotations

import os
from pathlib import Path

from dlf_jax.errors import show_as
from dlf_jax.lock import locked
from dlf_jax.storage import cache, manifest, urls

# Files of a run that no reader needs.
_UNREAD = ('tensorboard/', 'damaged/')


def local(folder: str | os.PathLike) -> Path:
    """The path of a folder: itself where it is one, or a copy of what is in a store now.

    Args:
      folder: path or URL.

    Raises:
      UserError: the store does not answer or has lost something, or there is no room.
    """
    if not urls.is_url(folder):
        return Path(urls.plain(folder))
    url = urls.check(folder)
    for _ in range(2):
        before = manifest.read(url) or manifest.of_listing(url)
        entry = cache.use('read', cache.key(url, before.identity))
        copy, whole = entry / 'copy', entry / 'whole'
        show_as(str(copy), url)
        if whole.exists():
            return copy
        with locked(entry / 'lock', wait=True):
            found, _, fetched = manifest.pull_newest(url, lambda _, copy=copy: copy, _is_read)  # type: ignore[misc]
            if found.identity == before.identity:
                whole.touch()
                cache.tell(fetched, url)
                return copy
    # It changes all the time: this is a whole one, which nobody will find again.
    return copy


def _is_read(name: str) -> bool:
    return not name.startswith(_UNREAD)
