"""Several processes, one or more per machine, that train one model together.

Each process reads its own part of every batch; process 0 alone writes logs, metrics and results.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import importlib
import itertools
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from dlf_jax.errors import UsageError, UserError
from dlf_jax.file_writing import to_json
from dlf_jax.training.heartbeat import Heartbeat, Loss

_log = logging.getLogger(__name__)

AUTO = 'auto'
# Size of the message that `run_on_first` broadcasts: collectives need one shape in all processes.
_MESSAGE_BYTES = 1 << 16
# Seconds that a process which ends waits for the store to take its last word, and process 0 for the others
# to end before it: a few periods of the heartbeat.
_PATIENCE = 5.0
# Milliseconds of one call in which a process waits for a value of the store; between two calls it looks for
# a lost process.
_WAIT = 1000
# Numbers of the works of `run_long_on_first`, the same in all processes.
_long_works = itertools.count()
_CLIENT_METHODS = (
    'key_value_set', 'key_value_dir_get', 'key_value_delete', 'blocking_key_value_get',
)  # fmt: skip


class LostProcess(UserError):
    """Another process ended with an error, or is gone."""


@dataclasses.dataclass
class _Group:
    """The processes that `start` joined.

    Attributes:
      heartbeat: of this process.
      exit_on_loss: whether this process ends itself with `os._exit` when another one is lost.
      loss: the loss of another process that is to be raised, once there is one.
    """

    heartbeat: Heartbeat
    exit_on_loss: bool
    loss: Loss | None = None


_group: _Group | None = None


def start(config: ConfigDict, exit_on_loss: bool = False) -> None:
    """Joins the other processes where `config.distributed.coordinator` is set, and watches over them.

    Comes before anything that uses devices. Called again it does nothing. Where the caller has called
    `jax.distributed.initialize` already, only the watch is started.

    A process is lost when it gives no sign of life for `config.distributed.heartbeat_timeout` seconds. JAX
    has a heartbeat of its own, which aborts the process with a stack trace; it is set to be the slower one,
    but where process 0 dies and its sockets are closed, JAX aborts the others at once.

    Args:
      config: `config.distributed` names the coordinator, the number of processes and this process.
      exit_on_loss: end this process, by `os._exit` and with one line on standard error, when another is lost:
        the only way out of a collective operation that waits for ever. Otherwise `LostProcess` is raised in
        the next call of this module or of `Preemption.due`, and the caller should end the process soon: JAX
        aborts it, at the latest, `2 * heartbeat_timeout + 10` seconds after the loss, also where it waits in
        a collective operation that never returns.

    Raises:
      UsageError: `config.distributed` contradicts itself.
      UserError: the other processes cannot be reached in JAX's 300 seconds, or this version of JAX does not
        give access to its coordination service.
    """
    global _group
    options = config.distributed
    if not options.coordinator or _group is not None:
        return
    if not jax.distributed.is_initialized():
        _initialize(options)
    _log.info('process %d of %d', jax.process_index(), jax.process_count())
    heartbeat = Heartbeat(
        _client(), jax.process_index(), jax.process_count(), float(options.heartbeat_timeout), _on_loss
    )
    _group = _Group(heartbeat, exit_on_loss)
    heartbeat.start()
    # A thread inside a call of the store while Python ends would abort the process.
    atexit.register(heartbeat.stop, _PATIENCE)


def _initialize(options: ConfigDict) -> None:
    # JAX's preemption service would take SIGTERM over from `Preemption`, or from the caller.
    jax.config.update('jax_enable_preemption_service', False)
    arguments = {
        'heartbeat_timeout_seconds': 2 * options.heartbeat_timeout + 10,
        'shutdown_timeout_seconds': options.heartbeat_timeout,
    }
    if options.coordinator != AUTO:
        if options.processes < 1 or not 0 <= options.process < options.processes:
            raise UsageError(
                f'config.distributed.process={options.process}: expected 0 up to '
                f'config.distributed.processes={options.processes} - 1, with config.distributed.coordinator'
            )
        arguments |= {
            'coordinator_address': options.coordinator,
            'num_processes': options.processes,
            'process_id': options.process,
        }
    try:
        jax.distributed.initialize(**arguments)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f'config.distributed.coordinator={options.coordinator}: the processes did not find each '
            f'other ({reason}); see that all are started, with the same address and their own numbers'
        ) from error


def _client() -> Any:
    """The client of JAX's coordination service, which holds the key-value store.

    The one place that relies on a private name: `jax.distributed` offers `initialize`, `is_initialized` and
    `shutdown`, and no access to the store.

    Raises:
      UserError: there is none, or this version of JAX keeps it elsewhere.
    """
    try:
        client = importlib.import_module('jax._src.distributed').global_state.client
    except (ImportError, AttributeError) as error:
        raise _unknown_jax(str(error)) from error
    if client is None:
        raise UserError(
            'the processes share no coordination service: set config.distributed.coordinator to '
            f'{AUTO!r} or to the host:port of the first'
        )
    missing = [name for name in _CLIENT_METHODS if not hasattr(client, name)]
    if missing:
        raise _unknown_jax(f'its client has no {missing[0]}')
    return client


def _unknown_jax(reason: str) -> UserError:
    return UserError(
        f'jax {jax.__version__}: the key-value store of its coordination service is not where several '
        f'processes look for it ({reason}); install jax 0.10.2, or train in one process'
    )


def _on_loss(loss: Loss) -> None:
    """Ends this process, or keeps the loss for `raise_if_lost`."""
    group = _group
    if group is None:
        return
    if not group.exit_on_loss:
        group.loss = loss
        return
    print(f'error: {lost(loss.reason)}', file=sys.stderr, flush=True)
    if loss.store:
        os._exit(loss.code)
    leave(loss.reason, loss.code)


def lost(reason: str) -> LostProcess:
    """The error for a process that cannot go on because another one is lost.

    Args:
      reason: what happened, such as `process 1 has given no sign of life for 60 seconds`.
    """
    return LostProcess(
        f'process {jax.process_index()} of {jax.process_count()}: {reason}; start all of them again, as '
        'many as you like: they go on from the latest checkpoint'
    )


def exits_on_loss() -> bool:
    """Whether this process ends itself when another one is lost, instead of raising LostProcess."""
    return _group is not None and _group.exit_on_loss


def raise_if_lost() -> None:
    """Raises LostProcess where the watch over the other processes has found one lost."""
    if _group is not None and _group.loss is not None:
        raise lost(_group.loss.reason)


def leave(error: str = '', code: int = 1) -> None:
    """Says to the other processes that this one ends. Does nothing where `start` joined none.

    With an error and `start(exit_on_loss=True)` it ends this process and does not return. Process 0 goes
    last, since it keeps the store, and JAX aborts the others when the store goes.

    Args:
      error: why this process failed; the others report it and end too. Empty: it is done.
      code: with an error, the exit code of all processes.
    """
    global _group
    if _group is None:
        return
    group = _group
    group.heartbeat.stop(_PATIENCE)
    # In a thread, because a call of the store blocks while process 0 does not answer.
    announcement = threading.Thread(target=_announce_end, args=(group.heartbeat, error, code), daemon=True)
    announcement.start()
    announcement.join(timeout=2 * _PATIENCE)
    if error and group.exit_on_loss:
        # Time for what the others still do between their last word and their end.
        time.sleep(0.5 if is_first() else 0)
        os._exit(code)
    _group = None


def _announce_end(heartbeat: Heartbeat, error: str, code: int) -> None:
    """Writes the last word; process 0, with an error, then waits for the others to end."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        heartbeat.announce_end(error, code)
        until = time.monotonic() + _PATIENCE
        while error and is_first() and not heartbeat.all_ended() and time.monotonic() < until:
            time.sleep(0.1)


