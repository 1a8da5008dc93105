"""What the commands that carry out many runs share: flags, logs, how they end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from absl import flags
from absl import logging as absl_logging

from dlf_jax.errors import UsageError, UserError, writing
from dlf_jax.lock import locked


@dataclasses.dataclass(frozen=True)
class Options:
    """What the flags of every such command say; see `shared_flags`. `overrides`: --config.KEY=VALUE."""

    files: str = ''
    configs: str = 'configs'
    workdir: str = 'results'
    data_dir: str = '~/.cache/dlf_jax'
    name: str = ''
    jobs: int = 0
    overrides: tuple[str, ...] = ()


Chosen = TypeVar('Chosen', bound=Options)


def shared_flags() -> flags.FlagValues:
    """Flags of every such command."""
    values = flags.FlagValues()
    text(values, 'files', '', 'FOLDER with DATASET/train.csv, and perhaps valid.csv and test.csv.')
    text(values, 'configs', str(Path(__file__).parents[2] / 'configs'), 'FOLDER with DATASET.py.')
    text(values, 'workdir', 'results', 'FOLDER for runs (shared by all lists), tables and plots.')
    text(values, 'data_dir', '~/.cache/dlf_jax', 'Where prepared data is kept, for all runs.')
    flags.DEFINE_integer(
        'jobs', 0, 'Runs at once; 0: one per GPU, one on a CPU.', lower_bound=0, flag_values=values
    )
    flags.DEFINE_bool('help', False, 'Shows this help.', short_name='h', flag_values=values)
    return values


def text(values: flags.FlagValues, name: str, default: str, about: str) -> None:
    flags.DEFINE_string(name, default, about, flag_values=values)


def parse(argv: list[str], values: flags.FlagValues, options: type[Chosen], about: str) -> Chosen:
    """The options that the flags of their names say; `overrides` are the `--config.KEY=VALUE` of every run.

    Args:
      argv: of the command.
      values: its flags.
      options: what is made of them.
      about: what --help says before them.

    Raises:
      UsageError: what is wrong, in one line.
      SystemExit: after --help.
    """
    overrides = [argument for argument in argv[1:] if argument.startswith('--config.')]
    try:
        rest = values([argument for argument in argv if argument not in overrides])
    except flags.Error as error:
        raise UsageError(str(error)) from error
    if values.help:
        print(f'{about}\nFlags, beside --config.KEY=VALUE for every run:\n{values.get_help()}')
        raise SystemExit(0)
    if len(rest) > 1:
        raise UsageError(f'{rest[1]!r}: what is this? flags begin with --')
    names = [field.name for field in dataclasses.fields(options) if field.name != 'overrides']
    found = {name: values[name].value for name in names}
    found = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return options(**found, overrides=tuple(overrides))


@contextlib.contextmanager
def own_folder(workdir: str, name: str) -> Iterator[Path]:
    """The folder `name` of `workdir`, made if need be, while no other command works in `workdir`.

    Raises:
      UserError: it cannot be written, or another command is at work.
    """
    top = Path(workdir).expanduser()
    with writing(str(top / name)):
        (top / name).mkdir(parents=True, exist_ok=True)
    with locked(top / '.lock', wait=False):
        yield top / name


def run(options: Callable[[], Chosen], act: Callable[[Chosen], dict[str, Any]]) -> int:
    """Does it, prints the result as one JSON line, and returns the exit code.

    0 done, 1 an error that its one line explains, or runs that failed (the result's `failed`, of `runs`),
    2 a wrong command.

    Args:
      options: from the command line; may print help and leave.
      act: what they ask for.
    """
    _quiet_logs()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        wanted = options()
        with contextlib.redirect_stdout(sys.stderr):
            result = act(wanted)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print('interrupted; the same command goes on where it stopped', file=sys.stderr)
        return 130
    print(json.dumps(result), flush=True)
    failed = result.get('failed')
    if failed:
        print(f'error: {len(failed)} of {result["runs"]} runs failed: {failed[0]}', file=sys.stderr)
    return 1 if failed else 0


def _quiet_logs() -> None:
    absl_logging.set_verbosity(absl_logging.FATAL)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S'))
    log = logging.getLogger('dlf_jax')
    log.setLevel(logging.INFO)
    log.handlers, log.propagate = [handler], False


def _terminate(number: int, frame: FrameType | None) -> None:
    """Ends like Ctrl-C, so that the runs are ended too."""
    raise KeyboardInterrupt
