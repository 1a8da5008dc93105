"""What a run's folder says of it, read once for all parts of the page."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dlf_jax import config as configs
from dlf_jax import config_checks, plugins
from dlf_jax.analysis import prepared
from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UserError
from dlf_jax.serving import calibrator as calibrators
from dlf_jax.training import stored_scores
from dlf_jax.training.stored_scores import Scores
from dlf_jax.workdir import Workdir

# Parts with scores, the one that the page leads with first.
PARTS = ('test', 'valid')


@dataclasses.dataclass(frozen=True)
class Run:
    """A run and what is known of it.

    Attributes:
      workdir: its folder.
      name: short name, unlike that of any other run on the page.
      config: its config.
      result: its result; None where training has not come to its end.
      history: the lines of `metrics.jsonl`.
      versions: versions of packages by name.
      made_of: what the records are made of (`data.json`).
      records: the prepared records; None where they are not there.
    """

    workdir: Workdir
    name: str
    config: ConfigDict
    result: dict[str, Any] | None
    history: list[dict[str, Any]]
    versions: dict[str, str]
    made_of: dict[str, Any]
    records: prepared.Prepared | None

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.workdir.path

    @property
    def saved(self) -> bool:
        """Whether it is the folder of a saved model, in which nothing is trained."""
        return self.workdir.weights.is_file()

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the prepared records; runs on the same rows have the same."""
        return str(self.made_of.get('fingerprint', ''))

    @functools.cached_property
    def encoder(self) -> Encoder:
        """Vocabularies and statistics of the training part."""
        return self.workdir.encoder()

    @property
    def schema(self) -> Schema:
        """Fields, with sizes."""
        return self.encoder.schema

    @property
    def is_baseline(self) -> bool:
        """Whether it is one of the baselines, which have neither steps nor embeddings."""
        return self.config.model.name in configs.BASELINES

    @property
    def dataset(self) -> str:
        """Name of the dataset, as a title has it."""
        return short_name(self.config.dataset.name)

    @property
    def model(self) -> str:
        """Name of the model and its variant."""
        variant = '' if self.config.variant == 'full' else f' ({self.config.variant})'
        return f'{short_name(self.config.model.name)}{variant}'

    @functools.cached_property
    def results(self) -> list[dict[str, Any]]:
        """The result of each seed; of one that has not come to its end, none."""
        if self.result is None:
            return []
        return self.result.get('runs', [self.result])

    @property
    def best(self) -> dict[str, Any] | None:
        """The result of the seed that prediction uses."""
        for result in self.results:
            if result['seed'] == (self.result or {}).get('best_seed', result['seed']):
                return result
        return None

    @functools.cached_property
    def scores(self) -> dict[str, Scores]:
        """Stored scores by part, those of the part that the page leads with first; none of an older run."""
        stored = stored_scores.parts(self.workdir)
        return {part: stored_scores.read(self.workdir, part) for part in PARTS if part in stored}

    @functools.cached_property
    def calibration(self) -> dict[str, Any] | None:
        """Content of `calibration.json`; None where there is no calibrator of the weights that are scored."""
        found = calibrators.read(self.workdir)
        best = self.best
        fits = found and best and (found['seed'], found['step']) == (best['seed'], best.get('best_step'))
        return found if fits else None

    @property
    def parts(self) -> list[str]:
        """Parts with metrics, the one that the page leads with first."""
        best = self.best or {}
        return [part for part in PARTS if best.get(part)]

    @property
    def day(self) -> str:
        """The day on which the result was written; '' before."""
        path = self.path / 'result.json'
        if not path.is_file():
            return ''
        written = datetime.datetime.fromtimestamp(path.stat().st_mtime)
        return f'{written.day} {written:%B %Y}'

    def read_json(self, *names: str) -> Any:
        """A JSON file of the folder; None where it is not there.

        Raises:
          UserError: it cannot be read.
        """
        path = self.path.joinpath(*names)
        try:
            return json.loads(path.read_text('utf-8'))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f'{path}: cannot be read: {error}') from error


def short_name(name: str) -> str:
    """Name of an entry of an open list; of one's own, the object's."""
    return name.rpartition(':')[2] if plugins.is_external(name) else name


def read(folders: Sequence[str | os.PathLike], data_dir: str | os.PathLike | None) -> list[Run]:
    """Reads the folders of runs.

    Args:
      folders: workdirs, or folders of saved models.
      data_dir: folder of prepared data; None: the records are not looked for.

    Raises:
      UserError: a folder holds no run, or a file of it cannot be read.
    """
    found = [_read(Workdir(folder), data_dir) for folder in folders]
    return [dataclasses.replace(run, name=name) for run, name in zip(found, _names(found), strict=True)]


def _read(workdir: Workdir, data_dir: str | os.PathLike | None) -> Run:
    config = workdir.config()
    run = Run(workdir, '', config, workdir.result(), training_history(workdir.metrics), {}, {}, None)
    made_of = run.read_json('data.json') or {}
    return dataclasses.replace(
        run,
        versions=run.read_json('versions.json') or {},
        made_of=made_of,
        records=prepared.found_or_none(str(made_of.get('fingerprint', '')), data_dir),
    )


def training_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, as far as they are whole."""
    found = []
    for line in path.read_text('utf-8', 'replace').splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            # The line that a running or killed process was writing.
            break
    return found


def _names(runs: Sequence[Run]) -> list[str]:
    """Short names, all different: the model; where two have the same, with seed, dataset or folder."""
    tellers = (
        lambda run: run.model,
        lambda run: f'{run.model}, {run.dataset}',
        lambda run: f'{run.model}, seed {run.config.seed}',
        lambda run: f'{run.model}, {run.path.name}',
        lambda run: f'{run.model}, {run.path}',
    )
    for teller in tellers:
        names = [teller(run) for run in runs]
        if len(set(names)) == len(names):
            return names
    return [f'{name} [{i}]' for i, name in enumerate(names, 1)]


def differences(run: Run) -> dict[str, Any]:
    """Config keys that are not the defaults for the run's model, with their values."""
    return config_checks.differences(run.config)