def store_set(key: str, value: str) -> None:
    """Writes a value into the store that all processes share, over the one that may be there."""
    _client().key_value_set(key, value, allow_overwrite=True)


def store_get(key: str) -> str:
    """The value of a key in the store, once a process has written it.

    There is no deadline, since that process may be compiling for as long as it takes; the wait ends with
    the loss of a process.

    Raises:
      LostProcess: a process was lost.
    """
    while True:
        raise_if_lost()
        try:
            return _client().blocking_key_value_get(key, _WAIT)
        except jax.errors.JaxRuntimeError as error:
            if not str(error).startswith('DEADLINE_EXCEEDED'):
                raise


def store_list(prefix: str) -> list[str]:
    """The values in the store whose keys begin with `prefix/`; does not wait for any."""
    return [value for _, value in _client().key_value_dir_get(prefix)]


def store_delete(key: str) -> None:
    """Removes a key from the store."""
    _client().key_value_delete(key)


def is_first() -> bool:
    """Whether this process is process 0, which writes logs, metrics and results."""
    return jax.process_index() == 0


def run_on_first(function: Callable[[], Any]) -> Any:
    """Calls a function in process 0 and returns its result in all processes.

    Args:
      function: returns a value that JSON can hold, of at most 64 KB.

    Raises:
      UserError: the function raised it; it is raised in all processes.
      LostProcess: a process was lost.
    """
    if jax.process_count() == 1:
        return function()
    raise_if_lost()
    text = (_outcome(function) if is_first() else '').encode()
    if len(text) > _MESSAGE_BYTES:
        raise ValueError(f'a message of {len(text)} bytes to other processes; at most {_MESSAGE_BYTES}')
    padded = np.zeros(_MESSAGE_BYTES, np.uint8)
    padded[: len(text)] = np.frombuffer(text, np.uint8)
    return _value(bytes(multihost_utils.broadcast_one_to_all(padded)).rstrip(b'\0').decode())


def run_long_on_first(function: Callable[[], Any]) -> Any:
    """`run_on_first` for long work: the others wait for the store, since collectives have deadlines."""
    if jax.process_count() == 1:
        return function()
    key = f'dlf_jax/long/{next(_long_works)}'
    if is_first():
        store_set(key, _outcome(function))
    return _value(store_get(key))


def _outcome(function: Callable[[], Any]) -> str:
    """What a function returned, or the UserError that it raised, as a message to other processes."""
    try:
        message = {'value': function()}
    except UserError as error:
        message = {'error': str(error), 'usage': isinstance(error, UsageError)}
    return to_json(message, undefined_as_null=True)


def _value(message: str) -> Any:
    """The value in a message of `_outcome`; raises the error in it."""
    received = json.loads(message)
    if 'error' in received:
        raise (UsageError if received['usage'] else UserError)(received['error'])
    return received['value']


def gather(part: np.ndarray) -> np.ndarray:
    """Gathers the arrays of all processes, bit for bit.

    Args:
      part: this process's array, [...]; shape and dtype are the same in all processes, and the dtype's size
        is a multiple of 4 bytes.

    Returns:
      [processes, ...], the same in all processes.

    Raises:
      LostProcess: a process was lost.
    """
    if jax.process_count() == 1:
        return part[None]
    raise_if_lost()
    # As 4-byte words, because JAX would convert 8-byte numbers to 4 bytes.
    words = np.ascontiguousarray(part).view(np.uint32)
    return np.ascontiguousarray(multihost_utils.process_allgather(words)).view(part.dtype)
