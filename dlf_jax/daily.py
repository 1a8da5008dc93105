"""The command: `python -m dlf_jax.daily --days='logs/dt=*/' --config=configs/table.py --workdir=ROOT`.

Trains days of logs in the order of their names, each from the weights of the day before, and goes on where it
stopped; days that appear later are trained by the same command. Before a day is trained on, the model of the
day before is measured on it. Writes ROOT/daily.csv, ROOT/days/NAME (the workdir of each day) and ROOT/latest
(a link to the newest). The last line on standard output is the result as one JSON object; all else goes to
standard error. Exit codes: 0 done, 1 an error that its one line explains, 2 a wrong command, 130 interrupted,
143 stopped by SIGTERM.
"""

from __future__ import annotations

if __name__ == '__main__':
    # The process is the command's own: before what is imported below starts threads.
    import os

    from dlf_jax import allocator

    allocator.take_over()
    # What fails in XLA comes back as an exception.
    os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

import contextlib
import platform
import sys
import warnings
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from dlf_jax import config as configs
from dlf_jax import config_arguments, program_cache
from dlf_jax.command_line import define_help, define_text, read_flags, set_up_logs
from dlf_jax.days import walk
from dlf_jax.errors import UsageError, UserError
from dlf_jax.file_writing import to_json
from dlf_jax.storage import data_folder
from dlf_jax.training import runtime_errors
from dlf_jax.training.preemption import EXIT_CODE, Preempted, Preemption


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        'config', None, 'Config file, FILE.py or FILE.py:MODEL; --config.KEY=VALUE sets a key.',
        flag_values=values,
    )  # fmt: skip
    define_text(values, 'days', '', "GLOB of folders or files, a day each, such as 'logs/dt=*/'.")
    define_text(values, 'workdir', '', 'ROOT, the folder of the days, their table and the link `latest`.')
    define_text(
        values, 'from', '', 'Workdir or saved model that the first day begins with; else from scratch.'
    )
    define_text(values, 'dataset', '', 'Sets config.dataset.name.')
    define_text(values, 'variant', '', 'Sets config.variant.')
    define_text(values, 'data_dir', '~/.cache/dlf_jax', 'FOLDER of prepared data, shared by all runs.')
    flags.DEFINE_integer(
        'keep_days', 0, 'Number of newest days that keep their checkpoints; 0: all.',
        lower_bound=0, flag_values=values,
    )  # fmt: skip
    define_help(values)
    return values


def parse(argv: list[str]) -> tuple[ConfigDict, set[str], walk.Options]:
    """Reads the command line.

    Returns:
      The config of every day, the dotted keys that were set, and the options.

    Raises:
      UsageError: a mistake, in one line.
      SystemExit: after --help.
    """
    values = _flags()
    try:
        argv = config_arguments.select_model(argv)
        # ml_collections reads the overrides from there.
        sys.argv = argv
        read_flags(argv, values, f'{__doc__}\nFlags:')
        config = values.config
        given = config_flags.get_override_values(values['config'])
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise UsageError(config_arguments.explain(argv, error)) from error
    if not isinstance(config, ConfigDict):
        raise UsageError(f'{argv[1]}: get_config() must return a ConfigDict')
    for name in ('days', 'workdir'):
        if not values[name].value:
            raise UsageError(f'--{name}: {values[name].help}')
    if values.dataset:
        config.dataset.name = values.dataset
    if values.variant:
        config.variant = values.variant
    configs.apply_choices(config, given)
    options = walk.Options(
        values.days, values.workdir, values.data_dir, values['from'].value or '', values.keep_days
    )
    return config, set(given), options


def main(argv: list[str]) -> int:
    """Walks the days and prints the result; returns the exit code."""
    set_up_logs()
    if not sys.warnoptions:
        warnings.simplefilter('ignore')
    try:
        config, given, options = parse(argv)
        # By machine, because programs for CPUs are made for the one that compiles them.
        program_cache.keep_programs(Path(data_folder.local(options.data_dir)) / 'compiled' / platform.node())
        # Libraries print to standard output; that is for the result alone.
        with contextlib.redirect_stdout(sys.stderr), runtime_errors.explained():
            result = walk.walk(config, given, options, Preemption(listen=True))
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        if isinstance(error, Preempted):
            return EXIT_CODE
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print('interrupted; the same command goes on from the last checkpoint', file=sys.stderr)
        return 130
    print(to_json(result, undefined_as_null=True), flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv))
