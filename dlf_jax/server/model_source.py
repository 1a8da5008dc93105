"""Where the server has its models from: the workdir of a run, a saved model, or an export."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.rows import Rows
from dlf_jax.errors import UsageError, UserError
from dlf_jax.exporting import folder as exports
from dlf_jax.exporting.export_model import ENCODER
from dlf_jax.exporting.formats import FORMATS
from dlf_jax.exporting.program import LOGIT
from dlf_jax.file_writing import to_json
from dlf_jax.serving import calibrator as calibrators
from dlf_jax.serving import weights
from dlf_jax.serving.calibrator import Calibrator
from dlf_jax.storage import snapshot
from dlf_jax.training.model_setup import ModelSetup
from dlf_jax.workdir import Workdir

# Logits of a batch, [rows]; perhaps still on their way.
Program = Callable[[Rows], Any]


@dataclasses.dataclass(frozen=True)
class Source:
    """A trained model, wherever it is from.

    Attributes:
      encoder: of the training data.
      dataset: `config.dataset`, or what of it says how columns are made of others.
      version: name: the step of the weights, and a few digits that tell it from another of that step.
      calibrator: makes the probabilities of the logits; None: the sigmoid does.
      compile: the program for batches of the form of one batch.
    """

    encoder: Encoder
    dataset: ConfigDict
    version: str
    calibrator: Calibrator | None
    compile: Callable[[Rows], Program]


def read(folder: str | Path, seed: int, largest: int) -> Source:
    """Reads the model of a folder. Nothing is written to it.

    Args:
      folder: workdir of a run with at least one evaluation, a saved model, or an export of a model that
        takes ids.
      seed: of the run to serve, where there are several; -1: the best.
      largest: number of rows of the largest batch.

    Raises:
      UserError: there is no model, or it cannot be read.
      UsageError: no run has that seed.
    """
    path = snapshot.local(folder)
    if exports.is_export(path):
        if seed != -1:
            raise UsageError(f'--seed={seed}: {path} is an export, which is of one seed')
        return _of_export(path)
    workdir = Workdir(path)
    config = workdir.config()
    config.predict.seed = seed
    return _of_workdir(workdir, config, largest)


def _of_workdir(workdir: Workdir, config: ConfigDict, largest: int) -> Source:
    encoder = workdir.encoder()
    # One device: a batch of a request is too small to be shared.
    setup = ModelSetup(config, encoder.schema, largest, jax.local_devices()[:1])
    state = weights.restore(workdir, config, setup).weights()
    calibrator = calibrators.load(workdir, state, config)
    digest = hashlib.sha256()
    for name in ('config.json', 'encoder/encoder.json', 'encoder/vocabulary.parquet'):
        digest.update((workdir.path / name).read_bytes())
    if calibrator:
        digest.update(to_json(calibrator.to_json()).encode())
    for leaf in jax.tree.leaves((state.params, state.batch_stats)):
        # A sum of gigabytes of tables takes a second, and a digest ten.
        digest.update(zlib.crc32(np.ascontiguousarray(leaf).data).to_bytes(4, 'big'))

    def compile(batch: Rows) -> Program:
        program = setup.new_predict_step(1).compile(state, batch)
        return lambda batch: program(state, batch)

    version = _version(int(jax.device_get(state.step)), digest)
    return Source(encoder, config.dataset, version, calibrator, compile)


def _of_export(folder: Path) -> Source:
    manifest = exports.read_manifest(folder)
    if manifest['inputs'] != 'ids' or manifest['format'] == 'saved_model':
        raise UserError(
            f'{folder}: is an export as {manifest["format"]} of {manifest["inputs"]} inputs, which runs '
            'without this package; serve the workdir, or an export as onnx or stablehlo with '
            '--config.export.inputs=ids'
        )
    if manifest['dataset'] is None:
        raise UserError(
            f"{folder}: its dataset is code of one's own, which is no part of an export; serve the workdir"
        )
    kind = FORMATS[manifest['format']]
    kind.check_installed(manifest['format'])
    run = kind.runtime(folder)
    digest = hashlib.sha256((folder / exports.MANIFEST).read_bytes())
    calibration = manifest['calibration']
    return Source(
        Encoder.load(folder / ENCODER),
        ConfigDict(manifest['dataset']),
        _version(manifest['step'], digest),
        Calibrator.from_json(calibration) if calibration else None,
        # Compiled, where that is needed, when a batch of the form is scored first.
        lambda batch: lambda batch: run(batch)[LOGIT],
    )


def _version(step: int, digest: Any) -> str:
    return f'{step}-{digest.hexdigest()[:8]}'
