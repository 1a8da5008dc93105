"""The command: `python -m dlf_jax.compare --dataset=frappe --models=all --seeds=5 --files=FOLDER`.

Trains a list of models over seeds, going on where it stopped, and writes the table and the plots.
The last line on standard output is the result as one JSON object; all else goes to standard error.
Exit codes: 0 done, 1 an error that its one line explains, or runs that failed; 2 a wrong command.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sys
from pathlib import Path
from types import FrameType

from absl import flags
from absl import logging as absl_logging

from dlf_jax.comparison import report
from dlf_jax.errors import UsageError, UserError


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()

    def text(name: str, default: str, about: str) -> None:
        flags.DEFINE_string(name, default, about, flag_values=values)

    text('dataset', '', 'Datasets by commas; an experiment has its own.')
    text('models', '', 'By commas: MODEL, MODEL:VARIANT, MODEL:all (its variants), all (models).')
    text('experiment', '', 'A list of the paper: table2, table3, figure3 or figure4.')
    text('seeds', '5', 'How many (5: the seeds 0 to 4), or which (0,3,7).')
    flags.DEFINE_multi_string(
        'sweep', [], 'KEY=VALUE,VALUE,...; several make a grid. Without --models: of dlf.', flag_values=values
    )
    text('files', '', 'FOLDER with DATASET/train.csv, and perhaps valid.csv and test.csv.')
    text('configs', str(Path(__file__).parents[1] / 'configs'), 'FOLDER with DATASET.py.')
    text('workdir', 'results', 'FOLDER for runs (shared by all lists), tables and plots.')
    text('data_dir', '~/.cache/dlf_jax', 'Where prepared data is kept, for all runs.')
    text('name', '', "Of the table's folder; default: the experiment, or `comparison`.")
    flags.DEFINE_integer(
        'jobs', 0, 'Runs at once; 0: one per GPU, one on a CPU.', lower_bound=0, flag_values=values
    )
    flags.DEFINE_bool('list', False, 'Prints the runs, and runs nothing.', flag_values=values)
    flags.DEFINE_bool('help', False, 'Shows this help.', short_name='h', flag_values=values)
    return values


def parse(argv: list[str]) -> report.Options:
    """The options that flags name; `--config.KEY=VALUE` is for every run.

    Raises:
      UsageError: what is wrong, in one line.
      SystemExit: after --help.
    """
    values = _flags()
    overrides = [argument for argument in argv[1:] if argument.startswith('--config.')]
    try:
        rest = values([argument for argument in argv if argument not in overrides])
    except flags.Error as error:
        raise UsageError(str(error)) from error
    if values.help:
        print(f'{__doc__}\nFlags, beside --config.KEY=VALUE for every run:\n{values.get_help()}')
        raise SystemExit(0)
    if len(rest) > 1:
        raise UsageError(f'{rest[1]!r}: what is this? flags begin with --')
    found = {name: values[name].value for name in report.FLAGS}
    return report.Options(**{**found, 'sweep': tuple(found['sweep']), 'overrides': tuple(overrides)})


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


def main(argv: list[str]) -> int:
    """Carries the list out and prints what it came to."""
    _quiet_logs()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        options = parse(argv)
        with contextlib.redirect_stdout(sys.stderr):
            result = report.listing(options) if options.list else report.compare(options)
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


if __name__ == '__main__':
    sys.exit(main(sys.argv))
