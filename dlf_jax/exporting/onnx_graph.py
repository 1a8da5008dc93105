"""Graph of ONNX nodes under construction: constants fold, broadcasts wait, equal nodes are one.

A value is a `Tensor`, which a node computes, or a NumPy array, which is known. The shape of either has 1
where it is still to be repeated: ONNX broadcasts as NumPy does, so most repetitions never happen.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

# What the graph's nodes are of: ONNX 1.15, which ONNX Runtime has since 1.17 (February 2024).
OPSET, ML_OPSET, IR_VERSION = 20, 3, 9
ML = 'ai.onnx.ml'

# Begins the names of what is made here, so that no input has one of them.
_OWN = 'dlf_jax/'
# Numbers of rows and columns: integers, or JAX's symbolic dimensions.
Shape = tuple[Any, ...]

_TYPES = {
    'bool': TensorProto.BOOL,
    'int32': TensorProto.INT32,
    'int64': TensorProto.INT64,
    'uint8': TensorProto.UINT8,
    'uint32': TensorProto.UINT32,
    'float32': TensorProto.FLOAT,
    'float64': TensorProto.DOUBLE,
    'str': TensorProto.STRING,
}


class Unsupported(Exception):
    """Something that has no counterpart here; the message says what."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A value that a node computes, or an input of the graph.

    Attributes:
      name: in the graph.
      shape: 1 where it is still to be repeated.
      dtype: NumPy's name of it, or 'str'.
    """

    name: str
    shape: Shape
    dtype: str


Value = Tensor | np.ndarray


def dtype_of(value: Value) -> str:
    """NumPy's name of the dtype of a value, or 'str'."""
    return value.dtype if isinstance(value, Tensor) else value.dtype.name


def type_of(dtype: str) -> int:
    """ONNX's number of a dtype. Raises Unsupported for those that its runtimes mostly lack."""
    if dtype not in _TYPES:
        raise Unsupported(f'the dtype {dtype}')
    return _TYPES[dtype]


