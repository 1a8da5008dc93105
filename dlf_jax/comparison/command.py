"""Flags, logs and exit codes that `dlf_jax.compare` and `dlf_jax.tune` share."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from absl import flags

from dlf_jax import config_files
from dlf_jax.command_line import define_help, define_text, read_flags, set_up_logs
from dlf_jax.errors import UsageError, UserError
from dlf_jax.file_writing import to_json, writing
from dlf_jax.lock import locked
from dlf_jax.storage import urls


@dataclasses.dataclass(frozen=True)
class Options:
    """Values of the flags that both commands have, as text; see `shared_flags`.

    Attributes:
      overrides: the `--config.KEY=VALUE` arguments, for every run.
    """

    files: str = ''
    configs: str = dataclasses.field(default_factory=lambda: str(config_files.folder()))
    workdir: str = 'results'
    data_dir: str = '~/.cache/dlf_jax'
    name: str = ''
    jobs: int = 0
    overrides: tuple[str, ...] = ()


Chosen = TypeVar('Chosen', bound=Options)


def shared_flags() -> flags.FlagValues:
    """The flags that both commands have."""
    values = flags.FlagValues()
    define_text(values, 'files', '', 'FOLDER with DATASET/train.csv, and perhaps valid.csv and test.csv.')
    define_text(values, 'configs', str(config_files.folder()), 'FOLDER with DATASET.py.')
    define_text(values, 'workdir', 'results', 'FOLDER for runs (shared by all tables), tables and plots.')
    define_text(values, 'data_dir', '~/.cache/dlf_jax', 'FOLDER of prepared data, shared by all runs.')
    flags.DEFINE_integer(
        'jobs', 0, 'Runs at once; 0: one per GPU, one on a CPU.', lower_bound=0, flag_values=values
    )
    define_help(values)
    return values


def parse(argv: list[str], values: flags.FlagValues, options: type[Chosen], about: str) -> Chosen:
    """Reads a command line.

    Args:
      argv: the command and its arguments.
      values: the flags that the command has.
      options: class of what is returned; its fields have the names of the flags.
      about: text that --help shows before the flags.

    Returns:
      The values of the flags, and the `--config.KEY=VALUE` arguments as `overrides`.

    Raises:
      UsageError: a mistake, in one line.
      SystemExit: after --help.
    """
    overrides = [argument for argument in argv[1:] if argument.startswith('--config.')]
    own = [argument for argument in argv if argument not in overrides]
    read_flags(own, values, f'{about}\nFlags, beside --config.KEY=VALUE for every run:')
    names = [field.name for field in dataclasses.fields(options) if field.name != 'overrides']
    found: dict[str, Any] = {name: values[name].value for name in names}
    found = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return options(**found, overrides=tuple(overrides))


@contextlib.contextmanager
def own_folder(workdir: str, name: str) -> Iterator[Path]:
    """Makes the folder `name` in `workdir`, and holds a lock on `workdir` meanwhile.

    Raises:
      UserError: it cannot be written, or another command is working in `workdir`.
    """
    top = urls.local(workdir, '--workdir')
    with writing(str(top / name)):
        (top / name).mkdir(parents=True, exist_ok=True)
    with locked(top / '.lock', wait=False):
        yield top / name


def execute(options: Callable[[], Chosen], act: Callable[[Chosen], dict[str, Any]]) -> int:
    """Runs a command and prints its result as one JSON line; all else goes to standard error.

    Args:
      options: reads the command line; may print help and leave.
      act: does the work; returns the result. Where runs failed, `failed` holds a line for each and `runs` the
        number of all.

    Returns:
      The exit code: 0 done, 1 an error that its one line explains, or runs that failed, 2 a wrong command,
        130 interrupted.
    """
    set_up_logs()
    signal.signal(signal.SIGTERM, _interrupt)
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
    print(to_json(result, undefined_as_null=True), flush=True)
    failed = result.get('failed')
    if failed:
        print(f'error: {len(failed)} of {result["runs"]} runs failed: {failed[0]}', file=sys.stderr)
    return 1 if failed else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Handles SIGTERM as Ctrl-C is handled, so that the runs are ended too."""
    raise KeyboardInterrupt
