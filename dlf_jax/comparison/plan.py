"""Which runs there are: every setting on every dataset with every seed, each in its own folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from dlf_jax import config as configs
from dlf_jax.comparison.resolve import config_file, flags_of, keys, resolve
from dlf_jax.comparison.settings import Setting
from dlf_jax.data.builders import DATASETS
from dlf_jax.data.preprocess.splits import PARTS
from dlf_jax.errors import UsageError, UserError, suggest
from dlf_jax.workdir import Workdir

_log = logging.getLogger(__name__)

# File systems take 255 bytes.
_LONGEST_NAME = 120


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One training run.

    Attributes:
      dataset, folder, seed: who it is; `folder` is of all seeds of a setting.
      arguments: of `dlf_jax.main`, all but the workdir.
      workdir: its own.
      config: what `arguments` come to.
    """

    dataset: str
    folder: str
    seed: int
    arguments: tuple[str, ...]
    workdir: Workdir
    config: ConfigDict

    @property
    def name(self) -> str:
        return f'{self.dataset} {self.folder} seed {self.seed}'


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A line of the table: a setting on a dataset, and its runs in the order of seeds."""

    dataset: str
    setting: Setting
    runs: tuple[Run, ...]

    @property
    def folder(self) -> str:
        return self.runs[0].folder


@dataclasses.dataclass(frozen=True)
class Plan:
    """All rows. Rows may share runs: a sweep's point that the config file has anyway."""

    rows: tuple[Row, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """Each run once; seed by seed, so that every setting has a result early."""
        found = {(run.dataset, run.seed, run.folder): run for row in self.rows for run in row.runs}
        datasets = list(dict.fromkeys(row.dataset for row in self.rows))
        order = sorted(found, key=lambda key: (datasets.index(key[0]), key[1]))
        return tuple(found[key] for key in order)


def make(
    datasets: Iterable[str],
    settings: Sequence[Setting],
    seeds: Sequence[int],
    *,
    workdir: str | Path,
    data_dir: str,
    configs_folder: str,
    files: Mapping[str, Mapping[str, str]] | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Plan:
    """The plan; every config in it is valid.

    Args:
      datasets: names, each a config file in `configs_folder`.
      settings: the rows on each dataset.
      seeds: of each row.
      workdir: runs go to `runs/DATASET/SETTING/seedN` in it.
      data_dir: prepared data.
      configs_folder: of config files.
      files: by dataset, `{'train': path, ...}`.
      overrides: of config keys, for all runs; model keys only reach models that have them.

    Raises:
      UsageError: an unknown dataset or key, a value that cannot be.
    """
    rows, workdir, overrides = [], Path(workdir).expanduser(), dict(overrides or {})
    for dataset in datasets:
        if dataset not in DATASETS:
            raise UsageError(f'--dataset={dataset}: there is no such dataset{suggest(dataset, DATASETS)}')
        file = config_file(configs_folder, dataset)
        parts = {f'dataset.{part}': path for part, path in (files or {}).get(dataset, {}).items()}
        lacking: dict[str, list[str]] = {}
        for setting in settings:
            known = keys(file, setting.model)
            values = dict(parts)
            for key, value in overrides.items():
                # What no model has stays, for resolve to explain.
                if key in known or not key.startswith('model.') or not _anywhere(key, file, settings):
                    values[key] = value
                else:
                    lacking.setdefault(key, []).append(setting.model)
            rows.append(_row(dataset, file, setting, seeds, values, workdir, data_dir))
        for key, those in lacking.items():
            _log.info('--config.%s: left out for %s', key, ', '.join(dict.fromkeys(those)))
    return Plan(tuple(rows))


def _anywhere(key: str, file: Path, settings: Sequence[Setting]) -> bool:
    return any(key in keys(file, model) for model in dict.fromkeys(s.model for s in settings))


def _row(
    dataset: str,
    file: Path,
    setting: Setting,
    seeds: Sequence[int],
    values: Mapping[str, str],
    workdir: Path,
    data_dir: str,
) -> Row:
    config = resolve(file, setting, values)
    plain = dict(configs.flatten(resolve(file, dataclasses.replace(setting, swept=()), values)))
    found = dict(configs.flatten(config))
    # A point where the setting is anyway is the same runs, whatever list it comes from.
    swept = tuple((key, str(found[key])) for key, _ in setting.swept if found[key] != plain[key])
    folder = folder_name(dataclasses.replace(setting, swept=swept).name)
    arguments = [f'--config={file}:{setting.model}', f'--dataset={dataset}', f'--variant={setting.variant}']
    arguments += [*flags_of({**values, **dict(setting.swept)}), f'--data_dir={data_dir}']
    runs = []
    for seed in seeds:
        own = ConfigDict(config)
        own.dataset.name, own.seed = dataset, seed
        configs.validate(own)
        place = Workdir(workdir / 'runs' / dataset / folder / f'seed{seed}')
        runs.append(Run(dataset, folder, seed, (*arguments, f'--config.seed={seed}'), place, own))
    return Row(dataset, setting, tuple(runs))


def folder_name(name: str) -> str:
    """A setting's name as a folder; two names never share one."""
    plain = re.sub(r'[^\w.+=,-]', '_', name.replace(' ', ',').replace(':', '-'))
    if re.fullmatch(r'[\w.+=: -]*', name) and len(plain) <= _LONGEST_NAME:
        return plain
    # Brackets and quotes were lost, or the end will be: a digest tells (8,) and [8] apart.
    plain = plain[:_LONGEST_NAME]
    return f'{plain}-{hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:6]}'


def check_files(run: Run) -> None:
    """Raises UsageError where a run has no files to train on."""
    if run.dataset != 'synthetic' and not run.config.dataset.train:
        raise UsageError(
            f'{run.dataset}: which files? --files=FOLDER with FOLDER/{run.dataset}/train.csv, '
            'and perhaps valid.csv and test.csv'
        )


def find_files(folder: str, datasets: Iterable[str]) -> dict[str, dict[str, str]]:
    """`FOLDER/DATASET/{train,valid,test}.*` of each dataset that needs files.

    Raises:
      UserError: no training file, or two files for one part.
    """
    found: dict[str, dict[str, str]] = {}
    for dataset in datasets:
        if dataset == 'synthetic':
            continue
        place, parts = Path(folder).expanduser() / dataset, {}
        for part in PARTS:
            matches = sorted(place.glob(f'{part}.*'))
            if len(matches) > 1:
                names = ', '.join(path.name for path in matches)
                raise UserError(f'{place}: {names}: which one is the {part} part? leave one there')
            if matches:
                parts[part] = str(matches[0])
        if 'train' not in parts:
            raise UserError(f'{place}: expected train.csv (and valid.csv, test.csv) there, found none')
        found[dataset] = parts
    return found


def fingerprint(run: Run) -> str | None:
    """Of the data that a run was trained on; None before it began."""
    path = run.workdir.path / 'data.json'
    try:
        return json.loads(path.read_text())['fingerprint']
    except (OSError, ValueError, KeyError):
        return None
