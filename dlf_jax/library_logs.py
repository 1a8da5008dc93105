"""Log lines of the libraries beneath, which tell users nothing."""

from __future__ import annotations

import contextlib
import logging
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


def _is_news(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or not _LIBRARIES.intersection(PurePath(record.pathname).parts)
