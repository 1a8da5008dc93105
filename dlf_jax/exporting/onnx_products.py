"""Products of arrays, JAX's `dot_general`, as ONNX's MatMul."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlf_jax.exporting.onnx_graph import Value, broadcast
from dlf_jax.exporting.onnx_lowering import Lowering


def dot_general(at: Lowering, left: Value, right: Value) -> Value:
    """Sum of products over some dimensions of two values: batch dimensions, then those of the left that
    stay, then those of the right."""
    (contract_left, contract_right), (batch_left, batch_right) = at.params['dimension_numbers']
    if not batch_left and isinstance(left, np.ndarray) and not isinstance(right, np.ndarray):
        # The batch stays in the first dimension, where it costs no transposition.
        found, kept = _product(
            at, right, left, at.shape_in(1), at.shape_in(0), contract_right, contract_left, (), ()
        )
        rank = len(found.shape)
        return at.transposed(found, [*range(kept, rank), *range(kept)])
    return _product(
        at,
        left,
        right,
        at.shape_in(0),
        at.shape_in(1),
        contract_left,
        contract_right,
        batch_left,
        batch_right,
    )[0]


def _product(
    at: Lowering,
    left: Value,
    right: Value,
    left_shape: Sequence[Any],
    right_shape: Sequence[Any],
    contract_left: Sequence[int],
    contract_right: Sequence[int],
    batch_left: Sequence[int],
    batch_right: Sequence[int],
) -> tuple[Value, int]:
    """The product, and the number of dimensions of the left that stay."""
    free_left = [i for i in range(len(left_shape)) if i not in (*contract_left, *batch_left)]
    free_right = [i for i in range(len(right_shape)) if i not in (*contract_right, *batch_right)]
    batch = range(len(batch_left))
    # What is repeated along a batch dimension, MatMul repeats.
    left = at.whole(left, tuple(left_shape), [*free_left, *contract_left])
    right = at.whole(right, tuple(right_shape), [*contract_right, *free_right])
    left = at.transposed(left, [*batch_left, *free_left, *contract_left])
    right = at.transposed(right, [*batch_right, *contract_right, *free_right])
    first, count_left, count_right = len(batch), len(free_left), len(free_right)
    rows = [right.shape[i] for i in range(first + len(contract_right), len(right.shape))]
    columns = [left.shape[i] for i in range(first, first + count_left)]
    right = at.merged(
        right,
        [
            *([i] for i in batch),
            list(range(first, first + len(contract_right))),
            list(range(first + len(contract_right), first + len(contract_right) + count_right)),
        ],
    )
    contracted = list(range(first + count_left, first + count_left + len(contract_left)))
    if not batch and count_left:
        groups = [*([i] for i in range(count_left)), contracted]
    else:
        groups = [*([i] for i in batch), list(range(first, first + count_left)), contracted]
    left = at.merged(left, groups)
    shape = (*broadcast(left.shape[:first], right.shape[:first]), *left.shape[first:-1], right.shape[-1])
    found = at.graph.node('MatMul', [left, right], shape, at.dtype())
    return at.reshaped(found, (*shape[:first], *columns, *rows)), count_left
