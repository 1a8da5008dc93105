"""The ONNX graph of a trained model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx
from jax.extend import core

from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.errors import UserError
from dlf_jax.export import onnx_jaxpr, onnx_raw
from dlf_jax.export.onnx_graph import Graph, Tensor, Value
from dlf_jax.export.program import Program, shapes

OUTPUT = 'probability'


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
    probability = _probability(graph, program, closed, inputs)
    return Model(graph.finish({OUTPUT: probability}), graph.constants)


def of_raw(program: Program, encoder: Encoder) -> Model:
    """The model on raw values: an input for each field, with the vocabulary inside.

    A row with a number that the encoder refuses has the probability NaN.

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
    probability = _probability(graph, program, closed, inputs)
    if refused is not None:
        nan = np.asarray(np.nan, np.float32)
        probability = graph.node('Where', [refused, nan, probability], probability.shape, probability.dtype)
    return Model(graph.finish({OUTPUT: probability}), graph.constants)


def _probability(
    graph: Graph, program: Program, closed: core.ClosedJaxpr, inputs: Mapping[str, Value]
) -> Tensor:
    """The model's part of a graph, from encoded inputs to probabilities."""
    for name, array in program.weights.items():
        graph.call(array, name)
    # In the order of JAX's trees: the weights, then the inputs, by name.
    arguments = [program.weights[name] for name in sorted(program.weights)]
    arguments += [inputs[name] for name in sorted(inputs)]
    rows = closed.out_avals[0].shape[0]
    (found,) = onnx_jaxpr.add(graph, closed, arguments, rows, program.model)
    if isinstance(found, np.ndarray):
        raise UserError(f'the model {program.model} gives the same probability to every row; nothing to export')
    return found
