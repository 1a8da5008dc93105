"""A run's folder: its config, versions, encoder, checkpoints, metrics and result.

config.json, versions.json   what was run, with what
data.json                    which prepared data, and what that is made of: files, keys, schema
began_from.json              what a warm start began with: path, seed, step, hashes of weights and encoder
progressive.json             its metrics on the new training part, before training on it
own_code/                    text of one's own models, datasets and metrics
encoder/                     schema and vocabulary: all that prediction needs beside
checkpoints/                 latest and best
weights.npz                  instead of checkpoints: the best weights of a model that was saved
metrics.jsonl, tensorboard/  the course of training
scores/                      logits, labels and weights of the validation and test rows, at the best step
calibration.json             what turns logits into calibrated probabilities, where there is such
baselines.json               results of the baselines, where the config asks for them
result.json                  there when the run is finished
explain/                     what the model looks at, where that was asked for
report.html                  one page of it all, where `--mode=report` has written it
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dlf_jax import config as configs
from dlf_jax import config_by_size, data_changes, own_code
from dlf_jax.data.builders.base import Builder
from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.errors import UserError
from dlf_jax.file_writing import to_json, write_atomically, writing
from dlf_jax.storage import snapshot
from dlf_jax.storage.working_copy import InPlace, Keeper

# Keys that may differ between the runs of one workdir: they change nothing of what was trained.
FREE = (
    'predict.', 'training.checkpoint_every', 'training.log_every', 'dataset.train',
    'dataset.valid', 'dataset.test', 'dataset.schema', 'dataset.verify', 'dataset.download',
    'dataset.allow_modified', 'dataset.beam_runner', 'dataset.beam_options', 'dataset.check_overlap',
    'distributed.', 'sharding.', 'compile.', 'export.', 'explain.', 'parallel', 'training.keep_best',
    'training.metrics', 'baselines', 'evaluate.', 'calibration.', 'training.warm_start',
)  # fmt: skip
# Keys that may differ, and make a finished run go on.
LONGER = {'training.epochs', 'plateau.patience'}
# The workdir has all values that depend on it.
_ANY_SIZE = config_by_size.Size(1, 1)
_PACKAGES = (
    'dlf_jax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy', 'polars',
    'tensorflow-datasets',
)  # fmt: skip

# What a saved model takes from its run as it is.
_DESCRIPTION = (
    'config.json', 'versions.json', 'data.json', 'metrics.jsonl', 'result.json', 'baselines.json',
    'calibration.json', 'began_from.json', 'progressive.json',
)  # fmt: skip
# All that is in the folder of a saved model; what explains it and the page of it go with it where another
# takes its place.
SAVED = frozenset((*_DESCRIPTION, 'encoder', 'own_code', 'weights.npz', 'explain', 'report.html'))


class Workdir:
    """Folder of a run: its paths, and its small files.

    Attributes:
      path: the folder, or a local copy of it, see `storage`.
      keeper: keeps what is written where the folder is.
    """

    def __init__(self, path: str | os.PathLike, keeper: Keeper | None = None):
        """Takes the folder.

        Args:
          path: path; or URL, to read what is there now.
          keeper: of a folder to write, with `path`, as `working_copy.opened` gives it; None: a local one.
        """
        self.path, self.keeper = snapshot.local(path), keeper or InPlace()

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / 'checkpoints'

    @property
    def weights(self) -> Path:
        """File of a saved model's weights; a run has none."""
        return self.path / 'weights.npz'

    @property
    def metrics(self) -> Path:
        """File of the metrics, a JSON object a line."""
        return self.path / 'metrics.jsonl'

    @property
    def own_code(self) -> Path:
        """Folder of the text of one's own code; none where there is no such code."""
        return self.path / 'own_code'

    @property
    def baselines(self) -> Path:
        """File of the baselines' results."""
        return self.path / 'baselines.json'

    @property
    def scores(self) -> Path:
        """Folder of the stored scores, which `training.stored_scores` reads."""
        return self.path / 'scores'

    @property
    def calibration(self) -> Path:
        """File of the calibrator."""
        return self.path / 'calibration.json'

    @property
    def progressive(self) -> Path:
        """File of the metrics of a warm start on the training part, before training on it."""
        return self.path / 'progressive.json'

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / 'tensorboard'

    @property
    def lock(self) -> Path:
        """Lock file of the process that trains here."""
        return self.path / '.lock'

    def create(self) -> None:
        """Makes the folder and its lock file where they are missing.

        Raises:
          UserError: it holds a saved model, which has nothing to go on from; or cannot be written.
        """
        if self.weights.exists():
            raise UserError(
                f'{self.path}: holds a saved model, not a run; take another --workdir to train in'
            )
        with writing(f'the workdir {self.path}'):
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.lock.exists():
                self.lock.touch()

    @property
    def _trained(self) -> bool:
        """Whether there is a checkpoint to go on from, or the result of what needs none: a baseline, or a
        finished run whose checkpoints were removed."""
        return self._has_checkpoint or (self.path / 'result.json').exists()

    @property
    def _has_checkpoint(self) -> bool:
        return any(path.name.isdigit() for path in self.checkpoints.glob('*'))

    def begin(
        self, config: ConfigDict, builder: Builder, began_from: Mapping[str, Any] | None = None
    ) -> None:
        """Makes the folder that of a run of this config, which `finished` and `check_data` have let pass.

        Until the first checkpoint nothing is lost by another config, which then takes over.

        Args:
          config: the whole config, validated.
          builder: its data is prepared; the workdir gets a copy of its encoder, and then needs nothing else.
          began_from: of a warm start that begins, what `began_from` is to return.
        """
        if self._trained:
            (self.path / 'result.json').unlink(missing_ok=True)
        else:
            versions = {name: _version(name) for name in _PACKAGES}
            versions['python'] = platform.python_version()
            write_atomically(self.path / 'versions.json', to_json(versions, indent=1) + '\n')
            self._take_encoder(Path(builder.data_dir))
            made_of = {'fingerprint': builder.builder_config.name, 'made_of': builder.made_of}
            write_atomically(self.path / 'data.json', to_json(made_of, indent=1) + '\n')
            (self.path / 'began_from.json').unlink(missing_ok=True)
            if began_from:
                write_atomically(self.path / 'began_from.json', to_json(began_from, indent=1) + '\n')
        own_code.keep(config, self.own_code)
        wanted = json.loads(config.to_json())
        write_atomically(self.path / 'config.json', to_json(wanted, indent=1) + '\n')

    def began_from(self) -> dict[str, Any] | None:
        """What the run in the folder began with, where that was a warm start and it has a checkpoint."""
        path = self.path / 'began_from.json'
        return self._read_json(path) if self._trained and path.exists() else None

    def _take_encoder(self, folder: Path) -> None:
        target, temporary = self.path / 'encoder', self.path / '.encoder.tmp'
        with writing(str(target)):
            for left in (temporary, target):
                shutil.rmtree(left, ignore_errors=True)
            shutil.copytree(folder / 'encoder', temporary)
            os.replace(temporary, target)

    def finished(self, config: ConfigDict) -> dict[str, Any] | None:
        """The result, if the folder holds a finished run and this config asks for nothing more.

        Changes nothing.

        Args:
          config: the whole config, validated; keys that are left to the size of the data are as the run has
            them.

        Raises:
          UserError: the folder holds a run of another config; the message shows the difference. Or of code
            of one's own that has changed.
        """
        if not self._trained:
            return None
        own_code.check(self.own_code)
        config = config_by_size.filled(config, _ANY_SIZE, self.values(config_by_size.open_keys(config)))
        wanted = json.loads(config.to_json())
        differing = self._differences(self._saved_config(), wanted)
        fixed = [line for key, line in differing.items() if not _free(key, wanted)]
        if bool(self.began_from()) != bool(config.training.warm_start):
            fixed.append(differing['training.warm_start'])
        if fixed:
            raise UserError(
                f'{self.path} holds a run of another config ({"; ".join(fixed)}); take another '
                '--workdir, or the same config to go on'
            )
        if not LONGER.intersection(differing):
            return self.result()
        if not self._has_checkpoint and config.model.name not in configs.BASELINES:
            raise UserError(
                f'{self.path}: its checkpoints were removed (--keep_days), so it cannot go on; take another '
                '--workdir'
            )
        return None

    def values(self, keys: Iterable[str]) -> dict[str, Any]:
        """Values of config keys of the run in the folder; none where none has begun to train."""
        if not self._trained:
            return {}
        saved = dict(configs.flatten(self._saved_config()))
        return {key: saved[key] for key in keys}

    @staticmethod
    def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, str]:
        old, new = dict(configs.flatten(found)), dict(configs.flatten(wanted))
        return {
            key: f'{key}: {old.get(key)!r} there, {new.get(key)!r} now'
            for key in {**old, **new}
            if old.get(key) != new.get(key)
        }

    def check_data(self, builder: Builder) -> None:
        """Refuses other data than the run in the folder was trained on. Changes nothing.

        Args:
          builder: opened; its data need not be prepared.

        Raises:
          UserError: names the files, the keys and the fields that differ.
        """
        if not self._trained:
            return
        found = self._read_json(self.path / 'data.json')
        now = json.loads(to_json(builder.made_of))
        changes = data_changes.describe(found['made_of'], now) if 'made_of' in found else []
        if found['fingerprint'] == builder.builder_config.name and not changes:
            return
        what = '; '.join(changes) or 'the input files have changed since, or a version before 0.2 began it'
        raise UserError(
            f'{self.path} holds a run on other data ({what}); take another --workdir to train on the new '
            'data, or put back what the run began with (or name the old files) to go on with it'
        )

    def description(self) -> dict[str, str]:
        """The small files that say what was trained and how it went, text by name."""
        paths = [self.path / name for name in _DESCRIPTION]
        paths += sorted(self.own_code.glob('*'))
        return {str(path.relative_to(self.path)): self._read(path) for path in paths if path.is_file()}

    def config(self) -> ConfigDict:
        """The saved config.

        Raises:
          UserError: the folder holds no run, or code of one's own has changed since.
        """
        path = self.path / 'config.json'
        if not path.is_file():
            raise UserError(f'{self.path}: no trained model here (no config.json); check --workdir')
        own_code.check(self.own_code)
        return ConfigDict(_tuples(self._saved_config()))

    def _saved_config(self) -> dict[str, Any]:
        """The saved config as JSON; keys that came with a later version have their defaults."""
        saved = self._read_json(self.path / 'config.json')
        for old, new in configs.RENAMED.items():
            section, _, key = old.partition('.')
            if key in saved.get(section, {}):
                saved[section][new.partition('.')[2]] = saved[section].pop(key)
        defaults = json.loads(configs.get_config(saved['model']['name']).to_json())
        return {
            key: {**value, **saved.get(key, {})} if isinstance(value, dict) else saved.get(key, value)
            for key, value in {**saved, **defaults}.items()
        }

    def _read_json(self, path: Path) -> Any:
        try:
            return json.loads(self._read(path))
        except ValueError as error:
            raise UserError(f'{path}: cannot be read: {error}') from error

    def _read(self, path: Path) -> str:
        try:
            return path.read_text('utf-8')
        except (OSError, ValueError) as error:
            raise UserError(f'{path}: cannot be read: {error}') from error

    def encoder(self) -> Encoder:
        """The encoder of the training data."""
        return Encoder.load(self.path / 'encoder')

    def result(self) -> dict[str, Any] | None:
        """The result of a finished run; None before."""
        path = self.path / 'result.json'
        return self._read_json(path) if path.exists() else None

    def finish(self, result: dict[str, Any]) -> None:
        """Writes the result, which marks the run as finished."""
        write_atomically(self.path / 'result.json', to_json(result, undefined_as_null=True) + '\n')


def _free(key: str, wanted: dict[str, Any]) -> bool:
    if key == 'training.epochs' and wanted['optimizer']['schedule'] != 'constant':
        return False
    # A run that has left the stack has no state to go on from.
    if key == 'plateau.patience' and wanted['seeds'] > 1:
        return False
    return key in LONGER or key.startswith(FREE)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return 'not installed'


def _tuples(saved: Any) -> Any:
    """JSON knows no tuples; a config knows no lists."""
    if isinstance(saved, dict):
        return {key: _tuples(value) for key, value in saved.items()}
    return tuple(_tuples(v) for v in saved) if isinstance(saved, list) else saved
