"""Several processes, one or more a machine, that train as one.

Each reads its own part of every batch; the first alone writes: the log, metrics, results.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from dlf_jax.errors import UsageError, UserError

_log = logging.getLogger(__name__)

AUTO = 'auto'
# Of what the first process tells the others at once.
_MESSAGE_BYTES = 1 << 16


def start(config: ConfigDict) -> None:
    """Joins the other processes, where `config.distributed` says that there are any. Before anything
    else that touches devices.

    Raises:
      UserError: they cannot be reached in time.
    """
    options = config.distributed
    if not options.coordinator:
        return
    told = {'heartbeat_timeout_seconds': options.heartbeat_timeout, 'shutdown_timeout_seconds': 10}
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


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def agree(function: Callable[[], Any]) -> Any:
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
        raise ProcessLost(
            f'process {jax.process_index()} of {jax.process_count()}: another process is gone or cannot '
            f'be reached ({reason}); start all of them again, as many as you like: they go on from the '
            'latest checkpoint'
        ) from error


class ProcessLost(UserError):
    """Other processes cannot be reached, and must not be waited for."""
