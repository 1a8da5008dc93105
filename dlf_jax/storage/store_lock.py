"""Lock of a folder in a store: an object that its holder renews, and that another takes when it is stale."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Any

from dlf_jax.errors import UserError
from dlf_jax.file_writing import to_json
from dlf_jax.storage import urls
from dlf_jax.storage.manifest import LOCK
from dlf_jax.storage.settings import current
from dlf_jax.storage.store import Store

_log = logging.getLogger(__name__)

# Signs of life in the time after which a lock is stale.
_BEATS = 4


class StoreLock:
    """Lock of a folder in a store.

    The clocks of machines need not agree: a lock is stale when one who watches it for long enough sees no
    change.
    """

    def __init__(self, url: str):
        """Prepares the lock; `acquire` takes it.

        Args:
          url: of the folder.
        """
        self._url, self._place = url, urls.join(url, LOCK)
        self._owner, self._beat = secrets.token_hex(8), 0
        self._tag: str | None = None
        self._lost = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Takes the lock and renews it until `release`.

        Raises:
          UserError: another process holds it and is alive.
        """
        store = Store.of(self._url)
        while self._tag is None:
            found = store.read(self._place)
            tag = None
            if found is not None:
                tag = found[1]
                self._wait_until_free(store, _parsed(found[0]), tag)
            self._tag = store.replace(self._place, self._content(), tag)
        self._check_conditions(store)
        self._thread = threading.Thread(target=self._renew, daemon=True, name='lock of a store')
        self._thread.start()

    def _check_conditions(self, store: Store) -> None:
        """Warns where a store writes although the condition does not hold, as some that speak S3 do."""
        again = store.replace(self._place, self._content(), None) if store.is_exclusive else self._tag
        if again is not None:
            self._tag = again
            _log.warning(
                '%s: this store does not write on conditions, so its lock keeps out a run that starts later, '
                'but perhaps not one that starts at the same moment',
                self._url,
            )

    def _wait_until_free(self, store: Store, held: dict[str, Any], tag: str) -> None:
        """Returns when the lock with this tag is another's to take; raises UserError where it is not."""
        if held.get('released'):
            return
        theirs = str(held.get('process', ''))
        if _machine(theirs) == _machine(_process()):
            if _is_alive(theirs):
                raise self._held(held)
            _log.info('%s: taking the lock of a process of this machine that is gone', self._url)
            return
        seconds = _seconds(held)
        _log.info(
            '%s: locked by a process on %s; looking for up to %.0f seconds whether it is alive',
            self._url, held.get('host', 'another machine'), seconds,
        )  # fmt: skip
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(min(1.0, seconds / (2 * _BEATS)))
            found = store.read(self._place)
            if found is None or found[1] != tag:
                now = _parsed(found[0]) if found else {'released': True}
                if now.get('released'):
                    # `acquire` then fails with the old tag, and looks again.
                    return
                raise self._held(now)
        _log.info('%s: taking the lock, whose holder gave no sign of life', self._url)

    def _held(self, held: dict[str, Any]) -> UserError:
        return UserError(
            f'{self._url}: another process is working here (on {held.get("host", "another machine")}); wait '
            'for it, or take another folder'
        )

    def _content(self, released: bool = False) -> bytes:
        self._beat += 1
        values = {
            'owner': self._owner, 'host': socket.gethostname(), 'process': _process(), 'beat': self._beat,
            'seconds': current().lock_seconds, 'released': released,
        }  # fmt: skip
        return (to_json(values) + '\n').encode()

    def _renew(self) -> None:
        pause = current().lock_seconds / _BEATS
        while not self._ended.wait(pause):
            try:
                tag = Store.of(self._url).replace(self._place, self._content(), self._tag)
            except Exception as error:
                # Whether another took it is seen once the store answers again.
                _log.warning('%s: its lock was not renewed: %s', self._url, error)
                continue
            if tag is None:
                self._lost = True
                return
            self._tag = tag

    def check(self) -> None:
        """Raises UserError where another process has taken the lock."""
        if self._lost:
            raise UserError(
                f'{self._url}: another process has taken the lock, since this one gave no sign of life for '
                f'{current().lock_seconds:g} seconds; this one writes no more'
            )

    def release(self) -> None:
        """Leaves the lock to others; where the store does not take that, they wait until it is stale."""
        self._ended.set()
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        if self._lost:
            return
        try:
            Store.of(self._url).replace(self._place, self._content(released=True), self._tag)
        except UserError as error:
            _log.warning('%s: its lock was not released: %s', self._url, error)


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(held: dict[str, Any]) -> float:
    """Seconds without a change after which a lock is stale, as its holder says."""
    try:
        return max(float(held['seconds']), 0.1)
    except (KeyError, TypeError, ValueError):
        return current().lock_seconds


def _process() -> str:
    """Identity of this process: machine, its boot, its name space of processes, number and time of start."""
    try:
        boot = Path('/proc/sys/kernel/random/boot_id').read_text().strip()
        space = os.readlink('/proc/self/ns/pid')
    except OSError:
        boot, space = secrets.token_hex(8), ''
    return '|'.join((socket.gethostname(), boot, space, str(os.getpid()), _started(os.getpid())))


def _started(process: int) -> str:
    try:
        # After the name, which may have spaces.
        return Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[19]
    except (OSError, IndexError):
        return ''


def _machine(identity: str) -> str:
    """What processes that see each other's numbers share, of an identity."""
    return '|'.join(identity.split('|')[:-2])


def _is_alive(identity: str) -> bool:
    """Whether a process of this machine, by its identity, lives."""
    *_, process, started = identity.split('|')
    return process.isdigit() and _started(int(process)) == started != ''
