"""One file over HTTP: gone on with where it broke off, retried, measured against the free disk space."""

from __future__ import annotations

import dataclasses
import http.client
import json
import logging
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

from dlf_jax.data.progress import Progress
from dlf_jax.errors import UserError, writing

_log = logging.getLogger(__name__)

# Tries in a row that bring nothing new; the pause before the first retry, doubled for each further one.
TRIES = 5
PAUSE_SECONDS = 1.0
TIMEOUT_SECONDS = 30.0
_LONGEST_PAUSE = 60.0
_CHUNK = 1 << 20


class Unreachable(Exception):
    """The server does not give the file, and asking again would not help.

    Attributes:
      status: of the HTTP answer; 0 where there was none.
    """

    def __init__(self, reason: str, status: int = 0):
        super().__init__(' '.join(reason.split()))
        self.status = status


def transfer(url: str, part: Path) -> None:
    """Fetches a file.

    Args:
      url: http or https.
      part: where to; what it holds of the same remote file already is not fetched again. Beside it,
        while it is unfinished and after, a `.json` tells which remote file that is: see `forget`.

    Raises:
      Unreachable: no answer, or one that says no.
      UserError: no room on the disk.
    """
    tries, best, answered = 0, _size(part), False
    while True:
        pause = 0.0
        try:
            return _attempt(url, part)
        except urllib.error.HTTPError as error:
            error.close()
            reason = f'HTTP {error.code} {error.reason}'
            if error.code < 500 and error.code not in (408, 429):
                raise Unreachable(reason, error.code) from error
            answered = True
            after = error.headers.get('Retry-After', '')
            pause = float(after) if after.isdecimal() else 0.0
        except (OSError, http.client.HTTPException) as error:
            reason = _reason(error)
            answered = answered or not isinstance(error, urllib.error.URLError)
            if not answered or isinstance(getattr(error, 'reason', None), ssl.SSLCertVerificationError):
                raise Unreachable(reason) from error
        if (size := _size(part)) > best:
            tries, best = 0, size
        tries += 1
        if tries > TRIES:
            raise Unreachable(f'{reason} (tried {tries} times)')
        pause = min(max(pause, PAUSE_SECONDS * 2 ** (tries - 1)), _LONGEST_PAUSE)
        _log.info('%s: %s; going on in %.0f s', url, reason, pause)
        time.sleep(pause)


def forget(part: Path) -> None:
    """Removes what `transfer` keeps."""
    part.unlink(missing_ok=True)
    _beside(part).unlink(missing_ok=True)


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raises UserError where the folder's disk has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f'{what}: needs {needed / 1e9:.2f} GB more in {folder}, of which {free / 1e9:.2f} GB are free; '
            'make room or choose another place, then run the same command again'
        )


@dataclasses.dataclass(frozen=True)
class _Remote:
    """Which remote file a part is of. Unknown: '' and 0.

    Attributes:
      url: as asked for, before redirects.
      tag: the strong ETag of the server that sends the content.
      linked: the ETag that the hub gives before it redirects to storage whose answers have none.
      length: bytes of the whole file.
    """

    url: str
    tag: str = ''
    linked: str = ''
    length: int = 0

    def may_be(self, other: _Remote) -> bool:
        """Whether nothing says that the two are different files."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return all(a == b or not a or not b for a, b in pairs)


class _Redirects(urllib.request.HTTPRedirectHandler):
    linked = ''

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        self.linked = headers.get('X-Linked-ETag', self.linked)
        if req.full_url.startswith('https:') and not newurl.startswith('https:'):
            raise urllib.error.HTTPError(newurl, 403, 'redirected to a place without TLS', headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _attempt(url: str, part: Path) -> None:
    """Fetches what is missing, or raises what came between; the part then holds all that arrived."""
    known, have = _load(part), _size(part)
    if known is None or known.url != url:
        known, have = _Remote(url), 0
    if have and have == known.length:
        return
    request = urllib.request.Request(url, headers={'User-Agent': 'dlf_jax', 'Accept-Encoding': 'identity'})
    if have:
        request.add_header('Range', f'bytes={have}-')
        if known.tag:
            request.add_header('If-Range', known.tag)
    redirects = _Redirects()
    try:
        response = urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        error.close()
        _, total = _content_range(error.headers)
        found = _Remote(url, _strong(error.headers), redirects.linked, total)
        if total == have and found.may_be(known):
            # All of it is here; the length was not known.
            _save(part, found)
            return
        _anew(url, part, have)
        return _attempt(url, part)
    with response:
        headers = response.headers
        arriving = headers.get('Content-Length', '')
        arriving = int(arriving) if arriving.isdecimal() else 0
        if response.status == 206 and have:
            start, length = _content_range(headers)
            length = length or (have + arriving if arriving else 0)
            found = _Remote(url, _strong(headers), redirects.linked, length)
            if start != have or not found.may_be(known):
                _anew(url, part, have)
                return _attempt(url, part)
        else:
            if have:
                _anew(url, part, have)
            have, found = 0, _Remote(url, _strong(headers), redirects.linked, arriving)
        check_room(part.parent, found.length - have, url)
        # A broken connection is none of the refusals that `writing` looks for, and passes through it.
        with writing(str(part)):
            if not have:
                # In this order: no moment at which old content counts as the new file's.
                forget(part)
                _save(part, found)
            name = url.rsplit('/', 1)[-1]
            with (
                open(part, 'ab') as file,
                Progress(f'fetching {name}', 'B', found.length or None, have) as bar,
            ):
                # read1 gives what has arrived, so that a broken connection loses none of it.
                while data := response.read1(_CHUNK):
                    file.write(data)
                    have += len(data)
                    bar.advance(len(data))
    if have < found.length:
        raise ConnectionError(f'the connection ended after {have:,} of {found.length:,} bytes')
    if not found.length:
        _save(part, dataclasses.replace(found, length=have))


def _anew(url: str, part: Path, have: int) -> None:
    _log.info('%s: the file has changed, or the server cannot go on at byte %d; from the start', url, have)
    forget(part)


def _content_range(headers) -> tuple[int, int]:
    """First byte and length of the whole file of a Content-Range; -1 and 0 where it does not say."""
    match = re.fullmatch(r'bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)', headers.get('Content-Range', '').strip())
    return (int(match[1] or -1), int(match[2] or 0)) if match else (-1, 0)


def _strong(headers) -> str:
    """The ETag where it promises the same bytes; If-Range takes no other."""
    tag = headers.get('ETag', '')
    return '' if tag.startswith('W/') else tag


def _reason(error: Exception) -> str:
    """The error in words."""
    error = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(error, socket.gaierror):
        return "the server's name is not found (is there a connection to the internet?)"
    if isinstance(error, TimeoutError):
        return f'no answer within {TIMEOUT_SECONDS:.0f} s'
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _beside(part: Path) -> Path:
    return part.with_name(part.name + '.json')


def _load(part: Path) -> _Remote | None:
    try:
        return _Remote(**json.loads(_beside(part).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _save(part: Path, remote: _Remote) -> None:
    temporary = _beside(part).with_suffix('.tmp')
    temporary.write_text(json.dumps(dataclasses.asdict(remote)))
    os.replace(temporary, _beside(part))
