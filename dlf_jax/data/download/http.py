"""Download of one file of a dataset on the Hugging Face hub, resumed where an earlier attempt ended.

`huggingface_hub` resolves addresses (HF_ENDPOINT), sends the token (HF_TOKEN, or the one stored in HF_HOME)
to the hub alone, obeys HF_HUB_OFFLINE and HF_HUB_DOWNLOAD_TIMEOUT, follows redirects, reads a file's
metadata and repeats requests that a busy server refuses. The loop that receives the content is written
here, because `hf_hub_download` (version 2.4) lacks what files of several gigabytes need:

* Every call starts from the first byte. Partial content is deleted on an error; that of a killed process
  stays on the disk under a random name, and no later call continues it.
* Content is written in pieces of 10 MiB, so a connection that breaks more often makes no progress.
* A server error (500 to 504) in answer to the request for the content is not retried.
* A full disk is a warning, a file of the same name is replaced, and of several processes each downloads.

`pooch` (version 1.9) neither resumes nor locks, and its `Unzip` takes a member that a killed process left
incomplete for a complete one.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import time
from http import HTTPStatus
from pathlib import Path

from huggingface_hub import HfFileMetadata, constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported by a computed __all__
    build_hf_headers,
    hf_raise_for_status,
    http_stream_backoff,
    httpx,
)

import dlf_jax
from dlf_jax.data.download.free_space import check_free_space
from dlf_jax.data.progress import Progress
from dlf_jax.file_writing import writing

_log = logging.getLogger(__name__)

# Maximum number of retries in a row that bring no new content, and seconds before the first of them; each
# further pause is twice as long, up to `_LONGEST_PAUSE`.
RETRIES = 5
PAUSE_SECONDS = 1.0
_LONGEST_PAUSE = 60.0

# Answers of a server that may answer otherwise a little later.
_BUSY = (408, 429, 500, 502, 503, 504)


class Unreachable(Exception):
    """A file that cannot be downloaded now; the message says from where, and why, in one line.

    Attributes:
      status: HTTP status of the answer; 0 where there was no answer.
    """

    def __init__(self, url: str, reason: str, status: int = 0):
        super().__init__(f'{url}: {" ".join(reason.split())}')
        self.status = status


def download(repository: str, name: str, folder: Path, endpoint: str | None = None) -> Path:
    """Downloads a file, resuming from the content that an earlier call has left in the folder.

    The content is kept as `NAME.ID.part`, where ID depends on the address and on the file's ETag and size:
    content of another address or version is deleted instead of continued.

    Args:
      repository: dataset on the hub, e.g. 'reczoo/Frappe_x1'; its main branch is read.
      name: file name in the repository.
      folder: existing folder to write to.
      endpoint: address of the hub; by default HF_ENDPOINT, or https://huggingface.co.

    Returns:
      Path of the `.part` file, which then holds the whole content.

    Raises:
      Unreachable: no connection, or the server refuses.
      UserError: too little free disk space.
    """
    url = hf_hub_url(repository, name, repo_type='dataset', endpoint=endpoint)
    try:
        remote = _metadata(url, endpoint)
        part = _part(url, remote, folder / name)
        # Content of one commit, so that a new version cannot be appended to an old one.
        pinned = hf_hub_url(
            repository, name, repo_type='dataset', revision=remote.commit_hash, endpoint=endpoint
        )
        _receive_all(pinned, part, remote.size)
    except HfHubHTTPError as error:
        status = error.response.status_code
        told = error.response.headers.get('X-Error-Message', '')
        reason = f'HTTP {status} {error.response.reason_phrase}{told and f" ({told})"}'
        raise Unreachable(url, reason + ', repeatedly' * (status in _BUSY), status) from error
    except OfflineModeIsEnabled as error:
        raise Unreachable(
            url, 'offline mode is enabled by the environment variable HF_HUB_OFFLINE'
        ) from error
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise Unreachable(url, _reason(error)) from error
    return part


def _metadata(url: str, endpoint: str | None) -> HfFileMetadata:
    """ETag, size and commit; retries where the server is busy, not where there is no connection."""
    try:
        return get_hf_file_metadata(url, endpoint=endpoint, headers=_headers())
    except HfHubHTTPError as error:
        if error.response.status_code not in _BUSY:
            raise
        return get_hf_file_metadata(url, endpoint=endpoint, headers=_headers(), retry_on_errors=True)


def _headers() -> dict[str, str]:
    """Headers of every request: who asks, and the hub's token where there is one."""
    headers: dict[str, str] = build_hf_headers(library_name='dlf_jax', library_version=dlf_jax.__version__)
    return headers


