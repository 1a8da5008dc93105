"""What the libraries beneath do beside what they are for: log lines that tell users nothing, and imports."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import PurePath

_LIBRARIES = {'orbax', 'tensorflow_datasets'}


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Leaves out what Orbax and TFDS log inside the block below the level of errors; what fails in them comes
    back as an exception. Nothing else of logging is changed, and nothing afterwards."""
    log = logging.getLogger('absl')
    log.addFilter(_is_news)
    try:
        yield
    finally:
        log.removeFilter(_is_news)


@contextlib.contextmanager
def without_modules(*names: str) -> Iterator[None]:
    """Makes modules that a library imports where it finds them, and that are not needed, missing inside the
    block; those that are imported already stay.

    Args:
      names: such as `boto3`.
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _is_news(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or not _LIBRARIES.intersection(PurePath(record.pathname).parts)
