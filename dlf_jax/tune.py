"""The command: `python -m dlf_jax.tune --dataset=frappe --model=dlf --trials=60 --files=FOLDER`.

Searches settings of a model on the validation part, going on where it stopped: trials that Optuna proposes,
of which the hopeless are stopped early. Writes the trials, the flags of the best one and the importance of
keys. The aim is the metric that training monitors (`--config.training.monitor`, by default AUC). The last
line on standard output is the result as one JSON object; all else goes to standard error. Exit codes: 0 done,
1 an error that its one line explains, or no trial that finished; 2 a wrong command.
"""

from __future__ import annotations

import sys

from absl import flags

from dlf_jax.command_line import define_text
from dlf_jax.comparison import command, search_report


def _flags() -> flags.FlagValues:
    values = command.shared_flags()
    define_text(values, 'dataset', '', 'A dataset; its config file holds what is not searched.')
    define_text(values, 'model', '', 'MODEL, or MODEL:VARIANT; file.py:Name is a MODEL too.')
    define_text(
        values, 'space', '', 'A TOML file: what is searched; default: those of MODEL in CONFIGS/spaces.'
    )
    flags.DEFINE_integer(
        'trials', 50, 'Number of trials in the end, those of earlier starts among them.',
        lower_bound=1, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_float(
        'minutes', 0.0, 'Minutes of this start after which no further trial begins; 0: no limit.',
        lower_bound=0, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer('seed', 0, 'Seed of proposals and runs.', lower_bound=0, flag_values=values)
    flags.DEFINE_float(
        'logloss_weight',
        0.0,
        'Trials are ranked by AUC - WEIGHT * Logloss.',
        lower_bound=0,
        flag_values=values,
    )
    define_text(values, 'name', '', 'Folder of the search; default: tune-DATASET-MODEL.')
    return values


def parse(argv: list[str]) -> search_report.Options:
    """Reads the command line; raises as `command.parse` does."""
    return command.parse(argv, _flags(), search_report.Options, __doc__)


def main(argv: list[str]) -> int:
    """Carries the search out and prints the result; returns the exit code."""
    return command.execute(lambda: parse(argv), search_report.tune)


if __name__ == '__main__':
    sys.exit(main(sys.argv))
