"""Runtime errors of JAX that a user can act on: memory that ran out, and other processes that are gone.

XLA, gRPC, Gloo and NCCL raise them as one type, whose text begins with a status code (`UNAVAILABLE: ...`);
where a collective operation fails while it is dispatched, JAX raises ValueError with the same text.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

import jax
from ml_collections import ConfigDict

from dlf_jax.errors import UserError
from dlf_jax.training import multihost

_STATUS = re.compile(r'([A-Z][A-Z_]+): ')
# gRPC has RESOURCE_EXHAUSTED for messages that are too large as well, and file systems for full disks.
_MEMORY = re.compile(r'out of memory|allocat|\bhbm\b', re.IGNORECASE)
_CUDA_MEMORY = 'CUDA_ERROR_OUT_OF_MEMORY'
_BYTES = re.compile(r'allocat\w* (\d+) ?bytes', re.IGNORECASE)
# Codes that only the communication between processes has here. INTERNAL and UNKNOWN, which Gloo, NCCL and the
# barriers of the coordination service have, stand for mistakes in a program as well.
_LOST_STATUS = ('UNAVAILABLE', 'DEADLINE_EXCEEDED', 'ABORTED')
_LOST = re.compile(
    r'connection (closed|reset|refused|aborted)|broken pipe|socket closed|network error|timed out waiting'
    r'|remote process exited|heartbeat timeout|another task|coordination service'
    r'|barrier (has failed|timed out)',
    re.IGNORECASE,
)
# What sends arrays between processes: a ValueError counts only where one of them is named, since files in
# remote storage fail with the same codes.
_COLLECTIVES = re.compile(r'gloo|nccl', re.IGNORECASE)
_REASON_LENGTH = 200


class OutOfMemory(UserError):
    """A device has too little memory for what it was asked to hold."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of JAX says that the memory of a device, or of the host for it, ran out."""
    status, text = _status(error), str(error)
    if not isinstance(error, jax.errors.JaxRuntimeError) or status is None:
        return False
    return _CUDA_MEMORY in text or (status == 'RESOURCE_EXHAUSTED' and bool(_MEMORY.search(text)))


def is_lost_process(error: BaseException) -> bool:
    """Whether an error says that another process of this run is gone or cannot be reached."""
    if isinstance(error, multihost.LostProcess):
        return True
    status, text = _status(error), str(error)
    if jax.process_count() == 1 or status is None or is_out_of_memory(error):
        return False
    if isinstance(error, jax.errors.JaxRuntimeError):
        return status in _LOST_STATUS or bool(_LOST.search(text))
    return isinstance(error, ValueError) and bool(_COLLECTIVES.search(text) and _LOST.search(text))


@contextlib.contextmanager
def explained(config: ConfigDict | None = None) -> Iterator[None]:
    """Turns the runtime errors of JAX that a user can act on into UserErrors of one line.

    All other errors pass unchanged, with their traceback.

    Args:
      config: config of the run, whose values the message shows.

    Raises:
      OutOfMemory: a device's memory ran out inside the block.
      multihost.LostProcess: another process is gone.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(_memory_message(error, config)) from error
        if is_lost_process(error):
            multihost.raise_if_lost()
            raise multihost.lost(
                f'another process is gone or cannot be reached ({_first_line(error)})'
            ) from error
        raise


@contextlib.contextmanager
def closing(close: Callable[[], None]) -> Iterator[None]:
    """Closes something that waits for all processes at the end of the block, unless one of them is lost.

    Checkpoints on their way would wait for the lost process, and the exception would reach nobody. Where the
    loss ends this process anyway (`multihost.start(exit_on_loss=True)`), they do wait: the watch then says
    which process was lost.

    Args:
      close: called at the end.
    """
    try:
        yield
    except BaseException as error:
        if multihost.exits_on_loss() or not is_lost_process(error):
            close()
        raise
    close()


def _status(error: BaseException) -> str | None:
    """The status code that the text of an error of XLA begins with; None for errors of other origin."""
    match = _STATUS.match(str(error).lstrip())
    return match[1] if match else None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:_REASON_LENGTH]


def _memory_message(error: Exception, config: ConfigDict | None) -> str:
    match = _BYTES.search(str(error))
    asked = f' for another {int(match[1]) / 1e9:.3g} GB' if match else ''

    def key(name: str) -> str:
        section, _, field = name.partition('.')
        if config is None or field not in config[section]:
            return f'--config.{name}'
        return f'--config.{name} (now {config[section][field]})'

    return (
        f'the device has no memory{asked} ({_first_line(error)}). For smaller activations take a smaller '
        f'{key("training.batch_size")} or a higher {key("training.accumulate")}; for smaller tables a '
        f'smaller {key("model.embedding_size")}, or on several devices --config.sharding.tables=rows; in '
        f'evaluation and prediction a smaller {key("predict.batch_size")}'
    )
