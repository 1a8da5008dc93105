"""Several processes, one or more a machine, that train as one.

Each reads its own part of every batch; the first alone writes: the log, metrics, results.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # the store has no public name
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from dlf_jax.errors import UsageError, UserError

_log = logging.getLogger(__name__)

AUTO = 'auto'
# What processes say of themselves in the coordination service's store: a count, or one of these, the latter
# with an exit code and a reason.
_ALIVE, _DONE, _FAILED = 'dlf_jax/alive', 'done', 'failed: '
# Of what the first process tells the others at once.
_MESSAGE_BYTES = 1 << 16
# This process is about to end; its watch, where there is one, ends before: a thread that is inside a call
# of the store while Python ends would abort the process.
_leaving = threading.Event()
_watching: list[threading.Thread] = []
# How long the first process, which ends last, waits for the others, in seconds.
_PATIENCE = 5
_DAY = 24 * 3600 * 1000  # in milliseconds


def start(config: ConfigDict) -> None:
    """Joins the other processes, where `config.distributed` says that there are any. Before anything
    else that touches devices.

    Raises:
      UserError: they cannot be reached in time.
    """
    options = config.distributed
    if not options.coordinator:
        return
    # SIGTERM is ours to handle: see preemption.py.
    jax.config.update('jax_enable_preemption_service', False)
    # Our own watch notices first, and says so in a line; JAX's ends the process with a stack trace.
    told = {
        'heartbeat_timeout_seconds': 2 * options.heartbeat_timeout + 10,
        'shutdown_timeout_seconds': options.heartbeat_timeout,
    }
    if options.coordinator != AUTO:
        if options.processes < 1 or not 0 <= options.process < options.processes:
            raise UsageError(
                f'config.distributed.process={options.process}: expected 0 up to '
                f'config.distributed.processes={options.processes} - 1, with config.distributed.coordinator'
            )
        told |= {
            'coordinator_address': options.coordinator,
            'num_processes': options.processes,
            'process_id': options.process,
        }
    try:
        jax.distributed.initialize(**told)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f'config.distributed.coordinator={options.coordinator}: the processes did not find each '
            f'other ({reason}); see that all are started, with the same address and their own numbers'
        ) from error
    _log.info('process %d of %d', jax.process_index(), jax.process_count())
    watch = threading.Thread(target=_watch, args=(float(options.heartbeat_timeout),), daemon=True)
    watch.start()
    _watching.append(watch)


def _watch(timeout: float) -> None:
    """Ends this process where another one gives no sign of life, or has said that it failed.

    A collective that waits for a process that is gone would wait for ever. Each process counts in the
    coordination service's store, once a second, and looks at the others' counts. Where the first
    process is lost, which keeps the store, JAX mostly is faster and ends the others itself.
    """
    client, mine, count = distributed.global_state.client, jax.process_index(), 0
    seen = {i: ('', time.monotonic()) for i in range(jax.process_count()) if i != mine}
    heard = time.monotonic()
    while not _leaving.is_set():
        count += 1
        try:
            client.key_value_set(f'{_ALIVE}/{mine}', str(count), allow_overwrite=True)
            said = {int(key.rsplit('/', 1)[1]): value for key, value in client.key_value_dir_get(_ALIVE)}
            heard = time.monotonic()
        except jax.errors.JaxRuntimeError:
            # The first process, which keeps the store, is gone, or was not heard this once.
            if time.monotonic() - heard > min(timeout, 5):
                _print(_lost('process 0 cannot be reached'))
                os._exit(1)
            said = {}
        for process, (last, moment) in seen.items():
            found = said.get(process, last)
            if found.startswith(_FAILED):
                code, reason = found.removeprefix(_FAILED).split(' ', 1)
                _end(f'process {process} stopped: {reason}', int(code))
            if found == _DONE or found != last:
                seen[process] = found, time.monotonic()
            elif time.monotonic() - moment > timeout:
                _end(f'process {process} has given no sign of life for {timeout:.0f} seconds')
        _leaving.wait(1)


def _end(reason: str, code: int = 1) -> None:
    if not _leaving.is_set():
        _print(_lost(reason))
        leave(reason, code)


def _print(text: str) -> None:
    print(f'error: {text}', file=sys.stderr, flush=True)


def _lost(reason: str) -> str:
    return (
        f'process {jax.process_index()} of {jax.process_count()}: {reason}; start all of them again, as '
        'many as you like: they go on from the latest checkpoint'
    )


def leave(error: str = '', code: int = 1) -> None:
    """Tells the other processes that this one ends; with an error it ends at once, and does not return.

    The first process keeps the store, and JAX aborts the others when it goes: it goes last.

    Args:
      error: why; the others say so, and end too.
      code: with an error, the exit code of all.
    """
    client = distributed.global_state.client
    if client is None:
        return
    _leaving.set()
    for watch in _watching:
        if watch is not threading.current_thread():
            watch.join(timeout=_PATIENCE)
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        said = f'{_FAILED}{code} {error}' if error else _DONE
        client.key_value_set(f'{_ALIVE}/{jax.process_index()}', said, allow_overwrite=True)
        until = time.monotonic() + _PATIENCE
        while error and is_first() and _running(client) and time.monotonic() < until:
            time.sleep(0.1)
    if error:
        # What the others still do between their last word and their end.
        time.sleep(0.5 if is_first() else 0)
        os._exit(code)


def _running(client: Any) -> bool:
    """Whether a process other than this one has not said that it ends."""
    said = dict(client.key_value_dir_get(_ALIVE))
    ended = [value for value in said.values() if value == _DONE or value.startswith(_FAILED)]
    return len(ended) < jax.process_count()


def tell(key: str, text: str) -> None:
    """Puts a text into the store that all processes share."""
    distributed.global_state.client.key_value_set(key, text, allow_overwrite=True)


def wait_for(key: str) -> str:
    """The text in the store, once it is there; a process that is lost ends the waiting, and this one."""
    return distributed.global_state.client.blocking_key_value_get(key, _DAY)


def any_told(prefix: str) -> bool:
    """Whether the store holds a text whose key begins with `prefix/`."""
    return bool(distributed.global_state.client.key_value_dir_get(prefix))


def forget(key: str) -> None:
    """Takes a text out of the store."""
    distributed.global_state.client.key_value_delete(key)


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def run_on_first(function: Callable[[], Any]) -> Any:
    """What a function returns in the first process, in all of them; a UserError is raised in all.

    Args:
      function: called in the first process alone; returns what JSON can hold, of 64 KB at most.
    """
    if jax.process_count() == 1:
        return function()
    said: dict[str, Any] = {}
    if is_first():
        try:
            said = {'value': function()}
        except UserError as error:
            said = {'error': str(error), 'usage': isinstance(error, UsageError)}
    text = json.dumps(said).encode()
    if len(text) > _MESSAGE_BYTES:
        raise ValueError(f'{len(text)} bytes to tell other processes, {_MESSAGE_BYTES} are the most')
    message = np.zeros(_MESSAGE_BYTES, np.uint8)
    message[: len(text)] = np.frombuffer(text, np.uint8)
    heard = json.loads(bytes(multihost_utils.broadcast_one_to_all(message)).rstrip(b'\0'))
    if 'error' in heard:
        raise (UsageError if heard['usage'] else UserError)(heard['error'])
    return heard['value']


def gather(part: np.ndarray) -> np.ndarray:
    """The arrays of all processes, [hosts, ...], bit for bit; they have one shape and dtype.

    Args:
      part: of this process; of a dtype of 4 bytes, or several times 4.
    """
    if jax.process_count() == 1:
        return part[None]
    # As words: JAX would make 4 bytes of 8.
    words = np.ascontiguousarray(part).view(np.uint32)
    return np.ascontiguousarray(multihost_utils.process_allgather(words)).view(part.dtype)


@contextlib.contextmanager
def losses_explained() -> Iterator[None]:
    """Turns the failure of a collective, because another process is gone, into a UserError."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        reason = str(error).strip().splitlines()[0][:200]
        raise UserError(_lost(f'another process is gone or cannot be reached ({reason})')) from error
