"""The ONNX graph of a trained model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx
from jax.extend import core

from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.errors import UserError
from dlf_jax.exporting import onnx_jaxpr, onnx_raw
from dlf_jax.exporting.onnx_graph import Graph, Tensor, Value
from dlf_jax.exporting.program import LOGIT, PROBABILITY, Program, shapes


@dataclasses.dataclass(frozen=True)
class Model:
    """A graph and the constants that its nodes read, by name."""

    graph: onnx.GraphProto
    constants: dict[str, np.ndarray]


def of_ids(program: Program) -> Model:
    """The model on encoded inputs: `categorical`, `numeric` and `bags`, as `Encoder.encode` makes them."""
    graph, closed = Graph(), program.jaxpr()
    rows = closed.out_avals[0].shape[0]
    inputs = {
        name: graph.input(name, np.dtype(shape.dtype).name, shape.shape)
        for name, shape in shapes(program.schema, rows).items()
    }
    return Model(graph.finish(_outputs(graph, program, closed, inputs)), graph.constants)


def of_raw(program: Program, encoder: Encoder) -> Model:
    """The model on raw values: an input for each field, with the vocabulary inside.

    A row with a number that the encoder refuses has NaN for its outputs.

    Args:
      program: of the model.
      encoder: of the training data.

    Raises:
      UserError: a field cannot be encoded in ONNX; or a primitive of the model has no counterpart there.
    """
    onnx_raw.check(encoder)
    graph, closed = Graph(), program.jaxpr()
    rows = closed.out_avals[0].shape[0]
    inputs, refused = onnx_raw.encoded(graph, encoder, rows)
    outputs = _outputs(graph, program, closed, inputs)
    if refused is not None:
        nan = np.asarray(np.nan, np.float32)
        outputs = {
            name: graph.node('Where', [refused, nan, value], value.shape, value.dtype)
            for name, value in outputs.items()
        }
    return Model(graph.finish(outputs), graph.constants)


def _outputs(
    graph: Graph, program: Program, closed: core.ClosedJaxpr, inputs: Mapping[str, Value]
) -> dict[str, Tensor]:
    """The model's part of a graph, from encoded inputs to its outputs."""
    for name, array in program.weights.items():
        graph.call(array, name)
    # In the order of JAX's trees, by name: the weights, then the inputs.
    arguments: list[Value] = [program.weights[name] for name in sorted(program.weights)]
    arguments += [inputs[name] for name in sorted(inputs)]
    rows = closed.out_avals[0].shape[0]
    found = onnx_jaxpr.add(graph, closed, arguments, rows, program.model)
    outputs = {}
    for name, value in zip((LOGIT, PROBABILITY), found, strict=True):
        if isinstance(value, np.ndarray):
            raise UserError(
                f'the model {program.model} gives every row the same probability; nothing to export'
            )
        outputs[name] = value
    return outputs
