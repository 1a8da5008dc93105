"""Patience with stores: what fails is tried again, each time later, up to a limit; then it is one line."""

from __future__ import annotations

import errno
import logging
import os
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from dlf_jax.errors import UserError
from dlf_jax.storage.settings import current

_log = logging.getLogger(__name__)

T = TypeVar('T')

# Seconds before the second attempt, about, and between two at most.
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 15.0
# Attempt after which the log tells of the trouble.
_TOLD_AFTER = 3
# Errors that another attempt would meet again: answers about what is asked for, and mistakes of ours.
_PERMANENT = (
    FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError, ImportError,
    MemoryError, TypeError, AttributeError, AssertionError,
)  # fmt: skip
# The same, by name, of libraries that are not imported for it.
_PERMANENT_NAMES = {
    'NoCredentialsError', 'PartialCredentialsError', 'CredentialRetrievalError', 'ProfileNotFound',
    'ParamValidationError', 'NoRegionError', 'InvalidRegionError', 'DefaultCredentialsError', 'RefreshError',
    'TokenRetrievalError', 'UnauthorizedSSOTokenError', 'SSOTokenLoadError', 'ConfigParseError',
    'InvalidEndpointDiscoveryConfigurationError',
}  # fmt: skip
_NO_CREDENTIALS = {name for name in _PERMANENT_NAMES if 'Param' not in name and 'Region' not in name}
_LOCAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# What must not be repeated: a signature in an address, a password in a URL, a header, an access key.
_SECRETS = (
    re.compile(
        r'(?i)((?:X-Amz-|X-Goog-)?(?:Signature|Credential|Security-Token|access_token|sig)=)[^&\s\'"]+'
    ),
    re.compile(r'(?i)(authorization\W{1,4})[^\'"\n]+'),
    re.compile(r'(://)[^/\s:@]+:[^/\s@]+@'),
    re.compile(r'()\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b'),
)
_SECRET_VARIABLES = re.compile(r'(?i)secret|token|password|account_key|access_key|credential')


class Incomplete(Exception):
    """What came from a store is not what it said that it has; another attempt may bring the rest."""


def persist(doing: str, url: str, work: Callable[[], T]) -> T:
    """Does something with a store, again and again where it fails for a reason that may pass.

    Args:
      doing: for errors, such as 'reading'.
      url: for errors.
      work: may be called several times; must do no harm if it is.

    Returns:
      What `work` returns.

    Raises:
      FileNotFoundError: there is no such object.
      UserError: no access, no credentials, or no success within the patience; without secrets, and without
        the library's own exception, which may hold some.
    """
    patience, start, wait = current().patience, time.monotonic(), _FIRST_WAIT
    attempt = 0
    while True:
        attempt += 1
        try:
            return work()
        except (FileNotFoundError, UserError):
            raise
        except Exception as error:
            if getattr(error, 'errno', None) in _LOCAL_ERRORS:
                raise
            failed = error
        reason = _reason(failed)
        if type(failed).__name__ in _NO_CREDENTIALS:
            raise UserError(
                f"{url}: the store's library found no valid credentials ({reason}); give them to it by its "
                'own means: environment, file or role'
            ) from None
        if isinstance(failed, PermissionError):
            raise UserError(
                f'{url}: {doing} it was refused ({reason}); check the credentials and their rights'
            ) from None
        if isinstance(failed, _PERMANENT) or type(failed).__name__ in _PERMANENT_NAMES:
            raise UserError(f'{url}: {doing} it failed: {reason}') from None
        pause = wait * random.uniform(0.5, 1)
        waited = time.monotonic() - start
        if waited + pause > patience:
            raise UserError(
                f'{url}: {doing} it failed {attempt} times in {waited:.0f} seconds, last: {reason}; run the '
                'same command again later: what was finished before is kept (DLF_JAX_STORE_PATIENCE is the '
                'number of seconds to go on trying)'
            ) from None
        if attempt == _TOLD_AFTER:
            _log.warning(
                '%s: %s it failed %d times (%s); trying for %.0f seconds',
                url,
                doing,
                attempt,
                reason,
                patience,
            )
        time.sleep(pause)
        wait = min(2 * wait, _LONGEST_WAIT)


def _reason(error: Exception) -> str:
    text = str(error).strip() or repr(error)
    return without_secrets(f'{type(error).__name__}: {text}')[:300]


def without_secrets(text: str) -> str:
    """A text in which secrets that look like some, or are in the environment, are three stars."""
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_VARIABLES.search(name):
            text = text.replace(value, '***')
    for pattern in _SECRETS:
        text = pattern.sub(r'\1***', text)
    return text
