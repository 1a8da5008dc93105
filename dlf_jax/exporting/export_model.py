"""Export of a trained model as a folder that needs nothing of this package."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dlf_jax.config import build_model
from dlf_jax.data.schema import Field
from dlf_jax.errors import UserError
from dlf_jax.exporting import folder as folders
from dlf_jax.exporting import program as programs
from dlf_jax.exporting import raw_values, verification
from dlf_jax.file_writing import to_json, write_atomically
from dlf_jax.serving.predict import Predictor
from dlf_jax.training.train_step import Forward

_log = logging.getLogger(__name__)

SELF_TEST = 'self_test.json'
_SELF_TEST_ROWS = 8
# What each format needs beside the package's own, and the extra that installs it.
_NEEDS = {'onnx': ('onnx', 'onnxruntime'), 'stablehlo': ('flatbuffers',)}


def exact(config: ConfigDict) -> ConfigDict:
    """The config of a trained model as it is exported: in float32, with plain array operations.

    Parameters are float32 in any case. What was trained in bfloat16 is exported, and compared, in float32.
    """
    config = config.copy_and_resolve_references()
    if config.precision != 'float32':
        _log.info('trained with config.precision=%s; exported in float32', config.precision)
    config.precision, config.matmul_precision = 'float32', 'highest'
    if 'attention_kernel' in config.model:
        config.model.attention_kernel = 'plain'
    return config


def export_model(predictor: Predictor, folder: Path, config: ConfigDict) -> dict[str, Any]:
    """Writes a folder with the model, its manifest and its self test, and compares it with the predictor.

    Args:
      predictor: of the workdir, with a config of `exact`.
      folder: to write; not there, or an export, which is replaced.
      config: `config.export` says which format, and which inputs.

    Returns:
      `output`, `format`, `inputs`, `files` with their bytes, `rows_compared` and `largest_difference`, in
      probability.

    Raises:
      UserError: a package is missing, the model or a field cannot be exported, something else is in the
        folder's place, or the exported model's answers are others.
    """
    kind, raw = config.export.format, takes_raw(config)
    _check_installed(kind)
    with folders.replacing(folder) as temporary:
        forward = Forward(build_model(predictor.config), predictor.encoder.schema)
        program = programs.of_state(forward, predictor.state, config.model.name, predictor.calibrator)
        run, facts = (_onnx if kind == 'onnx' else _stablehlo)(temporary, program, predictor, raw)
        wanted = verification.expected(predictor, raw)
        difference, limit = verification.largest_difference(
            run, wanted, lambda: verification.rounding(program, wanted.encoded)
        )
        write_atomically(temporary / SELF_TEST, to_json(_self_test(wanted, limit), indent=1) + '\n')
        made_with = ('dlf_jax', 'jax', 'jaxlib', *_NEEDS[kind])
        manifest = {
            'format': kind,
            'inputs': 'raw' if raw else 'ids',
            **facts,
            'made_with': {name: importlib.metadata.version(name) for name in made_with},
            'model': config.model.name,
            'variant': config.variant,
            'tensors': _tensors(predictor, wanted, raw),
            'schema': predictor.encoder.schema.identity(),
            'calibration': predictor.calibrator and predictor.calibrator.to_json(),
            'verified': {
                'rows': len(wanted.probability),
                'largest_difference': difference,
                'limit': limit,
            },
        }
        files = folders.write_manifest(temporary, manifest)
    return {
        'output': str(folder),
        'format': kind,
        'inputs': manifest['inputs'],
        'files': {name: found['bytes'] for name, found in files.items()},
        'rows_compared': len(wanted.probability),
        'largest_difference': difference,
    }


def takes_raw(config: ConfigDict) -> bool:
    """Whether the exported model takes raw values, by `config.export`."""
    return config.export.inputs == 'raw' or (config.export.inputs, config.export.format) == ('auto', 'onnx')


def _check_installed(kind: str) -> None:
    for package in _NEEDS[kind]:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(
                f'config.export.format={kind!r} needs the package {package}: pip install "dlf_jax[{kind}]" '
                f'({error})'
            ) from error


def _onnx(
    folder: Path, program: programs.Program, predictor: Predictor, raw: bool
) -> tuple[verification.Run, dict[str, Any]]:
    # Here: the package works without ONNX.
    from dlf_jax.exporting import onnx_file, onnx_graph, onnx_model

    model = onnx_model.of_raw(program, predictor.encoder) if raw else onnx_model.of_ids(program)
    onnx_file.write(folder, model.graph, model.constants, {'inputs': 'raw' if raw else 'ids'})
    opsets = {'ai.onnx': onnx_graph.OPSET} | ({onnx_graph.ML: onnx_graph.ML_OPSET} if raw else {})
    facts = {'ir_version': onnx_graph.IR_VERSION, 'opsets': opsets}
    return onnx_file.Runtime(folder), facts


def _stablehlo(
    folder: Path, program: programs.Program, predictor: Predictor, raw: bool
) -> tuple[verification.Run, dict[str, Any]]:
    from dlf_jax.exporting import stablehlo

    del predictor, raw
    stablehlo.write(folder, program)
    run = stablehlo.Runtime(folder)
    return run, run.facts


def _tensors(predictor: Predictor, wanted: verification.Expected, raw: bool) -> dict[str, Any]:
    """Names, dtypes and shapes of inputs and outputs; of raw inputs, how their values are written."""
    fields = {field.name: field for field in predictor.encoder.schema.fields} if raw else {}

    def described(name: str, array: np.ndarray) -> dict[str, Any]:
        dtype = 'string' if array.dtype == object else array.dtype.name
        width = [] if array.ndim == 1 else ['elements'] if name in fields else [array.shape[1]]
        facts = {'name': name, 'dtype': dtype, 'shape': [programs.BATCH, *width]}
        return facts | (_written(predictor, fields[name]) if name in fields else {})

    outputs = [
        {'name': name, 'dtype': 'float32', 'shape': [programs.BATCH]}
        for name in (programs.LOGIT, programs.PROBABILITY)
    ]
    return {'inputs': [described(*item) for item in wanted.inputs.items()], 'outputs': outputs}


def _written(predictor: Predictor, field: Field) -> dict[str, Any]:
    """How values of a raw input are written."""
    from dlf_jax.exporting import spellings

    facts: dict[str, Any] = {'missing': 'NaN' if field.number else ''}
    if field.bag:
        facts |= {'separator': field.separator} if field.separator else {'filler': ''}
    if not field.number and spellings.moments(predictor.encoder, field):
        facts['written'] = '2026-01-31 or 2026-01-31 23:59:59, in UTC'
    return facts


def _self_test(wanted: verification.Expected, limit: float) -> dict[str, Any]:
    """A few rows as they are in a file, as inputs, and the probabilities that they must give."""
    count = _SELF_TEST_ROWS
    return {
        'rows': [_json(row) for row in wanted.frame.head(count).to_dicts()],
        'inputs': {name: raw_values.to_lists(values[:count]) for name, values in wanted.inputs.items()},
        'probability': [float(x) for x in wanted.probability[:count]],
        'tolerance': limit,
    }


def _json(row: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in row.items()}
