"""The command: `python -m dlf_jax.compare --dataset=frappe --models=all --seeds=5 --files=FOLDER`.

Trains a list of models over seeds, going on where it stopped, and writes the table and the plots.
The last line on standard output is the result as one JSON object; all else goes to standard error.
Exit codes: 0 done, 1 an error that its one line explains, or runs that failed; 2 a wrong command.
"""

from __future__ import annotations

import sys
from typing import Any

from absl import flags

from dlf_jax.command_line import define_text
from dlf_jax.comparison import command, report


def _flags() -> flags.FlagValues:
    values = command.shared_flags()
    define_text(
        values, 'dataset', '', 'Datasets by commas; file.py:Name for your own. An experiment has its own.'
    )
    define_text(
        values, 'models', '',
        'By commas: MODEL, MODEL:VARIANT, MODEL:all (its variants), all. file.py:Name is a MODEL too, as are '
        'the baselines logistic and lightgbm.',
    )  # fmt: skip
    define_text(values, 'experiment', '', 'A list of the paper: table2, table3, figure3 or figure4.')
    define_text(values, 'seeds', '5', 'How many (5: the seeds 0 to 4), or which (0,3,7).')
    flags.DEFINE_multi_string(
        'sweep', [], 'KEY=VALUE,VALUE,...; several make a grid. Without --models: of dlf.', flag_values=values
    )
    define_text(values, 'name', '', 'Folder of the table; default: the experiment, or `comparison`.')
    flags.DEFINE_bool('list', False, 'Prints the runs, and runs nothing.', flag_values=values)
    return values


def parse(argv: list[str]) -> report.Options:
    """Reads the command line; raises as `command.parse` does."""
    return command.parse(argv, _flags(), report.Options, __doc__)


def main(argv: list[str]) -> int:
    """Carries the runs out and prints the result; returns the exit code."""

    def act(options: report.Options) -> dict[str, Any]:
        return report.listing(options) if options.list else report.compare(options)

    return command.execute(lambda: parse(argv), act)


if __name__ == '__main__':
    sys.exit(main(sys.argv))