class Graph:
    """Inputs, nodes and constants of a graph.

    Attributes:
      nodes: in the order of their computation.
      constants: arrays that nodes read, by name.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._named: dict[int, tuple[np.ndarray, str]] = {}
        self._known: dict[tuple, str] = {}
        self._made: dict[bytes, list[Tensor]] = {}
        self._batch: Tensor | None = None

    def input(self, name: str, dtype: str, shape: Shape) -> Tensor:
        """Adds an input; symbolic dimensions are called as they print."""
        dims = [dim if isinstance(dim, int) else str(dim) for dim in shape]
        self._inputs.append(helper.make_tensor_value_info(name, type_of(dtype), dims))
        return Tensor(name, shape, dtype)

    def call(self, array: np.ndarray, name: str) -> None:
        """Gives a known array a name, for the constant that it becomes where a node reads it."""
        self._named[id(array)] = (array, name)

    def node(
        self,
        op: str,
        inputs: Sequence[Value],
        shape: Shape,
        dtype: str,
        domain: str = '',
        **attributes: Any,
    ) -> Tensor:
        """Adds a node of one output, or finds the equal one that is there.

        Args:
          op: the operator.
          inputs: in its order.
          shape: of the output.
          dtype: of the output.
          domain: of the operator; '' for ONNX's own.
          attributes: of the operator.
        """
        return self.several(op, inputs, [(shape, dtype)], domain, **attributes)[0]

    def several(
        self,
        op: str,
        inputs: Sequence[Value],
        outputs: Sequence[tuple[Shape, str]],
        domain: str = '',
        **attributes: Any,
    ) -> list[Tensor]:
        """Adds a node of several outputs, each with a shape and a dtype; see `node`."""
        names = [self.name(value) for value in inputs]
        node = helper.make_node(op, names, [], domain=domain, **attributes)
        # A vocabulary is a part of its node.
        key = hashlib.blake2b(node.SerializeToString(deterministic=True)).digest()
        if key not in self._made:
            number = len(self.nodes)
            made = [
                Tensor(f'{_OWN}{op}_{number}' + (f'_{i}' if i else ''), plain(shape), dtype)
                for i, (shape, dtype) in enumerate(outputs)
            ]
            node.output.extend(tensor.name for tensor in made)
            node.name = made[0].name
            self.nodes.append(node)
            self._made[key] = made
        return self._made[key]

    def name(self, value: Value) -> str:
        """Name of a value in the graph; a known array becomes a constant, equal ones the same."""
        if isinstance(value, Tensor):
            return value.name
        if id(value) in self._named:
            name = self._named[id(value)][1]
            self.constants[name] = value
            return name
        type_of(value.dtype.name if value.dtype != object else 'str')
        content = tuple(value.flat) if value.dtype == object else hashlib.blake2b(value.tobytes()).digest()
        key = (value.dtype.name, value.shape, content)
        if key not in self._known:
            name = f'{_OWN}constant_{len(self._known)}'
            self._known[key] = name
            self.constants[name] = value
        return self._known[key]

    def cast(self, value: Tensor, dtype: str) -> Tensor:
        """The value in another dtype."""
        if value.dtype == dtype:
            return value
        return self.node('Cast', [value], value.shape, dtype, to=type_of(dtype))

    def batch(self) -> Tensor:
        """Number of rows, int64 [1], of the first input."""
        if self._batch is None:
            first = self._inputs[0]
            dims = len(first.type.tensor_type.shape.dim)
            source = Tensor(first.name, (1,) * dims, 'float32')
            self._batch = self.node('Shape', [source], (1,), 'int64', start=0, end=1)
        return self._batch

    def shape_vector(self, shape: Shape, rows: Any) -> Value:
        """A shape as int64 [rank], where symbolic dimensions are multiples of the number of rows.

        Args:
          shape: the shape.
          rows: the symbolic number of rows.
        """
        if all(isinstance(dim, int) for dim in shape):
            return np.array(shape, np.int64)
        parts: list[Value] = []
        for dim in shape:
            if isinstance(dim, int):
                parts.append(np.array([dim], np.int64))
                continue
            times = dim // rows
            if not isinstance(times, int) or not dim == times * rows:
                raise Unsupported(f'the dimension {dim}, which is no multiple of the number of rows')
            part = self.batch()
            if times != 1:
                part = self.node('Mul', [part, np.array([times], np.int64)], (1,), 'int64')
            parts.append(part)
        if len(parts) == 1:
            return parts[0]
        return self.node('Concat', parts, (len(parts),), 'int64', axis=0)

    def whole(self, value: Value, shape: Shape, rows: Any, dims: Sequence[int] | None = None) -> Value:
        """The value with its repetitions done.

        Args:
          value: 1 where it is still to be repeated.
          shape: the whole shape.
          rows: the symbolic number of rows.
          dims: dimensions that must be whole; None: all.
        """
        dims = range(len(shape)) if dims is None else dims
        wanted = tuple(shape[i] if i in dims else value.shape[i] for i in range(len(shape)))
        if all(same(a, b) for a, b in zip(value.shape, wanted, strict=True)):
            return value
        if isinstance(value, np.ndarray) and all(isinstance(dim, int) for dim in wanted):
            return np.broadcast_to(value, wanted)
        target = self.shape_vector(wanted, rows)
        return self.node('Expand', [value, target], wanted, dtype_of(value))

    def _drop_unread(self, needed: set[str]) -> None:
        """Takes away the nodes and constants that nothing needs.

        Args:
          needed: names of the outputs.
        """
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed |= _reads(node)
        self.nodes = kept[::-1]
        self.constants = {name: array for name, array in self.constants.items() if name in needed}

    def finish(self, outputs: dict[str, Tensor]) -> onnx.GraphProto:
        """The graph of what the outputs need, without its constants, which a file may hold in several ways.

        Args:
          outputs: by the name that each has in the file.
        """
        self._drop_unread({tensor.name for tensor in outputs.values()})
        renamed = {tensor.name: name for name, tensor in outputs.items()}
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [renamed.get(name, name) for name in names]
        infos = [
            helper.make_tensor_value_info(
                name,
                type_of(tensor.dtype),
                [dim if isinstance(dim, int) else str(dim) for dim in tensor.shape],
            )
            for name, tensor in outputs.items()
        ]
        return helper.make_graph(self.nodes, 'dlf_jax', self._inputs, infos)


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names of what a node reads, and the nodes of its loops."""
    loops = (attribute.g for attribute in node.attribute if attribute.HasField('g'))
    return {*node.input, *(name for loop in loops for inner in loop.node for name in _reads(inner))}


def same(one: Any, other: Any) -> bool:
    """Whether two dimensions are the same, symbolic ones included."""
    if isinstance(one, int) or isinstance(other, int):
        return isinstance(one, int) and isinstance(other, int) and one == other
    return bool(one == other)


def plain(shape: Sequence[Any]) -> Shape:
    """The shape with Python's integers in place of NumPy's, which models may compute their sizes with."""
    return tuple(int(dim) if isinstance(dim, np.integer) else dim for dim in shape)


def broadcast(*shapes: Shape) -> Shape:
    """Shape of the result of an operation on values of some shapes, of any ranks."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    found = []
    for dims in zip(*padded, strict=True):
        others = [dim for dim in dims if not (isinstance(dim, int) and dim == 1)]
        found.append(others[0] if others else 1)
    return tuple(found)
