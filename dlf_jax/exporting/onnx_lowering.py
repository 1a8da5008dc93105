"""What the primitives' functions share: an equation's shapes, and values cut, joined and turned."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from dlf_jax.exporting.onnx_graph import (
    Graph,
    Shape,
    Unsupported,
    Value,
    broadcast,
    dtype_of,
    plain,
    same,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Lowering:
    """One equation of a jaxpr on its way into a graph.

    Attributes:
      graph: takes the nodes.
      rows: the symbolic number of rows.
      equation: of the jaxpr.
    """

    graph: Graph
    rows: Any
    equation: Any

    @property
    def params(self) -> dict[str, Any]:
        """Parameters of the equation."""
        return self.equation.params

    def shape(self, output: int = 0) -> Shape:
        """Whole shape of a result."""
        return plain(self.equation.outvars[output].aval.shape)

    def dtype(self, output: int = 0) -> str:
        """NumPy's name of the dtype of a result."""
        return str(np.dtype(self.equation.outvars[output].aval.dtype).name)

    def shape_in(self, input: int) -> Shape:
        """Whole shape of an input."""
        return plain(self.equation.invars[input].aval.shape)

    @staticmethod
    def is_one(dim: Any) -> bool:
        """Whether a dimension is 1 for any number of rows."""
        return isinstance(dim, int) and dim == 1

    @staticmethod
    def same(one: Any, other: Any) -> bool:
        """Whether two dimensions are the same, symbolic ones included."""
        return same(one, other)

    def whole(self, value: Value, shape: Shape, dims: Sequence[int] | None = None) -> Value:
        """The value with its repetitions done, in some dimensions or all."""
        return self.graph.whole(value, shape, self.rows, dims)

    def cast(self, value: Value, dtype: str) -> Value:
        """The value in another dtype."""
        if isinstance(value, np.ndarray):
            return value.astype(dtype)
        return self.graph.cast(value, dtype)

    def reshaped(self, value: Value, shape: Shape) -> Value:
        """The value in another shape of as many elements."""
        if len(value.shape) == len(shape) and all(map(same, value.shape, shape)):
            return value
        if isinstance(value, np.ndarray):
            return value.reshape(shape)
        symbolic = [axis for axis, dim in enumerate(shape) if not isinstance(dim, int)]
        if len(symbolic) > 1:
            raise Unsupported(f'a reshape to {shape}, of several dimensions with the batch in them')
        target = np.array([dim if isinstance(dim, int) else -1 for dim in shape], np.int64)
        return self.graph.node('Reshape', [value, target], shape, value.dtype)

    def transposed(self, value: Value, order: Sequence[int]) -> Value:
        """The value with its dimensions in another order."""
        if list(order) == sorted(order):
            return value
        shape = tuple(value.shape[axis] for axis in order)
        if isinstance(value, np.ndarray):
            return np.ascontiguousarray(value.transpose(order))
        kept = [axis for axis in order if not self.is_one(value.shape[axis])]
        if kept == sorted(kept):
            # Dimensions of 1 move freely.
            return self.reshaped(value, shape)
        return self.graph.node('Transpose', [value], shape, value.dtype, perm=list(order))

    def sliced(
        self, value: Value, starts: Sequence[Any], limits: Sequence[Any], strides: Sequence[int] | None = None
    ) -> Value:
        """A part of the value, from `starts` to `limits` of its whole shape."""
        whole = self.shape_in(0)
        strides = strides or (1,) * len(whole)
        dims = [
            axis
            for axis, dim in enumerate(whole)
            if not (same(starts[axis], 0) and same(limits[axis], dim) and strides[axis] == 1)
        ]
        if not all(isinstance(bound, int) for axis in dims for bound in (starts[axis], limits[axis])):
            raise Unsupported('a slice of the batch whose bounds depend on its size')
        shape = list(value.shape)
        cut = [axis for axis in dims if self._cut(value, whole, axis)]
        for axis in cut:
            shape[axis] = len(range(starts[axis], limits[axis], strides[axis]))
        if not cut:
            return value
        if isinstance(value, np.ndarray):
            at = [slice(None)] * value.ndim
            for axis in cut:
                at[axis] = slice(starts[axis], limits[axis], strides[axis])
            return np.ascontiguousarray(value[tuple(at)])
        bounds = [np.array([values[axis] for axis in cut], np.int64) for values in (starts, limits)]
        steps = np.array([strides[axis] for axis in cut], np.int64)
        inputs: list[Value] = [value, *bounds, np.array(cut, np.int64), steps]
        return self.graph.node('Slice', inputs, tuple(shape), value.dtype)

    def _cut(self, value: Value, whole: Shape, axis: int) -> bool:
        """Whether a dimension is there to be cut: what is still to be repeated is as good in part."""
        return self.is_one(whole[axis]) or not self.is_one(value.shape[axis])

    def where(self, condition: Value, yes: Value, no: Value) -> Value:
        """`yes` where the condition holds, else `no`."""
        shape, dtype = broadcast(condition.shape, yes.shape, no.shape), dtype_of(yes)
        if dtype == 'bool':
            # ONNX Runtime chooses between numbers and texts alone.
            found = self.where(condition, self.cast(yes, 'uint8'), self.cast(no, 'uint8'))
            return self.cast(found, 'bool')
        return self.graph.node('Where', [condition, yes, no], shape, dtype)

    def concatenated(self, values: Sequence[Value], shapes: Sequence[Shape], axis: int) -> Value:
        """Values one after another.

        Args:
          values: the values.
          shapes: their whole shapes.
          axis: dimension that grows.
        """
        kept = [i for i, shape in enumerate(shapes) if not same(shape[axis], 0)] or [0]
        values, shapes = [values[i] for i in kept], [shapes[i] for i in kept]
        if len(values) == 1:
            return values[0]
        dims: Collection[int] = {
            i for i in range(len(shapes[0])) if any(not self.is_one(value.shape[i]) for value in values)
        } | {axis}
        parts = [self.whole(value, shape, sorted(dims)) for value, shape in zip(values, shapes, strict=True)]
        if all(isinstance(part, np.ndarray) for part in parts):
            return np.concatenate(parts, axis)  # type: ignore[arg-type]
        length: Any = sum(shape[axis] for shape in shapes)
        shape = tuple(length if i == axis else dim for i, dim in enumerate(parts[0].shape))
        return self.graph.node('Concat', parts, shape, dtype_of(parts[0]), axis=axis)

    def element(self, value: Value, shape: Shape, index: int) -> Value:
        """Element of the first dimension, without it."""
        if self.is_one(value.shape[0]) and not self.is_one(shape[0]):
            return self.reshaped(value, value.shape[1:])
        if isinstance(value, np.ndarray):
            return value[index]
        found = self.graph.node(
            'Gather', [value, np.asarray(index, np.int64)], value.shape[1:], value.dtype, axis=0
        )
        return found

    def stacked(self, values: Sequence[Value], shape: Shape) -> Value:
        """Values along a new first dimension."""
        apart = [self.reshaped(value, (1, *value.shape)) for value in values]
        return self.concatenated(apart, [(1, *shape[1:])] * len(apart), 0)

    def merged(self, value: Value, groups: Sequence[Sequence[int]]) -> Value:
        """The value with runs of dimensions as one each.

        Args:
          value: its dimensions are in the order of the groups, and whole.
          groups: dimensions that become one; an empty group becomes a dimension of 1.
        """
        shape: list[Any] = []
        for group in groups:
            dims = [value.shape[axis] for axis in group]
            shape.append(math.prod(dims) if dims else 1)
        return self.reshaped(value, tuple(shape))
