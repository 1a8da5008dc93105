"""Indexing as ONNX nodes: rows of a table by id, and parts of an array at known places."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from dlf_jax.exporting.onnx_graph import Unsupported, Value, dtype_of
from dlf_jax.exporting.onnx_lowering import Lowering


def dynamic_slice(at: Lowering, value: Value, *starts: Value) -> Value:
    """Part of a value that begins at known places."""
    known = [start for start in starts if isinstance(start, np.ndarray)]
    if len(known) < len(starts):
        raise Unsupported('where the part begins depends on the rows')
    sizes, whole = at.params['slice_sizes'], at.shape_in(0)
    first = []
    for start, size, dim in zip(known, sizes, whole, strict=True):
        # A part that would go past the end is moved back, as in JAX.
        last = dim - size
        first.append(int(np.clip(start, 0, last)) if isinstance(last, int) else 0)
    return at.sliced(value, first, [a + b for a, b in zip(first, sizes, strict=True)])


def gather(at: Lowering, operand: Value, indices: Value) -> Value:
    """Parts of a value at known places, or rows of it by number."""
    if isinstance(indices, np.ndarray):
        return _at_known(at, operand, indices)
    return _rows(at, operand, indices)


def _rows(at: Lowering, operand: Value, indices: Value) -> Value:
    """Elements along one dimension by number: NaN, or what the equation says, where there is none."""
    numbers, whole = at.params['dimension_numbers'], at.shape_in(0)
    collapsed, sizes = numbers.collapsed_slice_dims, at.params['slice_sizes']
    full = all(
        size == 1 if axis in collapsed else at.same(size, dim)
        for axis, (size, dim) in enumerate(zip(sizes, whole, strict=True))
    )
    if (
        numbers.operand_batching_dims
        or len(collapsed) != 1
        or numbers.start_index_map != collapsed
        or not full
    ):
        raise Unsupported('indices that are computed, in another form than rows by number')
    (axis,) = collapsed
    if not isinstance(whole[axis], int):
        raise Unsupported('rows of the batch by number')
    operand = at.whole(operand, whole)
    indices = at.whole(indices, at.shape_in(1))
    indices = at.reshaped(indices, indices.shape[:-1])
    dtype = dtype_of(indices)
    zero, last = np.asarray(0, dtype), np.asarray(whole[axis] - 1, dtype)
    clipped = at.graph.node('Min', [indices, last], indices.shape, dtype)
    clipped = at.graph.node('Max', [clipped, zero], indices.shape, dtype)
    before, after = whole[:axis], whole[axis + 1 :]
    shape = (*before, *indices.shape, *after)
    found: Value = at.graph.node('Gather', [operand, clipped], shape, at.dtype(), axis=axis)
    if at.params['mode'] == lax.GatherScatterMode.FILL_OR_DROP:
        inside = at.graph.node('Equal', [indices, clipped], indices.shape, 'bool')
        there = at.reshaped(inside, (*(1,) * len(before), *indices.shape, *(1,) * len(after)))
        found = at.where(there, found, _filler(at))
    # JAX puts the dimensions of the indices where the others are not.
    offset = list(numbers.offset_dims)
    rank = len(shape)
    places = [i for i in range(rank) if i not in offset]
    own = range(len(before), len(before) + len(indices.shape))
    others = [i for i in range(rank) if i not in own]
    order = [0] * rank
    for place, source in (*zip(places, own, strict=True), *zip(offset, others, strict=True)):
        order[place] = source
    return at.transposed(found, order)


def _filler(at: Lowering) -> np.ndarray:
    value, dtype = at.params['fill_value'], np.dtype(at.dtype())
    if value is None:
        value = math.nan if dtype.kind == 'f' else np.iinfo(dtype).min if dtype.kind == 'i' else True
    return np.asarray(value, dtype)


def _at_known(at: Lowering, operand: Value, indices: np.ndarray) -> Value:
    """Elements of the known dimensions at known places, found by gathering the places' numbers."""
    numbers, whole, shape = at.params['dimension_numbers'], at.shape_in(0), at.shape()
    indices = np.broadcast_to(indices, at.shape_in(1))
    symbolic = [axis for axis, dim in enumerate(whole) if not isinstance(dim, int)]
    if len(symbolic) > 1 or (symbolic and symbolic != [0]):
        raise Unsupported('an index into an array of several dimensions with the batch in them')
    sizes = list(at.params['slice_sizes'])
    if symbolic and not at.same(sizes[0], whole[0]):
        raise Unsupported('rows of the batch by number')
    first = int(bool(symbolic))
    known = [1, *whole[1:]] if symbolic else list(whole)
    if symbolic:
        sizes[0] = 1
    count = math.prod(known)
    places = np.arange(count, dtype=np.int32).reshape(known)
    found = lax.gather(
        jnp.asarray(places), jnp.asarray(indices), numbers, tuple(sizes),
        mode=at.params['mode'], fill_value=-1,
    )  # fmt: skip
    chosen = np.asarray(found)
    at_batch = [axis for axis, dim in enumerate(shape) if not isinstance(dim, int)]
    if (chosen < 0).any():
        raise Unsupported('an index past the end of an array')
    operand = at.whole(operand, whole)
    flat: tuple[Any, ...] = (whole[0], count) if symbolic else (count,)
    merged = at.reshaped(operand, flat)
    order = chosen.reshape(-1)
    made = (*flat[:first], order.size)
    if order.size and (np.diff(order) == 1).all():
        bounds = [np.array([bound], np.int64) for bound in (order[0], order[-1] + 1)]
        part: Value = merged
        if order.size < count:
            inputs = [merged, *bounds, np.array([first], np.int64)]
            part = at.graph.node('Slice', inputs, made, at.dtype())
    else:
        part = at.graph.node('Gather', [merged, order.astype(np.int64)], made, at.dtype(), axis=first)
    if not symbolic:
        return at.reshaped(part, shape)
    rest = [dim for axis, dim in enumerate(shape) if axis not in at_batch]
    part = at.reshaped(part, (whole[0], *rest))
    (place,) = at_batch
    return at.transposed(part, [*range(1, place + 1), 0, *range(place + 1, len(shape))])
