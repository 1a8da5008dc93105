"""JAX's primitives as ONNX nodes: a function each, in `PRIMITIVES`.

A function takes a `Lowering` and the values of the inputs, and returns the value of the result, or a list of
them. Shapes of values have 1 where they are still to be repeated, see `onnx_graph`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from jax import lax

from dlf_jax.exporting import onnx_indexing, onnx_products
from dlf_jax.exporting.onnx_graph import Unsupported, Value, broadcast, dtype_of
from dlf_jax.exporting.onnx_lowering import Lowering

Primitive = Callable[..., Value | list[Value]]


def _elementwise(op: str, at: Lowering, *inputs: Value) -> Value:
    shape = broadcast(*(value.shape for value in inputs))
    if at.dtype() == 'bool' and op in ('Max', 'Min'):
        op = {'Max': 'Or', 'Min': 'And'}[op]
    return at.graph.node(op, inputs, shape, at.dtype())


def _compared(op: str, at: Lowering, *inputs: Value) -> Value:
    if dtype_of(inputs[0]) == 'bool':
        inputs = tuple(at.cast(value, 'int32') for value in inputs)
    return at.graph.node(op, inputs, broadcast(*(value.shape for value in inputs)), 'bool')


def _ne(at: Lowering, *inputs: Value) -> Value:
    equal = _compared('Equal', at, *inputs)
    return at.graph.node('Not', [equal], equal.shape, 'bool')


def _on_bool(op: str, at: Lowering, *inputs: Value) -> Value:
    if at.dtype() != 'bool':
        raise Unsupported(f'bits of {at.dtype()}')
    return _elementwise(op, at, *inputs)


def _identity(at: Lowering, value: Value, *others: Value) -> Value:
    return value


def _convert(at: Lowering, value: Value) -> Value:
    return at.cast(value, at.dtype())


def _square(at: Lowering, x: Value) -> Value:
    return _elementwise('Mul', at, x, x)


def _integer_pow(at: Lowering, x: Value) -> Value:
    power = at.params['y']
    if power == 2:
        return _square(at, x)
    return _elementwise('Pow', at, x, np.asarray(power, at.dtype()))


def _rsqrt(at: Lowering, x: Value) -> Value:
    return _elementwise('Reciprocal', at, _elementwise('Sqrt', at, x))


def _with_constant(op: str, constant: float, at: Lowering, x: Value) -> Value:
    return _elementwise(op, at, x, np.asarray(constant, at.dtype()))


def _log1p(at: Lowering, x: Value) -> Value:
    return _elementwise('Log', at, _with_constant('Add', 1, at, x))


def _expm1(at: Lowering, x: Value) -> Value:
    return _with_constant('Sub', 1, at, _elementwise('Exp', at, x))


def _erfc(at: Lowering, x: Value) -> Value:
    return _elementwise('Sub', at, np.asarray(1, at.dtype()), _elementwise('Erf', at, x))


def _exp2(at: Lowering, x: Value) -> Value:
    return _elementwise('Pow', at, np.asarray(2, at.dtype()), x)


def _cbrt(at: Lowering, x: Value) -> Value:
    root = _with_constant('Pow', 1 / 3, at, _elementwise('Abs', at, x))
    return _elementwise('Mul', at, _elementwise('Sign', at, x), root)


def _atan2(at: Lowering, y: Value, x: Value) -> Value:
    """The angle of (x, y); on the axis of y, where no quotient is, by the sign of y. A zero has no sign."""
    shape, zero = broadcast(y.shape, x.shape), np.asarray(0, at.dtype())
    upright = _compared('Equal', at, x, zero)
    quotient = _elementwise('Div', at, y, at.where(upright, np.asarray(1, at.dtype()), x))
    angle = at.graph.node('Atan', [quotient], shape, at.dtype())
    pi = np.asarray(np.pi, at.dtype())
    half = at.where(_compared('Less', at, y, zero), np.negative(pi), pi)
    turned = at.where(_compared('Less', at, x, zero), _elementwise('Add', at, angle, half), angle)
    on_axis = _elementwise('Mul', at, _elementwise('Sign', at, y), np.asarray(np.pi / 2, at.dtype()))
    return at.where(upright, on_axis, turned)


def _is_finite(at: Lowering, x: Value) -> Value:
    nan = at.graph.node('IsNaN', [x], x.shape, 'bool')
    infinite = at.graph.node('IsInf', [x], x.shape, 'bool')
    return at.graph.node('Not', [at.graph.node('Or', [nan, infinite], x.shape, 'bool')], x.shape, 'bool')


def _round(at: Lowering, x: Value) -> Value:
    if at.params['rounding_method'] != lax.RoundingMethod.TO_NEAREST_EVEN:
        raise Unsupported('rounding halves away from zero')
    return _elementwise('Round', at, x)


def _clamp(at: Lowering, low: Value, x: Value, high: Value) -> Value:
    return _elementwise('Min', at, _elementwise('Max', at, x, low), high)


def _rem(at: Lowering, x: Value, y: Value) -> Value:
    return at.graph.node('Mod', [x, y], broadcast(x.shape, y.shape), at.dtype(), fmod=1)


def _select(at: Lowering, which: Value, *cases: Value) -> Value:
    found = cases[0]
    for number, case in enumerate(cases[1:], 1):
        chosen = which
        if dtype_of(which) != 'bool':
            chosen = at.graph.node('Equal', [which, np.asarray(number, dtype_of(which))], which.shape, 'bool')
        found = at.where(chosen, case, found)
    return found


def _broadcast_in_dim(at: Lowering, value: Value, *dynamic: Value) -> Value:
    dims = at.params['broadcast_dimensions']
    shape: list[Any] = [1] * len(at.shape())
    for axis, dim in enumerate(dims):
        shape[dim] = value.shape[axis]
    return at.reshaped(value, tuple(shape))


def _reshape(at: Lowering, value: Value, *dynamic: Value) -> Value:
    before, after = at.shape_in(0), at.shape()
    if at.params.get('dimensions') is not None:
        raise Unsupported('a reshape in another order')
    kept = [dim for dim in after if not at.is_one(dim)]
    axes = [axis for axis, dim in enumerate(before) if not at.is_one(dim)]
    if len(axes) == len(kept) and all(at.same(before[a], b) for a, b in zip(axes, kept, strict=True)):
        # Only dimensions of 1 come and go: what is to be repeated stays so.
        shape, source = [], iter(axes)
        for dim in after:
            shape.append(1 if at.is_one(dim) else value.shape[next(source)])
        return at.reshaped(value, tuple(shape))
    return at.reshaped(at.whole(value, before), after)


def _squeeze(at: Lowering, value: Value) -> Value:
    gone = {axis % value.ndim if isinstance(value, np.ndarray) else axis for axis in at.params['dimensions']}
    return at.reshaped(value, tuple(dim for axis, dim in enumerate(value.shape) if axis not in gone))


def _transpose(at: Lowering, value: Value) -> Value:
    return at.transposed(value, at.params['permutation'])


def _concatenate(at: Lowering, *values: Value) -> Value:
    axis = at.params['dimension']
    return at.concatenated(values, [at.shape_in(i) for i in range(len(values))], axis)


def _stack(at: Lowering, *values: Value) -> Value:
    axis = at.params['axis']
    shape = at.shape()
    apart = [at.reshaped(value, (*value.shape[:axis], 1, *value.shape[axis:])) for value in values]
    return at.concatenated(apart, [(*shape[:axis], 1, *shape[axis + 1 :])] * len(apart), axis)


def _split(at: Lowering, value: Value) -> list[Value]:
    axis, sizes = at.params['axis'], at.params['sizes']
    value = at.whole(value, at.shape_in(0), [axis])
    shapes = [(*value.shape[:axis], size, *value.shape[axis + 1 :]) for size in sizes]
    outputs = [(shape, at.dtype()) for shape in shapes]
    return list(at.graph.several('Split', [value, np.array(sizes, np.int64)], outputs, axis=axis))


def _slice(at: Lowering, value: Value) -> Value:
    strides = at.params['strides'] or (1,) * len(at.shape())
    return at.sliced(value, at.params['start_indices'], at.params['limit_indices'], strides)


def _rev(at: Lowering, value: Value) -> Value:
    dims = at.params['dimensions']
    value = at.whole(value, at.shape_in(0), dims)
    ends = np.array([np.iinfo(np.int64).min] * len(dims), np.int64)
    minus = np.array([-1] * len(dims), np.int64)
    return at.graph.node(
        'Slice', [value, minus, ends, np.array(dims, np.int64), minus], value.shape, at.dtype()
    )


def _pad(at: Lowering, value: Value, filler: Value) -> Value:
    config = at.params['padding_config']
    if any(low < 0 or high < 0 or inner for low, high, inner in config):
        raise Unsupported('negative or interior padding')
    dims = [axis for axis, (low, high, _) in enumerate(config) if low or high]
    value = at.whole(value, at.shape_in(0), dims)
    pads = np.array([low for low, _, _ in config] + [high for _, high, _ in config], np.int64)
    shape = tuple(at.shape()[axis] if axis in dims else dim for axis, dim in enumerate(value.shape))
    return at.graph.node('Pad', [value, pads, filler], shape, at.dtype())


def _tile(at: Lowering, value: Value) -> Value:
    repeats = [times for times in at.params['reps'] if times != 1]
    if not repeats:
        return value
    value = at.whole(value, at.shape_in(0))
    return at.graph.node('Tile', [value, np.array(at.params['reps'], np.int64)], at.shape(), at.dtype())


def _iota(at: Lowering) -> Value:
    dim, whole = at.params['dimension'], at.shape()
    shape: list[Any] = [1] * len(whole)
    shape[dim] = whole[dim]
    if isinstance(whole[dim], int):
        return np.arange(whole[dim], dtype=at.dtype()).reshape(shape)
    count = at.graph.node('Squeeze', [at.graph.shape_vector((whole[dim],), at.rows)], (), 'int64')
    zero, one = np.asarray(0, np.int64), np.asarray(1, np.int64)
    numbers = at.graph.node('Range', [zero, count, one], (whole[dim],), 'int64')
    return at.reshaped(at.graph.cast(numbers, at.dtype()), tuple(shape))


def _rows(at: Lowering) -> Value:
    """The number of rows, or a multiple of it, as a number."""
    count = at.graph.node('Squeeze', [at.graph.shape_vector((at.params['dim'],), at.rows)], (), 'int64')
    return at.cast(count, at.dtype())


def _reduce(op: str, at: Lowering, value: Value) -> Value:
    axes = tuple(at.params['axes'])
    if not axes:
        return value
    value = at.whole(value, at.shape_in(0), axes)
    shape = tuple(dim for axis, dim in enumerate(value.shape) if axis not in axes)
    if (dtype := at.dtype()) == 'bool':
        value, dtype = at.cast(value, 'int32'), 'int32'
    found = at.graph.node(op, [value, np.array(axes, np.int64)], shape, dtype, keepdims=0)
    return at.cast(found, at.dtype())


def _arg(op: str, at: Lowering, value: Value) -> Value:
    (axis,) = at.params['axes']
    value = at.whole(value, at.shape_in(0), [axis])
    shape = tuple(dim for i, dim in enumerate(value.shape) if i != axis)
    found = at.graph.node(op, [value], shape, 'int64', axis=axis, keepdims=0)
    return at.cast(found, at.dtype())


def _cumsum(at: Lowering, value: Value) -> Value:
    axis = at.params['axis']
    value = at.whole(value, at.shape_in(0), [axis])
    reverse = int(at.params['reverse'])
    return at.graph.node(
        'CumSum', [value, np.asarray(axis, np.int64)], value.shape, at.dtype(), reverse=reverse
    )


def _sort(at: Lowering, *values: Value) -> list[Value]:
    """By the first value; the others in its order."""
    axis, shape = at.params['dimension'], at.shape()
    if at.params['num_keys'] != 1 or not isinstance(shape[axis], int):
        raise Unsupported('a sort by several keys, or over the rows')
    whole = [at.whole(value, shape) for value in values]
    count = np.array([shape[axis]], np.int64)
    outputs = [(shape, dtype_of(values[0])), (shape, 'int64')]
    found, order = at.graph.several('TopK', [whole[0], count], outputs, axis=axis, largest=0)
    others = [
        at.graph.node('GatherElements', [value, order], shape, dtype_of(value), axis=axis)
        for value in whole[1:]
    ]
    return [found, *others]


def _top_k(at: Lowering, value: Value) -> list[Value]:
    shape = at.shape()
    value = at.whole(value, at.shape_in(0))
    axis = at.params.get('axis', -1)
    outputs = [(shape, dtype_of(value)), (shape, 'int64')]
    found, order = at.graph.several('TopK', [value, np.array([at.params['k']], np.int64)], outputs, axis=axis)
    return [found, at.cast(order, at.dtype(1))]


def _of(op: str) -> Primitive:
    return functools.partial(_elementwise, op)


# Open list: JAX's primitives by name.
PRIMITIVES: dict[str, Primitive] = {
    'abs': _of('Abs'),
    'acos': _of('Acos'),
    'acosh': _of('Acosh'),
    'add': _of('Add'),
    'add_any': _of('Add'),
    'and': functools.partial(_on_bool, 'And'),
    'argmax': functools.partial(_arg, 'ArgMax'),
    'argmin': functools.partial(_arg, 'ArgMin'),
    'asin': _of('Asin'),
    'asinh': _of('Asinh'),
    'atan': _of('Atan'),
    'atan2': _atan2,
    'atanh': _of('Atanh'),
    'broadcast_in_dim': _broadcast_in_dim,
    'cbrt': _cbrt,
    'ceil': _of('Ceil'),
    'clamp': _clamp,
    'concatenate': _concatenate,
    'convert_element_type': _convert,
    'copy': _identity,
    'cos': _of('Cos'),
    'cosh': _of('Cosh'),
    'cumsum': _cumsum,
    'dim_as_value': _rows,
    'div': _of('Div'),
    'dot_general': onnx_products.dot_general,
    'dynamic_slice': onnx_indexing.dynamic_slice,
    'eq': functools.partial(_compared, 'Equal'),
    'erf': _of('Erf'),
    'erfc': _erfc,
    'exp': _of('Exp'),
    'exp2': _exp2,
    'expm1': _expm1,
    'floor': _of('Floor'),
    'gather': onnx_indexing.gather,
    'ge': functools.partial(_compared, 'GreaterOrEqual'),
    'gt': functools.partial(_compared, 'Greater'),
    'integer_pow': _integer_pow,
    'iota': _iota,
    'is_finite': _is_finite,
    'le': functools.partial(_compared, 'LessOrEqual'),
    'log': _of('Log'),
    'log1p': _log1p,
    'logistic': _of('Sigmoid'),
    'lt': functools.partial(_compared, 'Less'),
    'max': _of('Max'),
    'min': _of('Min'),
    'mul': _of('Mul'),
    'ne': _ne,
    'neg': _of('Neg'),
    'not': functools.partial(_on_bool, 'Not'),
    'optimization_barrier': lambda at, *values: list(values),
    'or': functools.partial(_on_bool, 'Or'),
    'pad': _pad,
    'pow': _of('Pow'),
    'reduce_and': functools.partial(_reduce, 'ReduceMin'),
    'reduce_max': functools.partial(_reduce, 'ReduceMax'),
    'reduce_min': functools.partial(_reduce, 'ReduceMin'),
    'reduce_or': functools.partial(_reduce, 'ReduceMax'),
    'reduce_precision': _identity,
    'reduce_prod': functools.partial(_reduce, 'ReduceProd'),
    'reduce_sum': functools.partial(_reduce, 'ReduceSum'),
    'rem': _rem,
    'reshape': _reshape,
    'rev': _rev,
    'round': _round,
    'rsqrt': _rsqrt,
    'select_n': _select,
    'sharding_constraint': _identity,
    'sign': _of('Sign'),
    'sin': _of('Sin'),
    'sinh': _of('Sinh'),
    'slice': _slice,
    'sort': _sort,
    'split': _split,
    'sqrt': _of('Sqrt'),
    'square': _square,
    'squeeze': _squeeze,
    'stack': _stack,
    'stop_gradient': _identity,
    'sub': _of('Sub'),
    'tan': _of('Tan'),
    'tanh': _of('Tanh'),
    'tile': _tile,
    'top_k': _top_k,
    'transpose': _transpose,
    'xor': functools.partial(_on_bool, 'Xor'),
}
