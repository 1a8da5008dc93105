"""A trained model in Python: scores frames and files, and is saved as a folder that needs nothing else."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import ConfigDict

from dlf_jax import config as configs
from dlf_jax import config_checks
from dlf_jax.analysis import prepared
from dlf_jax.analysis.evaluated import evaluated
from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UserError, shown
from dlf_jax.exporting import export_model
from dlf_jax.file_writing import replacing_folder, to_json, writing
from dlf_jax.serving.encoded_batches import EncodedBatches
from dlf_jax.serving.predict import Predictor
from dlf_jax.storage import outputs
from dlf_jax.training import evaluation, weights_file
from dlf_jax.workdir import SAVED, Workdir

if TYPE_CHECKING:
    from dlf_jax.analysis.explanation.explain import Explanation


class TrainedModel:
    """Trained model: what `fit` and `load` return.

    Holds all that it needs in memory, and nothing that a call changes, so it may be used any number of times
    and from several threads. It is copied and pickled by the bytes of its saved folder: no code is in them.
    """

    def __init__(self, workdir: Workdir, config: ConfigDict):
        """Restores the best model of a run, or a saved one; `dlf_jax.load` is the way here.

        Args:
          workdir: of a run with at least one evaluation, or of a saved model.
          config: its config, perhaps with other `predict` keys.

        Raises:
          UserError: there are no weights, or they cannot be read.
        """
        self._predictor = Predictor(workdir, config)
        self._files = workdir.description()
        if self._predictor.calibrator is None:
            # Of other weights, if it is there, and nothing of it is applied.
            self._files.pop(workdir.calibration.name, None)

    @property
    def config(self) -> ConfigDict:
        """The whole config that it was trained with; a copy."""
        return self._predictor.config.copy_and_resolve_references()

    @property
    def schema(self) -> Schema:
        """The features, with the sizes of their vocabularies, and the label's column."""
        return self._predictor.encoder.schema

    @property
    def encoder(self) -> Encoder:
        """What makes ids and numbers of values, as `config.export.inputs='ids'` takes them."""
        return self._predictor.encoder

    @property
    def result(self) -> dict[str, Any] | None:
        """Metrics at the best step, parameters and time, as `train` returns them; None where training was
        stopped before its end. A copy."""
        found = self._files.get('result.json')
        return None if found is None else json.loads(found)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The course of training: a dict for each line of `metrics.jsonl`, in the order of the steps."""
        return [json.loads(line) for line in self._files.get('metrics.jsonl', '').splitlines()]

    def predict(self, data: Any) -> np.ndarray:
        """Probability of a click for each row, float32 [rows], in their order.

        Args:
          data: a frame of polars, pandas or pyarrow, a dict of columns, or files: a path, several by commas
            or as a list, or a glob. The label need not be there.

        Raises:
          UserError: a column is missing, or a value cannot be read; names the row.
        """
        return self._predictor.probabilities(self._predictor.open(data, labelled=False))

    def evaluate(
        self, data: Any, by: Sequence[str] = (), top: int = 20, intervals: int = 0
    ) -> dict[str, Any]:
        """Metrics of labelled rows.

        Args:
          data: as for `predict`, with the label.
          by: see `config.evaluate.by`.
          top: see `config.evaluate.top`.
          intervals: see `config.evaluate.intervals`.

        Returns:
          The standard metrics and those of `config.training.metrics` (None where undefined), `rows`,
          `rows_without_group` where there are such, and `out_of_vocabulary`: by field, the share of values
          that the training part did not have. With a calibrator, the metrics `before_calibration`. With `by`,
          `segments`: by column, a list of dicts (see `analysis.segments.Segment`), the worst first. With
          `intervals`, `intervals`: by metric, both ends of its 95 % interval.

        Raises:
          UserError: as `predict`; or a label that is none, or a column of `by` that is not there.
          UsageError: one of the options cannot be.
        """
        config = self.config
        config.evaluate.by, config.evaluate.top, config.evaluate.intervals = tuple(by), top, intervals
        config_checks.validate_evaluation(config)
        table = self._predictor.open(data, labelled=True)
        found = evaluated(self._predictor, table, config)
        evaluation.tell_rows_without_group(found, table.name)
        return found

    def write_predictions(self, data: Any, output: str | os.PathLike) -> dict[str, Any]:
        """Writes the probabilities of rows to a file; memory does not grow with their number.

        Args:
          data: as for `predict`.
          output: file to write, `.csv` or `.parquet`; `config.predict.keep` names columns to keep beside.

        Returns:
          `rows`, `output`, and `out_of_vocabulary`: by field, the share of values that the training part did
          not have.
        """
        table = self._predictor.open(data, labelled=False)
        with outputs.file(output) as file:
            return {**self._predictor.write(table, str(file)), 'output': shown(str(file))}

    def export(self, folder: str | os.PathLike, format: str = 'onnx', inputs: str = 'auto') -> dict[str, Any]:
        """Writes the model as a folder for services that have nothing of this package.

        Args:
          folder: must not be there, or hold an export, which is replaced.
          format: see `config.export.format`.
          inputs: see `config.export.inputs`.

        Returns:
          `output`, `format`, `inputs`, `files` with their bytes, and the `largest_difference` in probability
          from `predict` on `rows_compared` rows.

        Raises:
          UserError: the model cannot be exported, or a package is missing; says why.
          UsageError: there is no such format, or it has no such inputs.
        """
        config = self.config
        config.export.format, config.export.inputs = format, inputs
        config_checks.validate_export(config)
        config = export_model.exact(config)
        predictor = self._predictor.with_config(config)
        with outputs.folder(folder) as place:
            return {**export_model.export_model(predictor, place, config), 'output': shown(str(place))}

    def explain(
        self,
        data: Any = None,
        options: Mapping[str, Any] | None = None,
        data_dir: str | os.PathLike = '',
    ) -> Explanation:
        """Tells what the model looks at: importance of fields and pairs, rows' attributions, and more.

        Args:
          data: as for `predict`, with the label. None: the validation part of the run's prepared records.
          options: values of `config.explain` keys, such as `{'rows': 10_000}`.
          data_dir: folder of prepared data, where `data` is None.

        Returns:
          The numbers, as `found` and as `tables`; `write` puts them and their pictures into a folder.

        Raises:
          UserError: as `evaluate`; or there are no prepared records.
          UsageError: there is no such option, or its value cannot be.
        """
        # Here: what explains would make every command start later.
        from dlf_jax.analysis.explanation import sample
        from dlf_jax.analysis.explanation.explain import explain

        config = self.config
        configs.set_options(config, 'explain', options or {})
        config_checks.validate_explanation(config)
        if data is not None:
            table = self._predictor.open(data, labelled=True)
            batches = EncodedBatches(
                table, self._predictor.encoder, self._predictor.batch_size, labelled=True
            )
            return explain(self._predictor, sample.of_table(batches), table.name, config)
        made_of = json.loads(self._files.get('data.json', '{}'))
        records = prepared.find(made_of.get('fingerprint', ''), data_dir) if data_dir else None
        if records is None:
            raise UserError(
                f'{data_dir or "no folder of prepared data"}: the records that this model was trained on are '
                'not there; give labelled rows (--input), or the folder of prepared data (--data_dir)'
            )
        return explain(
            self._predictor, sample.of_blocks(records.blocks['valid']), 'the validation part', config
        )

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the model into a folder that `load` reads, and that `--workdir` of the command takes.

        It is that of a run without what only training reads: `weights.npz` instead of the checkpoints.

        Args:
          folder: must not be there, or be empty, or hold a saved model, which is replaced.

        Raises:
          UserError: the folder holds something else, or cannot be written.
        """
        with outputs.folder(folder) as place:
            self._save(place.resolve())

    def _save(self, target: Path) -> None:
        """`save` into a local folder."""
        if target.exists() and not (target.is_dir() and _may_be_replaced(target)):
            raise UserError(
                f'{target}: is there already, and is no saved model, or holds other files too; '
                'name another folder'
            )
        with writing(str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(target) as temporary:
            self._write(temporary)

    def _write(self, folder: Path) -> None:
        # These weights are those of one seed, whichever was chosen, and with what options it was loaded.
        saved = self.config
        saved.predict.seed = -1
        files = {**self._files, 'config.json': to_json(json.loads(saved.to_json()), indent=1) + '\n'}
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text, 'utf-8')
        self._predictor.encoder.save(folder / 'encoder')
        weights_file.save(Workdir(folder).weights, self._predictor.state)

    def __reduce__(self) -> tuple[Any, ...]:
        packed = io.BytesIO()
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(packed, 'w') as archive:
            self._write(Path(folder))
            for file in sorted(Path(folder).rglob('*')):
                if file.is_file():
                    archive.write(file, file.relative_to(folder))
        return _unpacked, (packed.getvalue(),)

    def __repr__(self) -> str:
        config, result = self._predictor.config, self.result
        valid = ((result or {}).get('valid') or {}).items()
        told = ''.join(f', valid {name} {value:.4f}' for name, value in valid if name in ('auc', 'logloss'))
        return f'<TrainedModel {config.model.name}: {len(self.schema.fields)} fields{told}>'


def _unpacked(packed: bytes) -> TrainedModel:
    """The model of the bytes that `TrainedModel` is pickled by."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(io.BytesIO(packed)) as archive:
        archive.extractall(folder)
        workdir = Workdir(folder)
        return TrainedModel(workdir, workdir.config())


def _may_be_replaced(folder: Path) -> bool:
    """Whether a folder is empty or holds a saved model and nothing else."""
    found = {path.name for path in folder.iterdir()}
    return not found or {'config.json', 'encoder', 'weights.npz'} <= found <= SAVED
