"""Runs of a comparison: every setting on every dataset with every seed, each in its own folder."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from dlf_jax import config as configs
from dlf_jax import config_checks, plugins
from dlf_jax.comparison.resolve import config_file, flags_of, keys, resolve
from dlf_jax.comparison.settings import Setting, folder_name, short_name
from dlf_jax.data.builders import DATASETS
from dlf_jax.data.preprocess.splits import PARTS
from dlf_jax.errors import UsageError, UserError, suggest
from dlf_jax.storage import urls
from dlf_jax.workdir import Workdir

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """The training of a setting on a dataset with a seed.

    Attributes:
      dataset: name in `DATASETS`, or `module:Name` or `file.py:Name` with an absolute path.
      folder: name of the setting's folder; the same for all seeds.
      seed: the seed.
      arguments: arguments of `dlf_jax.main`, all but the workdir.
      workdir: its own.
      config: the config that `arguments` make.
      data_dir: folder of prepared data.
    """

    dataset: str
    folder: str
    seed: int
    arguments: tuple[str, ...]
    workdir: Workdir
    config: ConfigDict
    data_dir: str

    @property
    def name(self) -> str:
        """Name in logs: `frappe dlf seed 0`."""
        return f'{short_name(self.dataset)} {self.folder} seed {self.seed}'


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A row of the table: a setting on a dataset, and its runs in the order of seeds; of a baseline, one."""

    dataset: str
    setting: Setting
    runs: tuple[Run, ...]

    @property
    def is_baseline(self) -> bool:
        """Whether the row is of a baseline, whose scores hardly depend on a seed."""
        return self.setting.model in configs.BASELINES

    @property
    def folder(self) -> str:
        """Name of the folder that holds the row's runs."""
        return self.runs[0].folder


@dataclasses.dataclass(frozen=True)
class RunList:
    """All rows of the table with their runs.

    Rows share runs where a sweep's point is what the config file has anyway.
    """

    rows: tuple[Row, ...]

    @property
    def datasets(self) -> tuple[str, ...]:
        """Each dataset once, in the order of rows."""
        return tuple(dict.fromkeys(row.dataset for row in self.rows))

    @property
    def runs(self) -> tuple[Run, ...]:
        """Each run once; seed by seed, so that every setting has a result early."""
        found = {(run.dataset, run.seed, run.folder): run for row in self.rows for run in row.runs}
        datasets = self.datasets
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
) -> RunList:
    """Lists the runs; every config among them is valid.

    Args:
      datasets: names of datasets, each with a config file in `configs_folder`.
      settings: the rows on each dataset.
      seeds: the seeds of each row; a baseline has the first alone.
      workdir: folder of the runs, which go to `runs/DATASET/SETTING/seedN` in it.
      data_dir: folder of prepared data.
      configs_folder: folder of config files.
      files: paths by part and by dataset, `{'frappe': {'train': path, ...}}`.
      overrides: values as text by config key, for all runs; keys of `config.model` only reach models that
        have them.

    Raises:
      UsageError: an unknown dataset or key, a value that cannot be.
    """
    rows, workdir, overrides = [], urls.local(workdir, '--workdir'), dict(overrides or {})
    for dataset in map(find_dataset, datasets):
        file = config_file(configs_folder, dataset)
        paths = {f'dataset.{part}': path for part, path in (files or {}).get(dataset, {}).items()}
        lacking: dict[str, list[str]] = {}
        for setting in settings:
            known = keys(file, setting.model)
            values = dict(paths)
            for key, value in overrides.items():
                # A key that no model has stays, for `resolve` to explain.
                if key in known or not key.startswith('model.') or not _any_has(key, file, settings):
                    values[key] = value
                else:
                    lacking.setdefault(key, []).append(short_name(setting.model))
            rows.append(_row(dataset, file, setting, seeds, values, workdir, data_dir))
        for key, names in lacking.items():
            _log.info('--config.%s: left out for %s', key, ', '.join(dict.fromkeys(names)))
    return RunList(tuple(rows))


