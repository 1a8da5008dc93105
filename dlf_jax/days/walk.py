"""The walk over days of logs: each is a run of its own that begins with the weights of the day before.

ROOT/days/NAME    the workdir of a day
ROOT/daily.csv    a line for each finished day, see `days.table`
ROOT/latest       a link to the newest finished day
"""

from __future__ import annotations

import dataclasses
import glob
import logging
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dlf_jax import api, config_checks
from dlf_jax import config as configs
from dlf_jax.analysis import calibration
from dlf_jax.data import builders
from dlf_jax.data.readers.paths import ENDINGS
from dlf_jax.days import table
from dlf_jax.errors import UsageError, UserError
from dlf_jax.file_writing import writing
from dlf_jax.lock import locked
from dlf_jax.storage import urls
from dlf_jax.training.preemption import Preempted, Preemption
from dlf_jax.workdir import Workdir

_log = logging.getLogger(__name__)

# Values of keys that the command line does not set: every row of a day is seen once, nothing ends a day
# early, and the learning rate does not drop, since no day is the last.
DEFAULTS = {
    'training.epochs': 1,
    'training.evaluate_every': 0,
    'plateau.patience': 0,
    'plateau.factor': 1.0,
    'dataset.fractions': (9.0, 1.0),
}
# Keys that may be another day's own: which rows it is evaluated on, and what of that is looked at.
_BY_DAY = (
    'training.monitor', 'dataset.split', 'dataset.time', 'dataset.fractions', 'dataset.split_seed',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Options:
    """What `walk` is told beside a config.

    Attributes:
      days: glob of folders or files, a day each, in the order of their names.
      workdir: ROOT.
      data_dir: folder of prepared data.
      start: workdir or saved model that the first day begins with; '': from scratch.
      keep_days: number of newest days that keep their checkpoints; 0: all.
    """

    days: str
    workdir: str
    data_dir: str = builders.DATA_DIR
    start: str = ''
    keep_days: int = 0


def walk(
    config: ConfigDict, given: Collection[str], options: Options, preemption: Preemption | None = None
) -> dict[str, Any]:
    """Trains every day that is not finished, in order; killed and called again it ends with the same bits.

    Args:
      config: of every day; its files are the day's.
      given: dotted keys that stay as `config` has them, others take their value from `DEFAULTS`.
      options: where the days are, and where they go.
      preemption: says when to save and stop; None: never.

    Returns:
      `days`, the number of finished ones; `trained`, the names of those that this call finished; `left_out`,
      the names of days before the newest finished one that came too late; `table`; and `latest`, the line of
      the newest day.

    Raises:
      UserError: a day cannot be trained; names it. The days before it stay.
      Preempted: saved and stopped.
    """
    root = urls.local(options.workdir, '--workdir').absolute()
    config = _prepared(config, given)
    _day_config(config, '', str(root))  # whatever cannot be is refused before the first day
    with writing(str(root)):
        (root / 'days').mkdir(parents=True, exist_ok=True)
    with locked(root / '.lock', wait=False):
        days = find(options.days)
        done = table.finished(root)
        newest = done[-1] if done else ''
        if done:
            _check_paths(root, done, days)
            _check_start(root / 'days' / done[0], options.start)
            day = root / 'days' / newest
            _check_config(config, root, day)
            if not _is_complete(config, root, newest):
                _train(_config_of(config, day), day, options.data_dir, preemption)
        left_out = [name for name in days if name not in done and name < newest]
        if left_out:
            _log.warning(
                'left out, since %s is trained and they come before it: %s', newest, ', '.join(left_out)
            )
        trained = []
        _record(root, options)
        for name, path in days.items():
            if name in done or name < newest:
                continue
            _log.info('day %s', name)
            start = str(root / 'days' / newest) if newest else options.start
            _train(_day_config(config, path, start), root / 'days' / name, options.data_dir, preemption)
            trained.append(newest := name)
            _record(root, options)
        lines = table.lines(root)
        return {
            'days': len(lines), 'trained': trained, 'left_out': left_out, 'table': str(root / table.NAME),
            'latest': lines[-1] if lines else None,
        }  # fmt: skip


def find(pattern: str) -> dict[str, str]:
    """Folders and files of days by name, in the order of the names.

    Args:
      pattern: a glob; the name of a day is the last part of its path, of a file without its endings.

    Raises:
      UserError: there are none, or two of one name.
    """
    top = urls.local(pattern, '--days')
    paths = [Path(path).absolute() for path in glob.glob(str(top))]
    if not paths:
        raise UserError(f'--days={pattern}: no such folders or files')
    found: dict[str, str] = {}
    for path in sorted(paths):
        name = path.name if path.is_dir() else _without_endings(path.name)
        if name in found:
            raise UserError(f'--days={pattern}: {found[name]} and {path} are both called {name!r}')
        # As a config key takes it, where commas are between files.
        found[name] = str(path).replace(',', '\\,')
    return dict(sorted(found.items()))


def _without_endings(name: str) -> str:
    """The name of a file without the endings of data files; what else follows a dot may be the day."""
    while name.lower().endswith(ENDINGS):
        name = name[: name.rindex('.')]
    return name


def _prepared(config: ConfigDict, given: Collection[str]) -> ConfigDict:
    """The config with the `DEFAULTS` of what is not given."""
    for key in ('dataset.train', 'dataset.valid', 'dataset.test', 'training.warm_start'):
        if dict(configs.flatten(config))[key]:
            raise UsageError(
                f'config.{key}: not with --days, whose days are the files; --from begins the first'
            )
    if config.distributed.coordinator:
        raise UsageError('config.distributed.coordinator: the days are walked by one process')
    config = config.copy_and_resolve_references()
    for key, value in DEFAULTS.items():
        if key not in given:
            section, _, name = key.partition('.')
            config[section][name] = value
    return config


def _day_config(config: ConfigDict, path: str, start: str) -> ConfigDict:
    """The validated config of a day.

    Args:
      config: of every day.
      path: of the day's folder or file.
      start: workdir or saved model that it begins with; '': from scratch.
    """
    config = config.copy_and_resolve_references()
    config.dataset.train, config.training.warm_start = path, start
    config_checks.validate(config)
    return config


def _check_paths(root: Path, done: Collection[str], days: Mapping[str, str]) -> None:
    """Raises UserError where the name of a finished day stands for another path than it was trained on."""
    for name in done:
        there = Workdir(root / 'days' / name).config().dataset.train if name in days else ''
        if there != days.get(name, ''):
            raise UserError(
                f'--days: the day {name!r} was trained on {there}, and {days[name]} has the same name; name '
                'them apart, or let --days match the new days alone'
            )


def _check_start(first: Path, start: str) -> None:
    """Raises UserError where --from is another model than the chain began with."""
    began = Workdir(first).config().training.warm_start
    if start and os.path.realpath(os.path.expanduser(start)) != began:
        raise UserError(
            f'--from={start}: the days there began {f"from {began}" if began else "from scratch"}; '
            'leave --from out to go on, or take another --workdir'
        )


def _config_of(config: ConfigDict, day: Path) -> ConfigDict:
    """The config as a finished day would have it."""
    saved = dict(configs.flatten(Workdir(day).config()))
    config = config.copy_and_resolve_references()
    for key in _BY_DAY:
        section, _, name = key.partition('.')
        config[section][name] = saved[key]
    return _day_config(config, saved['dataset.train'], saved['training.warm_start'])


def _check_config(config: ConfigDict, root: Path, newest: Path) -> None:
    """Raises UserError where the newest finished day was trained by another config."""
    try:
        Workdir(newest).finished(_config_of(config, newest))
    except UserError as error:
        raise UserError(
            f'{error}; or begin a new chain in another --workdir, with --from={root / "latest"}'
        ) from error


def _is_complete(config: ConfigDict, root: Path, newest: str) -> bool:
    """Whether the newest finished day has the calibrator and the baselines that its config asks for, which a
    kill after its training keeps from it: the link follows when all is done."""
    link = root / 'latest'
    recorded = link.is_symlink() and Path(os.readlink(link)).name == newest
    return recorded or not (calibration.asked(config.calibration) or config.baselines)


def _train(config: ConfigDict, day: Path, data_dir: str, preemption: Preemption | None) -> None:
    try:
        api.train(config, day, data_dir, preemption)
    except Preempted:
        raise
    except UserError as error:
        raise type(error)(f'day {day.name}: {error}') from error


def _record(root: Path, options: Options) -> None:
    """Brings the table, the link and the checkpoints that are kept up to the finished days."""
    done = table.finished(root)
    if not done:
        return
    table.write(root)
    with writing(str(root / 'latest')):
        temporary = root / '.latest.tmp'
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(Path('days', done[-1]))
        os.replace(temporary, root / 'latest')
    if options.keep_days:
        for name in done[: -options.keep_days]:
            shutil.rmtree(root / 'days' / name / 'checkpoints', ignore_errors=True)
