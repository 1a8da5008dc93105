"""What a store tells of an object."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Info:
    """What a store tells of an object.

    Attributes:
      size: bytes.
      tag: changes with the content: an ETag, a generation or a time.
      md5: of the content, hexadecimal; or what has the form of one; '' where there is none.
    """

    size: int
    tag: str
    md5: str = ''


def info_of(found: Mapping[str, Any]) -> Info:
    """The same from what fsspec tells, whose names differ from store to store."""
    size = int(found.get('size') or 0)
    etag = str(found.get('ETag') or found.get('etag') or '').strip('"')
    if generation := found.get('generation'):
        md5 = found.get('md5Hash') or ''
        return Info(size, str(generation), _from_base64(md5))
    if etag:
        return Info(size, etag, etag if len(etag) == 32 and etag.isalnum() else '')
    times = [found[key] for key in ('mtime', 'LastModified', 'last_modified', 'created') if key in found]
    # A listing may have a number where an object's own description has a date.
    seconds = [str(time.timestamp() if isinstance(time, datetime.datetime) else time) for time in times]
    return Info(size, '|'.join([str(size), *seconds]))


def _from_base64(md5: str) -> str:
    try:
        return base64.b64decode(md5).hex()
    except (ValueError, binascii.Error):
        return ''