def _part(url: str, remote: HfFileMetadata, path: Path) -> Path:
    """The file for partial content; deletes content that cannot be continued."""
    identity = hashlib.sha256(f'{url}\n{remote.etag}\n{remote.size}'.encode()).hexdigest()[:16]
    part = path.with_name(f'{path.name}.{identity}.part')
    for other in path.parent.glob(f'{path.name}.*.part'):
        if other != part or (remote.size is not None and other.stat().st_size > remote.size):
            _log.info('%s: content of another version of the file, deleted', other)
            other.unlink()
    return part


def _receive_all(url: str, part: Path, size: int | None) -> None:
    """Receives the missing content, over as many connections as it takes while they bring some."""
    best, retries = _size(part), 0
    while True:
        reason = 'the connection ended early'
        try:
            _receive(url, part, size)
            if size is None or _size(part) >= size:
                return
        except httpx.TransportError as error:
            reason = _reason(error)
        held = _size(part)
        best, retries = (held, 0) if held > best else (best, retries + 1)
        if retries > RETRIES:
            raise httpx.TransportError(f'{reason}, {retries} times without progress at byte {held:,}')
        pause = min(PAUSE_SECONDS * 2 ** max(retries - 1, 0), _LONGEST_PAUSE)
        _log.info('%s: %s; continuing at byte %d in %.0f s', url, reason, held, pause)
        time.sleep(pause)


def _receive(url: str, part: Path, size: int | None) -> None:
    """Appends the content of one connection; starts from the first byte where the server cannot resume."""
    held = _size(part)
    if held == size:
        return
    headers = _headers() | {'Accept-Encoding': 'identity'}
    if held:
        headers['Range'] = f'bytes={held}-'
    with http_stream_backoff(
        'GET',
        url,
        headers=headers,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        max_retries=RETRIES,
        base_wait_time=PAUSE_SECONDS,
        max_wait_time=_LONGEST_PAUSE,
        retry_on_exceptions=(),
        retry_on_status_codes=_BUSY,
    ) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and held:
            # No byte is missing if the file has this size; otherwise the content is of another file.
            if response.headers.get('Content-Range') == f'bytes */{held}':
                return
            part.unlink()
            raise httpx.RemoteProtocolError(f'the file has no byte {held:,}')
        hf_raise_for_status(response)
        if response.status_code != HTTPStatus.PARTIAL_CONTENT:
            held = 0
        check_free_space(part.parent, (size or 0) - held, url)
        name = url.rsplit('/', 1)[-1]
        # A broken connection is none of the file system's refusals, and passes through `writing`.
        with (
            writing(str(part)),
            open(part, 'ab' if held else 'wb') as file,
            Progress(f'fetching {name}', 'B', size, held) as progress,
        ):
            for data in response.iter_raw():
                file.write(data)
                progress.advance(len(data))


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _reason(error: BaseException) -> str:
    """The error in words for people, taken from the operating system's where that is the cause."""
    if isinstance(error, httpx.TimeoutException):
        return f'no answer within {constants.HF_HUB_DOWNLOAD_TIMEOUT} s'
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return "the server's name is not found (is there a connection to the internet?)"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
