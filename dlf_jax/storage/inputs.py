"""Input files by URL: what a URL with or without wildcards names, and local copies of those."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dlf_jax.errors import UserError, show_as
from dlf_jax.storage import cache, urls
from dlf_jax.storage.object_info import Info
from dlf_jax.storage.store import Store, each


def objects(folder: str) -> dict[str, Info]:
    """All objects below a folder, by URL, sorted; none where there is no such folder."""
    return Store.of(folder).list(folder)


def info(url: str) -> Info | None:
    """What is at a URL; None: no object."""
    return Store.of(url).info(url)


def fetch(found: dict[str, Info], what: str) -> list[str]:
    """Local copies of objects, in their order; those of before are taken where the objects have not changed.

    Their paths end as the URLs do, folders included.

    Args:
      found: objects by URL.
      what: names them in messages.

    Raises:
      UserError: the store does not answer, an object has changed meanwhile, or there is no room.
    """
    paths = {url: _place(url, seen) for url, seen in found.items()}
    missing = [url for url, path in paths.items() if not path.exists()]
    needed = sum(found[url].size for url in missing)
    if missing:
        cache.make_room(needed, what)

    def one(url: str) -> None:
        paths[url].parent.mkdir(parents=True, exist_ok=True)
        try:
            Store.of(url).fetch(url, paths[url], expected=found[url])
        except FileNotFoundError:
            raise UserError(f'{url}: changed or went while it was read; run the same command again') from None

    each(one, missing)
    if missing:
        cache.tell(needed, what)
    return [str(path) for path in paths.values()]


def local_file(name: str | os.PathLike, what: str) -> Path:
    """The path of a file: itself, or a copy of the object that a URL names.

    Args:
      name: path or URL.
      what: the flag or key, for errors.

    Raises:
      UserError: there is no such object.
    """
    if not urls.is_url(name):
        return Path(urls.plain(name))
    url = urls.check(name)
    seen = info(url)
    if seen is None:
        raise UserError(f'{what}: no such file: {url}')
    return Path(fetch({url: seen}, url)[0])


def _place(url: str, seen: Info) -> Path:
    """Where the copy of an object with this content is, or is to be."""
    entry = cache.use('inputs', cache.key(url, seen.tag, str(seen.size)))
    path = entry.joinpath(*_parts(url))
    show_as(str(path), url)
    return path


def _parts(url: str) -> Sequence[str]:
    return url[len(urls.scheme(url)) + 3 :].split('/')
