"""Flags and logs of the commands beside `dlf_jax.main`: compare, tune and serve."""

from __future__ import annotations

import logging
import sys

from absl import flags
from absl import logging as absl_logging

from dlf_jax.errors import UsageError, shown


def define_text(values: flags.FlagValues, name: str, default: str, about: str) -> None:
    """Adds a text flag to `values`."""
    flags.DEFINE_string(name, default, about, flag_values=values)


def define_help(values: flags.FlagValues) -> None:
    """Adds --help, which `read_flags` answers."""
    flags.DEFINE_bool('help', False, 'Shows this help.', short_name='h', flag_values=values)


def read_flags(argv: list[str], values: flags.FlagValues, about: str) -> None:
    """Reads a command line into its flags.

    Args:
      argv: the command and its arguments.
      values: the flags that the command has, --help among them.
      about: text that --help shows before the flags.

    Raises:
      UsageError: a mistake, in one line.
      SystemExit: after --help.
    """
    try:
        rest = values(argv)
    except flags.Error as error:
        raise UsageError(str(error)) from error
    if values.help:
        print(f'{about}\n{values.get_help()}')
        raise SystemExit(0)
    if len(rest) > 1:
        raise UsageError(f'unexpected argument {rest[1]!r}; flags begin with --')


class _Shown(logging.Formatter):
    """Lines with the URLs of what local copies are of."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))


def set_up_logs(dates: str = '%H:%M:%S') -> None:
    """Sends the package's log lines to standard error, and the libraries' nowhere.

    Args:
      dates: form of the time before each line.
    """
    absl_logging.set_verbosity(absl_logging.FATAL)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Shown('%(asctime)s %(message)s', dates))
    for name, level in (('dlf_jax', logging.INFO), ('uvicorn', logging.ERROR)):
        log = logging.getLogger(name)
        log.setLevel(level)
        log.handlers, log.propagate = [handler], False
