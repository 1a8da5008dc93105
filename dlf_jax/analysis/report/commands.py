"""The commands that the page tells: what repeats a run, and what brings what is missing."""

from __future__ import annotations

import re
import shlex
from typing import Any

from dlf_jax import config as configs
from dlf_jax.analysis.report import facts
from dlf_jax.analysis.report.facts import Run


def repeat(run: Run) -> str:
    """The command that trains the run again, into another folder."""
    return line(*_config_flags(run), '--workdir=ANOTHER_FOLDER')


def mode(run: Run, name: str, *more: str) -> str:
    """The command of a mode for a trained run."""
    return line(f'--mode={name}', f'--workdir={run.path}', *more)


def again(run: Run, *more: str) -> str:
    """The command that goes on with the run in its folder."""
    return line(*_config_flags(run), *more, f'--workdir={run.path}')


def line(*arguments: str) -> str:
    """A command line of this package, broken where it is long."""
    return ' \\\n    '.join(['python -m dlf_jax.main', *map(_quoted, arguments)])


def _quoted(argument: str) -> str:
    """The argument for a shell, in double quotes where that reads better."""
    if "'" in argument and not re.search(r'["$`\\!]', argument):
        return f'"{argument}"'
    return shlex.quote(argument)


def _config_flags(run: Run) -> list[str]:
    values = facts.differences(run)
    values.pop('model.name', None)
    known = dict(configs.flatten(run.config))
    return [
        f'--config.model.name={run.config.model.name}',
        *(f'--config.{key}={_as_text(value)}' for key, value in values.items() if key in known),
    ]


def _as_text(value: Any) -> str:
    return repr(value) if isinstance(value, tuple | list) else str(value)


def prepare(run: Run) -> str:
    """The command that prepares the run's data."""
    return line('--mode=prepare', *(flag for flag in _config_flags(run) if _of_data(flag)))


def _of_data(flag: str) -> bool:
    return flag.startswith('--config.dataset.')
