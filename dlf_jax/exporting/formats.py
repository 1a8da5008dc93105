"""The formats of exports: what each needs, how it is written, and how its consumers run it."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.errors import UserError
from dlf_jax.exporting.program import Program
from dlf_jax.exporting.verification import Run


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of exports. What it needs is imported when it is used: the package works without.

    Attributes:
      packages: that it is written and run with, beside the package's own.
      extra: of `pip install "dlf_jax[EXTRA]"`, that installs them.
      write: called as `write(folder, program, encoder, raw)`; returns facts for the manifest.
      runtime: loads the model of a folder, as its consumers do.
    """

    packages: tuple[str, ...]
    extra: str
    write: Callable[[Path, Program, Encoder, bool], dict[str, Any]]
    runtime: Callable[[Path], Run]

    def check_installed(self, name: str) -> None:
        """Raises UserError where a package is missing.

        Args:
          name: of the format.
        """
        for package in self.packages:
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise UserError(
                    f'the export format {name!r} needs the package {package}: '
                    f'pip install "dlf_jax[{self.extra}]" ({error})'
                ) from error


def _write_onnx(folder: Path, program: Program, encoder: Encoder, raw: bool) -> dict[str, Any]:
    from dlf_jax.exporting import onnx_file, onnx_graph, onnx_model

    model = onnx_model.of_raw(program, encoder) if raw else onnx_model.of_ids(program)
    onnx_file.write(folder, model.graph, model.constants, {'inputs': 'raw' if raw else 'ids'})
    opsets = {'ai.onnx': onnx_graph.OPSET} | ({onnx_graph.ML: onnx_graph.ML_OPSET} if raw else {})
    return {'ir_version': onnx_graph.IR_VERSION, 'opsets': opsets}


def _run_onnx(folder: Path) -> Run:
    from dlf_jax.exporting import onnx_file

    return onnx_file.Runtime(folder)


def _write_stablehlo(folder: Path, program: Program, encoder: Encoder, raw: bool) -> dict[str, Any]:
    from dlf_jax.exporting import stablehlo

    del encoder, raw
    return stablehlo.write(folder, program)


def _run_stablehlo(folder: Path) -> Run:
    from dlf_jax.exporting import stablehlo

    return stablehlo.Runtime(folder)


def _write_saved_model(folder: Path, program: Program, encoder: Encoder, raw: bool) -> dict[str, Any]:
    from dlf_jax.exporting import saved_model

    del encoder, raw
    return saved_model.write(folder, program)


def _run_saved_model(folder: Path) -> Run:
    from dlf_jax.exporting import saved_model

    return saved_model.Runtime(folder)


FORMATS = {
    'onnx': Format(('onnx', 'onnxruntime'), 'onnx', _write_onnx, _run_onnx),
    'stablehlo': Format(('flatbuffers',), 'stablehlo', _write_stablehlo, _run_stablehlo),
    'saved_model': Format(('tensorflow',), 'tensorflow', _write_saved_model, _run_saved_model),
}
