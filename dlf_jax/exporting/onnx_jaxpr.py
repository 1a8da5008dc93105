"""Jaxprs to ONNX: calls are inlined, what is known is computed, all else goes to `onnx_primitives`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from dlf_jax.errors import UserError
from dlf_jax.exporting.onnx_graph import Graph, Unsupported, Value, plain
from dlf_jax.exporting.onnx_lowering import Lowering
from dlf_jax.exporting.onnx_primitives import PRIMITIVES

# The parameter of a call that holds its jaxpr.
_CALLS = {
    'jit': 'jaxpr',
    'closed_call': 'call_jaxpr',
    'custom_jvp_call': 'call_jaxpr',
    'custom_vjp_call': 'call_jaxpr',
    'checkpoint': 'jaxpr',
    'remat2': 'jaxpr',
}
# A known result that is so much larger than what it is computed from is computed at run time.
_LARGEST_FOLD = 1 << 20


def add(
    graph: Graph, closed: core.ClosedJaxpr, arguments: Sequence[Value], rows: Any, model: str
) -> list[Value]:
    """Adds the nodes of a jaxpr to a graph.

    Args:
      graph: takes the nodes.
      closed: the jaxpr.
      arguments: in its order; known ones as arrays.
      rows: the symbolic number of rows in the jaxpr's shapes.
      model: name of the model, for errors.

    Returns:
      The results, of whole shapes.

    Raises:
      UserError: a primitive has no counterpart in ONNX here; it is named.
    """
    walk = _Walk(graph, rows, model)
    with jax.default_device(jax.devices('cpu')[0]), jax.transfer_guard('allow'):
        results = walk.run(closed.jaxpr, closed.consts, arguments)
    return [
        graph.whole(result, plain(var.aval.shape), rows)
        for result, var in zip(results, closed.jaxpr.outvars, strict=True)
    ]


class _Walk:
    """Evaluation of jaxprs on values of a graph."""

    def __init__(self, graph: Graph, rows: Any, model: str):
        self.graph, self.rows, self.model = graph, rows, model

    def run(self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Value]) -> list[Value]:
        values: dict[Any, Value] = {}

        def read(atom: Any) -> Value:
            if isinstance(atom, core.Literal):
                aval: Any = atom.aval
                return np.asarray(atom.val, aval.dtype)
            return values[atom]

        values.update(zip(jaxpr.constvars, map(np.asarray, consts), strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))
        for equation in jaxpr.eqns:
            found = self._equation(equation, [read(atom) for atom in equation.invars])
            values.update(zip(equation.outvars, found, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, inputs: list[Value]) -> Sequence[Value]:
        name = equation.primitive.name
        if name in _CALLS:
            inner = equation.params[_CALLS[name]]
            return self._call(inner, inputs)
        if name in _CONTROL:
            return _CONTROL[name](self, equation, inputs)
        if (known := self._folded(equation, inputs)) is not None:
            return known
        function = PRIMITIVES.get(name)
        if function is None:
            raise self._refused(name, 'it has no counterpart in the ONNX export')
        lowering = Lowering(self.graph, self.rows, equation)
        try:
            found = function(lowering, *inputs)
        except Unsupported as error:
            raise self._refused(name, str(error)) from error
        return found if isinstance(found, list) else [found]

    def _call(self, inner: Any, inputs: Sequence[Value]) -> list[Value]:
        if isinstance(inner, core.ClosedJaxpr):
            return self.run(inner.jaxpr, inner.consts, inputs)
        return self.run(inner, (), inputs)

    def _refused(self, primitive: str, why: str) -> UserError:
        return UserError(
            f'the model {self.model} computes with the JAX primitive {primitive!r}, which cannot be exported '
            f'to ONNX: {why}; write the model with other operations, or take '
            '--config.export.format=stablehlo, which has them all'
        )

    def _folded(self, equation: Any, inputs: Sequence[Value]) -> list[Value] | None:
        """Results of an equation of known inputs; None where an input is not, or the batch has a part."""
        known = [value for value in inputs if isinstance(value, np.ndarray)]
        if len(known) < len(inputs) or 'dim' in equation.params:
            return None
        atoms = [*equation.invars, *equation.outvars]
        if not all(isinstance(dim, int) for atom in atoms for dim in plain(atom.aval.shape)):
            return None
        read = sum(value.nbytes for value in known)
        made = sum(atom.aval.size * atom.aval.dtype.itemsize for atom in equation.outvars)
        if made > max(_LARGEST_FOLD, read):
            return None
        whole = [
            np.broadcast_to(value, atom.aval.shape)
            for value, atom in zip(known, equation.invars, strict=True)
        ]
        found = equation.primitive.bind(*map(jax.numpy.asarray, whole), **equation.params)
        return [np.asarray(x) for x in (found if equation.primitive.multiple_results else [found])]


def _platform_index(walk: _Walk, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """The branch for every other platform: the plain form of what some have their own for."""
    platforms = equation.params['platforms']
    return [np.asarray(platforms.index(None) if None in platforms else 0, np.int32)]


def _cond(walk: _Walk, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    index, *arguments = inputs
    if not isinstance(index, np.ndarray):
        raise walk._refused('cond', 'which branch it takes depends on the rows')
    branches = equation.params['branches']
    return walk._call(branches[int(np.clip(index, 0, len(branches) - 1))], arguments)


def _scan(walk: _Walk, equation: Any, inputs: Sequence[Value]) -> list[Value]:
    """A loop of known length, unrolled."""
    params = equation.params
    if not isinstance(params['length'], int):
        raise walk._refused('scan', 'it loops over the rows')
    consts, carries = params['num_consts'], params['num_carry']
    fixed, carry, series = (
        inputs[:consts], list(inputs[consts : consts + carries]), inputs[consts + carries :],
    )  # fmt: skip
    lowering = Lowering(walk.graph, walk.rows, equation)
    order = range(params['length'])
    steps: list[list[Value]] = []
    for i in reversed(order) if params['reverse'] else order:
        at = [
            lowering.element(value, plain(atom.aval.shape), i)
            for value, atom in zip(series, equation.invars[consts + carries :], strict=True)
        ]
        found = walk._call(params['jaxpr'], [*fixed, *carry, *at])
        carry, made = found[:carries], found[carries:]
        steps.append(made)
    if params['reverse']:
        steps.reverse()
    stacked = [
        lowering.stacked([step[j] for step in steps], plain(atom.aval.shape))
        for j, atom in enumerate(equation.outvars[carries:])
    ]
    return [*carry, *stacked]


_CONTROL: Mapping[str, Callable[[_Walk, Any, list[Value]], list[Value]]] = {
    'platform_index': _platform_index,
    'cond': _cond,
    'scan': _scan,
}
