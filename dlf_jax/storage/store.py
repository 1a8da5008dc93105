"""A store behind a URL, through fsspec: what is there, reading and writing whole objects, with patience."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import logging
import os
import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from dlf_jax.errors import UserError
from dlf_jax.file_writing import writing
from dlf_jax.storage import conditional, urls
from dlf_jax.storage.object_info import Info, info_of
from dlf_jax.storage.retry import Incomplete, persist

T = TypeVar('T')
S = TypeVar('S')

# Extras of this package by what is before `://`; fsspec itself names the package for others.
_EXTRAS = {'s3': 's3', 's3a': 's3', 'gs': 'gcs', 'gcs': 'gcs'}
# Objects that are read or written at the same time.
_TOGETHER = 8
# Listings of one folder, until two in a row agree.
_LISTINGS = 8
# Seconds without an answer, after which an attempt has failed.
_CONNECT_SECONDS, _ANSWER_SECONDS = 10, 30


class Store:
    """A store, of all URLs of one scheme. Each operation is tried again where it fails for a passing reason.

    All raise UserError, in one line that names the URL, where the store does not answer within the patience
    or refuses.
    """

    def __init__(self, scheme: str):
        """Takes what fsspec has for the scheme; `of` keeps one for each."""
        self._scheme = scheme
        self._fs = _filesystem(scheme)
        self.replacement = conditional.of(self._fs, scheme)

    @classmethod
    def of(cls, url: str) -> Store:
        """The store of a URL.

        Raises:
          UserError: the package that speaks with such stores is not installed, or nobody knows the scheme.
        """
        return _store(urls.scheme(url), os.getpid())

    @property
    def is_exclusive(self) -> bool:
        """Whether the store can write under the condition that nobody else has written."""
        return self.replacement.is_exclusive

    def info(self, url: str) -> Info | None:
        """What is there; None: no object (a folder is none)."""
        path = self._path(url)

        def ask() -> Info | None:
            found = self._fs.info(path)
            return info_of(found) if found['type'] == 'file' else None

        try:
            return persist('looking for', url, ask)
        except FileNotFoundError:
            return None

    def list(self, folder: str) -> dict[str, Info]:
        """All objects below a folder, by URL, sorted; none where there is no such folder.

        A listing counts when the next one says the same, so that one that has lost some is not believed.
        """
        top = self._path(folder)
        before: dict[str, Info] | None = None

        def once() -> dict[str, Info]:
            try:
                found = self._fs.find(top, detail=True, withdirs=False)
            except FileNotFoundError:
                return {}
            entries = {}
            for name, entry in found.items():
                inside = name.removeprefix('/' if name.startswith('/') and not top.startswith('/') else '')
                if entry['type'] == 'file' and inside.startswith(top + '/') and not inside.endswith('/'):
                    entries[folder + inside[len(top) :]] = info_of(entry)
            return dict(sorted(entries.items()))

        for _ in range(_LISTINGS):
            found = persist('listing', folder, once)
            if found == before:
                return found
            before = found
        raise UserError(f'{folder}: each listing of it is another one; try again when nobody writes there')

    def read(self, url: str) -> tuple[bytes, str] | None:
        """A small object and its tag; None: there is no such object."""
        path = self._path(url)
        differing: list[bytes] = []

        def once() -> tuple[bytes, str]:
            before = info_of(self._fs.info(path))
            content = self._fs.cat_file(path)
            if len(content) != before.size or info_of(self._fs.info(path)).tag != before.tag:
                raise Incomplete(f'{len(content)} bytes of {before.size}, or it has changed')
            if before.md5 and hashlib.md5(content, usedforsecurity=False).hexdigest() != before.md5:
                differing.append(content)
                if differing.count(content) < 2:
                    raise Incomplete('the bytes have another checksum')
            return content, before.tag

        try:
            return persist('reading', url, once)
        except FileNotFoundError:
            return None

    def fetch(self, url: str, target: Path, sha256: str = '', expected: Info | None = None) -> None:
        """Copies an object to a file, which is there whole or not at all; its folder is there.

        Args:
          url: the object.
          target: the file.
          sha256: of its content, where known; else the store's checksum is compared, where it has one.
          expected: what a listing said; the object must still be that. None: what is there now.

        Raises:
          FileNotFoundError: there is no such object, or not this one any more.
        """
        path, partial = self._path(url), target.with_name(f'.{target.name[:80]}.{secrets.token_hex(4)}.part')
        differing: list[str] = []

        def once() -> None:
            before = info_of(self._fs.info(path))
            if expected is not None and before.tag != expected.tag:
                raise FileNotFoundError(f'{url}: has changed')
            self._fs.get_file(path, str(partial))
            size = partial.stat().st_size
            if size != before.size:
                raise Incomplete(f'{size} bytes of {before.size}')
            if sha256:
                if digest(partial, 'sha256') != sha256:
                    raise Incomplete('the bytes have another checksum')
            elif before.md5 and (found := digest(partial, 'md5')) != before.md5:
                # An encrypted object's tag has the form of an MD5 and is none: the same bytes twice are it.
                differing.append(found)
                if differing.count(found) < 2:
                    raise Incomplete('the bytes have another checksum')
            if not sha256 and info_of(self._fs.info(path)).tag != before.tag:
                raise Incomplete('it changed while it was read')

        try:
            with writing(f'a local copy of {url}'):
                persist('reading', url, once)
                os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)

    def write(self, source: Path, url: str) -> None:
        """Copies a file to an object, which is there whole or not at all, and looks at it."""
        path, size = self._path(url), source.stat().st_size

        def once() -> None:
            self._make_folder(path)
            self._fs.put_file(str(source), path)
            found = info_of(self._fs.info(path))
            if found.size != size:
                raise Incomplete(f'{found.size} bytes are there of {size}')

        try:
            persist('writing', url, once)
        except FileNotFoundError:
            raise _no_bucket(url) from None

    def replace(self, url: str, content: bytes, tag: str | None) -> str | None:
        """Writes a small object if nobody else has, as far as the store can tell.

        Args:
          url: the object.
          content: must be unlike any other that is ever written there, to be known again: where an answer is
            lost, it is looked at whether it was written.
          tag: of the object that it replaces; None: there is none.

        Returns:
          The tag of the new object; None: another one is there.
        """
        path = self._path(url)

        def once() -> str | None:
            self._make_folder(path)
            try:
                written = self.replacement.replace(path, content, tag)
            except conditional.Taken:
                # Perhaps by an attempt before this one, of ours or of a library below.
                found = self.read(url)
                return found[1] if found and found[0] == content else None
            return written or info_of(self._fs.info(path)).tag

        try:
            return persist('writing', url, once)
        except FileNotFoundError:
            if tag is not None:
                return None
            raise _no_bucket(url) from None

    def delete(self, objects: Iterable[str]) -> None:
        """Removes objects; those that are gone are no error."""

        def remove(url: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                persist('removing', url, lambda: self._fs.rm_file(self._path(url)))

        each(remove, objects)

    def _path(self, url: str) -> str:
        return self._fs._strip_protocol(url)

    def _make_folder(self, path: str) -> None:
        """Makes the folders of stores that have some."""
        if self._scheme not in _EXTRAS:
            self._fs.makedirs(self._fs._parent(path), exist_ok=True)


def each(work: Callable[[S], T], of: Iterable[S]) -> list[T]:
    """Results of a function for each of some objects, several at a time; the first error ends it."""
    found = list(of)
    if len(found) < 2:
        return [work(one) for one in found]
    with ThreadPoolExecutor(min(_TOGETHER, len(found)), thread_name_prefix='store') as pool:
        futures = [pool.submit(work, one) for one in found]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()


@functools.cache
def _store(scheme: str, process: int) -> Store:
    """One for each scheme and process: what fsspec has runs a thread, which a fork does not have."""
    del process
    return Store(scheme)


def _filesystem(scheme: str) -> Any:
    """What fsspec has for a scheme, without memories of what was there and with few retries of its own."""
    options: dict[str, Any] = {'skip_instance_cache': scheme != 'memory'}
    if scheme in ('s3', 's3a'):
        options['config_kwargs'] = {
            'connect_timeout': _CONNECT_SECONDS, 'read_timeout': _ANSWER_SECONDS,
            'retries': {'mode': 'standard', 'total_max_attempts': 1}, 'max_pool_connections': 4 * _TOGETHER,
        }  # fmt: skip
    if scheme != 'memory':
        options['use_listings_cache'] = False
    try:
        fsspec = importlib.import_module('fsspec')
        found = fsspec.filesystem(scheme, **options)
    except (ImportError, ValueError) as error:
        if extra := _EXTRAS.get(scheme):
            raise UserError(f"{scheme}://: needs pip install 'dlf_jax[{extra}]' ({error})") from None
        raise UserError(f'{scheme}://: no installed package reads such URLs ({error})') from None
    if scheme in ('s3', 's3a'):
        # `persist` is the one that tries again.
        found.retries = 1
    log = logging.getLogger('gcsfs')
    if log.level == logging.NOTSET:
        # What fails comes back as an exception, whose text is stripped of secrets.
        log.setLevel(logging.CRITICAL)
    return found


def digest(path: Path, name: str = 'sha256') -> str:
    """Checksum of a file, hexadecimal, by the name that hashlib has for its kind."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(
            file, functools.partial(hashlib.new, name, usedforsecurity=False)
        ).hexdigest()


def _no_bucket(url: str) -> UserError:
    return UserError(f'{url}: cannot be written: there is no such bucket')
