"""The walk over days of logs: each is a run of its own that begins with the weights of the day before.

ROOT/days/NAME    the workdir of a day
ROOT/daily.csv    a line for each finished day, see `days.table`
ROOT/latest       a link to the newest finished day; in a store, which has no links, the table's last line
"""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dlf_jax import api, config_checks
from dlf_jax import config as configs
from dlf_jax.analysis import calibration
from dlf_jax.data import builders
from dlf_jax.data.readers.paths import ENDINGS
from dlf_jax.days import chain as chains
from dlf_jax.days import table
from dlf_jax.days.chain import Chain
from dlf_jax.errors import UsageError, UserError
from dlf_jax.storage import inputs, urls
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
    chain = chains.of(options.workdir)
    config = _prepared(config, given)
    _day_config(config, '', chain.name)  # whatever cannot be is refused before the first day
    with chain.locked():
        days = find(options.days)
        done = chain.finished()
        newest = done[-1] if done else ''
        if done:
            _check_paths(chain, done, days)
            _check_start(chain, done[0], options.start)
            _check_config(config, chain, newest)
            if not _is_complete(config, chain, newest):
                _train(_config_of(config, chain, newest), chain, newest, options.data_dir, preemption)
        left_out = [name for name in days if name not in done and name < newest]
        if left_out:
            _log.warning(
                'left out, since %s is trained and they come before it: %s', newest, ', '.join(left_out)
            )
        trained = []
        lines = _record(chain, options)
        for name, path in days.items():
            if name in done or name < newest:
                continue
            _log.info('day %s', name)
            start = chain.place(newest) if newest else options.start
            _train(_day_config(config, path, start), chain, name, options.data_dir, preemption)
            trained.append(newest := name)
            lines = _record(chain, options)
        return {
            'days': len(lines), 'trained': trained, 'left_out': left_out,
            'table': urls.join(chain.name, chains.TABLE), 'latest': lines[-1] if lines else None,
        }  # fmt: skip


def find(pattern: str) -> dict[str, str]:
    """Folders and files of days by name, in the order of the names.

    Args:
      pattern: a glob; the name of a day is the last part of its path, of a file without its endings.

    Raises:
      UserError: there are none, or two of one name.
    """
    paths = _stored(pattern) if urls.is_url(pattern) else _local(pattern)
    if not paths:
        raise UserError(f'--days={pattern}: no such folders or files')
    found: dict[str, str] = {}
    for path, is_folder in sorted(paths.items()):
        last = path.rpartition('/')[2]
        name = last if is_folder else _without_endings(last)
        if name in found:
            raise UserError(f'--days={pattern}: {found[name]} and {path} are both called {name!r}')
        # As a config key takes it, where commas are between files.
        found[name] = path.replace(',', '\\,')
    return dict(sorted(found.items()))


def _local(pattern: str) -> dict[str, bool]:
    """Paths that a glob matches, and whether each is a folder."""
    paths = [Path(path).absolute() for path in glob.glob(urls.plain(pattern))]
    return {str(path): path.is_dir() for path in paths}


def _stored(pattern: str) -> dict[str, bool]:
    """The same of URLs; what begins with `_` or a dot, such as the marker of a job, is none of them."""
    parts = urls.check(pattern).split('/')
    # `scheme:`, an empty part and the bucket come before the first that may be a pattern.
    fixed = next((i for i, part in enumerate(parts) if i > 2 and glob.has_magic(part)), len(parts))
    found: dict[str, bool] = {}
    for place in inputs.objects('/'.join(parts[:fixed])):
        own = place.split('/')
        matching = all(fnmatch.fnmatchcase(*pair) for pair in zip(own, parts, strict=False))
        if matching and len(own) >= len(parts) and not own[len(parts) - 1].startswith(('_', '.')):
            found['/'.join(own[: len(parts)])] = len(own) > len(parts)
    return found


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


def _check_paths(chain: Chain, done: Collection[str], days: Mapping[str, str]) -> None:
    """Raises UserError where the name of a finished day stands for another path than it was trained on."""
    for name in done:
        there = Workdir(chain.read(name)).config().dataset.train if name in days else ''
        if there != days.get(name, ''):
            raise UserError(
                f'--days: the day {name!r} was trained on {there}, and {days[name]} has the same name; name '
                'them apart, or let --days match the new days alone'
            )


def _check_start(chain: Chain, first: str, start: str) -> None:
    """Raises UserError where --from is another model than the chain began with."""
    began = Workdir(chain.read(first)).config().training.warm_start
    if start and urls.whole(start) != began:
        raise UserError(
            f'--from={start}: the days there began {f"from {began}" if began else "from scratch"}; '
            'leave --from out to go on, or take another --workdir'
        )


def _config_of(config: ConfigDict, chain: Chain, day: str) -> ConfigDict:
    """The config as a finished day would have it."""
    saved = dict(configs.flatten(Workdir(chain.read(day)).config()))
    config = config.copy_and_resolve_references()
    for key in _BY_DAY:
        section, _, name = key.partition('.')
        config[section][name] = saved[key]
    return _day_config(config, saved['dataset.train'], saved['training.warm_start'])


def _check_config(config: ConfigDict, chain: Chain, newest: str) -> None:
    """Raises UserError where the newest finished day was trained by another config."""
    try:
        Workdir(chain.read(newest)).finished(_config_of(config, chain, newest))
    except UserError as error:
        raise UserError(
            f'{error}; or begin a new chain in another --workdir, with --from={chain.latest(newest)}'
        ) from error


def _is_complete(config: ConfigDict, chain: Chain, newest: str) -> bool:
    """Whether the newest finished day has the calibrator and the baselines that its config asks for, which a
    kill after its training keeps from it: it is recorded when all is done."""
    return chain.is_recorded(newest) or not (calibration.asked(config.calibration) or config.baselines)


def _train(config: ConfigDict, chain: Chain, day: str, data_dir: str, preemption: Preemption | None) -> None:
    try:
        api.train(config, chain.place(day), data_dir, preemption)
    except Preempted:
        raise
    except UserError as error:
        raise type(error)(f'day {day}: {error}') from error


def _record(chain: Chain, options: Options) -> list[dict[str, Any]]:
    """Brings the table and the checkpoints that are kept up to the finished days; returns the table."""
    lines = table.lines(chain)
    if lines:
        days = [line['day'] for line in lines]
        chain.record(days[-1], table.as_csv(lines))
        for name in days[: -options.keep_days] if options.keep_days else ():
            chain.drop_checkpoints(name)
    return lines
