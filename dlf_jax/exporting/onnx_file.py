"""ONNX files: a graph with its constants, beside it where they are many; run in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from dlf_jax.exporting.onnx_graph import IR_VERSION, ML, ML_OPSET, OPSET, type_of
from dlf_jax.file_writing import writing

MODEL, DATA = 'model.onnx', 'model.onnx.data'
# A protobuf message holds less than 2 GiB; the nodes need room as well.
LARGEST = (1 << 31) - (64 << 20)
# Smaller constants stay in the model, where runtimes read shapes from.
_SMALL = 1024


def write(
    folder: Path,
    graph: onnx.GraphProto,
    constants: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
) -> list[str]:
    """Writes a model; constants that do not fit into it, into a file beside it.

    Args:
      folder: to write into.
      graph: without its constants.
      constants: by name.
      metadata: texts that the file carries along, by name.

    Returns:
      Names of the files.
    """
    size = sum(array.nbytes for array in constants.values()) + graph.ByteSize()
    files = [MODEL]
    if size > LARGEST:
        files.append(DATA)
        with writing(str(folder / DATA)), open(folder / DATA, 'wb') as data:
            for name, array in constants.items():
                graph.initializer.append(_beside(name, array, data))
    else:
        graph.initializer.extend(_inside(name, array) for name, array in constants.items())
    opsets = [helper.make_opsetid('', OPSET)]
    if any(node.domain == ML for node in graph.node):
        opsets.append(helper.make_opsetid(ML, ML_OPSET))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name='dlf_jax')
    helper.set_model_props(model, dict(metadata))
    with writing(str(folder / MODEL)):
        (folder / MODEL).write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(folder / MODEL))
    return files


def _inside(name: str, array: np.ndarray) -> TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def _beside(name: str, array: np.ndarray, data: Any) -> TensorProto:
    if array.dtype == object or array.nbytes <= _SMALL:
        return _inside(name, array)
    # Runtimes map the file into memory a page at a time.
    data.write(b'\0' * (-data.tell() % 4096))
    tensor = TensorProto(name=name, data_type=type_of(array.dtype.name), dims=array.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (('location', DATA), ('offset', data.tell()), ('length', array.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    data.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return tensor


class Runtime:
    """A written model in ONNX Runtime, on the CPU."""

    def __init__(self, folder: Path):
        """Loads the model of a folder."""
        options = onnxruntime.SessionOptions()
        # Its warnings are about what it could make smaller.
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(folder / MODEL), options, providers=['CPUExecutionProvider']
        )

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
