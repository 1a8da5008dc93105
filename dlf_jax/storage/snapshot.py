"""Local copies, to be read, of folders in a store: runs, saved models, exports."""

from __future__ import annotations

import os
from pathlib import Path

from dlf_jax.errors import show_as
from dlf_jax.lock import locked
from dlf_jax.storage import cache, manifest, urls

# Files of a run that no reader needs; and those that are large.
_UNREAD = ('tensorboard/', 'damaged/')
_LARGE = ('checkpoints/', 'scores/')


def local(folder: str | os.PathLike, small: bool = False) -> Path:
    """The path of a folder: itself where it is one, or a copy of what is in a store now.

    Args:
      folder: path or URL.
      small: whether checkpoints and stored scores are left in the store.

    Raises:
      UserError: the store does not answer or has lost something, or there is no room.
    """
    if not urls.is_url(folder):
        return Path(urls.plain(folder))
    url, unread = urls.check(folder), _UNREAD + (_LARGE if small else ())

    def wanted(name: str) -> bool:
        return not name.startswith(unread)

    for _ in range(2):
        before = manifest.read(url) or manifest.of_listing(url)
        entry = cache.use('read', cache.key(url, before.identity, *(['small'] if small else [])))
        copy, whole = entry / 'copy', entry / 'whole'
        show_as(str(copy), url)
        if whole.exists():
            return copy
        with locked(entry / 'lock', wait=True):
            found, _, fetched = manifest.pull_newest(url, lambda _, copy=copy: copy, wanted)  # type: ignore[misc]
            if found.identity == before.identity:
                whole.touch()
                cache.tell(fetched, url)
                return copy
    # It changes all the time: this is a whole one, which nobody will find again.
    return copy