def find_dataset(name: str) -> str:
    """The dataset's name as it is kept: a file in it has its absolute path.

    Raises:
      UsageError: there is no such dataset, with the nearest.
    """
    name = plugins.absolute(name)
    if not plugins.is_external(name) and name not in DATASETS:
        raise UsageError(f'--dataset={name}: there is no such dataset{suggest(name, DATASETS)}')
    plugins.lookup(name, DATASETS, '--dataset')
    return name


def _any_has(key: str, file: Path, settings: Sequence[Setting]) -> bool:
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
    config = resolve(file, setting, values, dataset)
    plain = dict(configs.flatten(resolve(file, dataclasses.replace(setting, swept=()), values, dataset)))
    found = dict(configs.flatten(config))
    # A point that the config has anyway is the same run, whatever list it comes from.
    swept = tuple((key, str(found[key])) for key, _ in setting.swept if found[key] != plain[key])
    folder = dataclasses.replace(setting, swept=swept).folder
    arguments = [f'--config={file}:{setting.model}', f'--dataset={dataset}', f'--variant={setting.variant}']
    arguments += [*flags_of({**values, **dict(setting.swept)}), f'--data_dir={data_dir}']
    runs = []
    for seed in seeds[:1] if setting.model in configs.BASELINES else seeds:
        own = ConfigDict(config)
        own.seed = seed
        config_checks.validate(own)
        place = workdir / 'runs' / folder_name(dataset, short_name(dataset)) / folder / f'seed{seed}'
        seeded = (*arguments, f'--config.seed={seed}')
        runs.append(Run(dataset, folder, seed, seeded, Workdir(place), own, data_dir))
    return Row(dataset, setting, tuple(runs))


def check_files(run: Run) -> None:
    """Raises UsageError where a run has no files to train on.

    A dataset of one's own may need none.
    """
    needs_files = not _is_generated(run.dataset) and not plugins.is_external(run.dataset)
    if needs_files and not run.config.dataset.train:
        raise UsageError(
            f'{run.dataset} needs files: --files=FOLDER with FOLDER/{run.dataset}/train.csv, '
            'and perhaps valid.csv and test.csv'
        )


def _is_generated(dataset: str) -> bool:
    """Whether a dataset of the project makes its rows itself, and needs no files."""
    return dataset in DATASETS and 'train' not in DATASETS[dataset].KEYS


def find_files(folder: str, datasets: Iterable[str]) -> dict[str, dict[str, str]]:
    """Finds `FOLDER/DATASET/{train,valid,test}.*` of each dataset that needs files.

    Args:
      folder: the folder of all datasets; the folder of `file.py:Name` in it is `Name`.
      datasets: names as `find_dataset` returns them.

    Returns:
      Paths by part and by dataset.

    Raises:
      UserError: no training file, or two files for one part.
    """
    found: dict[str, dict[str, str]] = {}
    for dataset in datasets:
        place = Path(folder).expanduser() / dataset.rpartition(':')[2]
        if _is_generated(dataset) or (plugins.is_external(dataset) and not place.exists()):
            continue
        parts = {}
        for part in PARTS:
            matches = sorted(place.glob(f'{part}.*'))
            if len(matches) > 1:
                names = ', '.join(path.name for path in matches)
                raise UserError(f'{place}: {names}: expected one file for the {part} part; move the others')
            if matches:
                parts[part] = str(matches[0])
        if 'train' not in parts:
            raise UserError(f'{place}: expected train.csv (and valid.csv, test.csv) there, found none')
        found[dataset] = parts
    return found


def fingerprint(run: Run) -> str | None:
    """Fingerprint of the data that a run was trained on; None before it began."""
    path = run.workdir.path / 'data.json'
    try:
        return json.loads(path.read_text())['fingerprint']
    except (OSError, ValueError, KeyError):
        return None
