"""Outputs by URL: written whole into the local cache, and then to the store."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from dlf_jax.errors import UserError, show_as
from dlf_jax.storage import cache, manifest, urls
from dlf_jax.storage.store import Store


@contextlib.contextmanager
def file(output: str | os.PathLike) -> Iterator[Path]:
    """A file to write: itself, or one that becomes an object when the block ends well.

    Args:
      output: path or URL.

    Raises:
      UserError: the store refuses or does not answer.
    """
    if not urls.is_url(output):
        yield Path(urls.plain(output))
        return
    with _placed(output) as (url, path):
        yield path
        Store.of(url).write(path, url)


@contextlib.contextmanager
def folder(output: str | os.PathLike) -> Iterator[Path]:
    """A folder to write: itself, or one that goes to a store when the block ends well, its marker last.

    Args:
      output: path or URL; a folder in a store must not be there, or have such a marker, and is replaced.

    Raises:
      UserError: the store refuses or does not answer, or there is something else.
    """
    if not urls.is_url(output):
        yield Path(urls.plain(output))
        return
    with _placed(output) as (url, path):
        there = manifest.read(url)
        is_run = there is not None and any(name.startswith('checkpoints/') for name in there.files)
        if is_run or (there is None and manifest.objects_below(url)):
            raise UserError(
                f'{url}: holds {"a run" if is_run else "objects that no export has put there"}; name another '
                'folder'
            )
        yield path
        names = [found.relative_to(path).as_posix() for found in path.rglob('*') if found.is_file()]
        manifest.Pusher(url, there).replace_natural(path, sorted(names))


@contextlib.contextmanager
def _placed(output: str | os.PathLike) -> Iterator[tuple[str, Path]]:
    """The URL, and a path of the same name in a folder of its own, which is removed at the end."""
    url = urls.check(output)
    # Before minutes of work.
    Store.of(url)
    entry = cache.use('written', secrets.token_hex(8))
    path = entry / url.rpartition('/')[2]
    show_as(str(path), url)
    try:
        yield url, path
    finally:
        cache.drop(entry)
