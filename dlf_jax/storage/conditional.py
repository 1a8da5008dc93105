"""Writing of an object on the condition that nobody else has written it, in the ways of the stores."""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol

from dlf_jax.storage.object_info import info_of

# Seconds after which a store without conditions has shown who wrote last.
_SETTLED = 1.0


class Taken(Exception):
    """Another object is there than the one to be replaced."""


class Replacement(Protocol):
    """A way of conditional writing.

    Attributes:
      is_exclusive: whether of several that write under the same condition one alone succeeds.
    """

    is_exclusive: bool

    def replace(self, path: str, content: bytes, tag: str | None) -> str:
        """Writes.

        Args:
          path: in the store.
          content: all of the object.
          tag: of the object that is replaced; None: there is none.

        Returns:
          The tag of the new object; '': ask for it.

        Raises:
          Taken: another object is there.
          FileNotFoundError: none is there, and there should be; or no bucket.
        """


class _S3:
    """By If-Match and If-None-Match, which S3 has since 2024, and most that speak its language."""

    is_exclusive = True

    def __init__(self, fs: Any):
        self._fs = fs

    def replace(self, path: str, content: bytes, tag: str | None) -> str:
        """See `Replacement.replace`."""
        bucket, key, _ = self._fs.split_path(path)
        condition = {'IfNoneMatch': '*'} if tag is None else {'IfMatch': f'"{tag}"'}
        try:
            answer = self._fs.call_s3('put_object', Bucket=bucket, Key=key, Body=content, **condition)
        except OSError as error:
            # Two at once are answered 409: the other may have failed, so it is tried again.
            if 'PreconditionFailed' in _codes(error):
                raise Taken from None
            raise
        return str(answer['ETag']).strip('"')


def _codes(error: BaseException) -> set[str]:
    """Codes of a store's answer that an exception is made of."""
    found = set()
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, 'response', None)
        if isinstance(response, dict):
            code = str(response.get('Error', {}).get('Code', ''))
            found.add('PreconditionFailed' if code == '412' else code)
        cause = cause.__cause__
    return found


class _Gcs:
    """By the generation that Google's store gives to each content of an object."""

    is_exclusive = True

    def __init__(self, fs: Any):
        self._fs = fs

    def replace(self, path: str, content: bytes, tag: str | None) -> str:
        """See `Replacement.replace`."""
        bucket, key, _ = self._fs.split_path(path)
        try:
            answer = self._fs.call(
                'POST', f'{self._fs._location}/upload/storage/v1/b/{bucket}/o', uploadType='media', name=key,
                ifGenerationMatch=tag or '0', headers={'Content-Type': 'application/octet-stream'},
                data=content, json_out=True,
            )  # fmt: skip
        except FileExistsError:
            raise Taken from None
        return str(answer['generation'])


class _OneProcess:
    """Of a store that is in the memory of this process."""

    is_exclusive = True
    _lock = threading.Lock()

    def __init__(self, fs: Any):
        self._fs = fs

    def replace(self, path: str, content: bytes, tag: str | None) -> str:
        """See `Replacement.replace`."""
        with self._lock:
            if _tag(self._fs, path) != tag:
                raise Taken
            self._fs.pipe_file(path, content)
            return _tag(self._fs, path) or ''


class _Unconditional:
    """Of a store that has no conditions: looks, writes, and looks again who was last."""

    is_exclusive = False

    def __init__(self, fs: Any):
        self._fs = fs

    def replace(self, path: str, content: bytes, tag: str | None) -> str:
        """See `Replacement.replace`."""
        if _tag(self._fs, path) != tag:
            raise Taken
        self._fs.pipe_file(path, content)
        if tag is None:
            time.sleep(_SETTLED)
        if self._fs.cat_file(path) != content:
            raise Taken
        return ''


def _tag(fs: Any, path: str) -> str | None:
    try:
        return info_of(fs.info(path)).tag
    except FileNotFoundError:
        return None


def of(fs: Any, scheme: str) -> Replacement:
    """The way of a store.

    Args:
      fs: what fsspec has for it.
      scheme: what is before `://`.
    """
    if scheme in ('s3', 's3a'):
        return _S3(fs)
    if scheme in ('gs', 'gcs'):
        return _Gcs(fs)
    return _OneProcess(fs) if scheme == 'memory' else _Unconditional(fs)
