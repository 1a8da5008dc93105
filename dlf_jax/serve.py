"""The command: `python -m dlf_jax.serve --workdir=/tmp/run`.

Serves a trained model over HTTP: the Open Inference Protocol (/v2), rows as JSON (/v1/score), a page (/),
Prometheus's metrics (/metrics). Needs `pip install "dlf_jax[serve]"`. SIGTERM and Ctrl-C end it when all
requests are answered. Exit codes: 0 ended, 1 an error that its one line explains, 2 a wrong command.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import sys
from pathlib import Path
from typing import Any

# XLA's own lines are no news: what fails in it comes back as an exception.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

from absl import flags

from dlf_jax import command_line
from dlf_jax.errors import UsageError, UserError

_NEEDED = ('starlette', 'uvicorn', 'httptools', 'uvloop', 'prometheus_client', 'orjson')
_LOOPBACK = ('127.0.0.1', '::1', 'localhost')


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()

    def text(name: str, default: str, about: str) -> None:
        command_line.define_text(values, name, default, about)

    def whole(name: str, default: int, low: int, about: str) -> None:
        flags.DEFINE_integer(name, default, about, lower_bound=low, flag_values=values)

    def seconds(name: str, default: float, about: str) -> None:
        flags.DEFINE_float(name, default, about, lower_bound=0, flag_values=values)

    text('workdir', '', 'FOLDER of a run, of a saved model, or of an export.')
    text('name', 'model', 'NAME of the model in /v2/models/NAME.')
    text('host', '127.0.0.1', 'Address to listen on; 0.0.0.0 for all.')
    whole('port', 8000, 0, 'Port; 0: one that is free, which the log names.')
    whole('seed', -1, -1, 'Seed of the run to serve, where there are several; -1: the best.')
    whole('max_batch', 512, 1, 'Rows that are scored together at most.')
    seconds('max_delay_ms', 0.0, 'Milliseconds to wait for a batch to fill; 0: what is waiting is scored.')
    whole('max_rows', 1024, 1, 'Rows of a request at most; else 413.')
    whole('max_body_bytes', 4 << 20, 1, 'Bytes of a request at most; else 413.')
    whole('max_queue', 8192, 1, 'Rows that wait at most; else 503 with Retry-After.')
    whole(
        'max_connections', 1024, 1, 'Open connections at most; then the longest idle one ends, or else 503.'
    )
    seconds(
        'timeout_seconds', 5.0, 'Seconds for a body to come (else 408), and then for its scores (else 504).'
    )
    seconds('poll_seconds', 10.0, 'Seconds between two looks for a new model in the folder; 0: none.')
    seconds(
        'drain_seconds', 0.0, 'Seconds after SIGTERM in which requests are still taken, ready being false.'
    )
    seconds('grace_seconds', 20.0, 'Seconds after SIGTERM after which the server has ended.')
    text('token_file', '', 'FILE with a token that requests must bring: Authorization: Bearer TOKEN.')
    command_line.define_help(values)
    return values


def parse(argv: list[str]) -> dict[str, Any]:
    """Reads a command line.

    Args:
      argv: the command and its arguments.

    Returns:
      Values of `server.settings.Settings`, by name.

    Raises:
      UsageError: a mistake, in one line.
      UserError: the file of the token cannot be read.
      SystemExit: after --help.
    """
    values = _flags()
    command_line.read_flags(argv, values, f'{__doc__}\nFlags:')
    if not values.workdir:
        raise UsageError('--workdir: FOLDER of a run, of a saved model, or of an export, is needed')
    found = {name: values[name].value for name in values if name not in ('help', 'h', 'token_file')}
    for name, value in found.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f'--{name}={value}: expected a number')
    if not found['timeout_seconds']:
        raise UsageError('--timeout_seconds=0: expected more than 0')
    if not found['name'] or '/' in found['name']:
        raise UsageError(f'--name={found["name"]}: expected a name without /')
    return {**found, 'token': _token(values.token_file) if values.token_file else ''}


def _token(file: str) -> str:
    try:
        token = Path(file).expanduser().read_text('utf-8').strip()
    except (OSError, ValueError) as error:
        raise UserError(f'--token_file={file}: cannot be read: {error}') from error
    # Not said what was found: it may be a secret.
    if not token or not token.isascii() or not token.isprintable() or ' ' in token:
        raise UserError(f'--token_file={file}: expected one word of printable ASCII')
    return token


def _check_packages() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'serving needs {", ".join(missing)}: pip install "dlf_jax[serve]"')


def main(argv: list[str]) -> int:
    """Serves; returns the exit code."""
    command_line.set_up_logs('%Y-%m-%d %H:%M:%S')
    try:
        values = parse(argv)
        _check_packages()
        from dlf_jax.server.process import serve
        from dlf_jax.server.settings import Settings

        if not values['token'] and values['host'] not in _LOOPBACK:
            logging.getLogger('dlf_jax').warning(
                '--host=%s without --token_file: whoever reaches this address may ask', values['host']
            )
        serve(Settings(**values))
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv))
