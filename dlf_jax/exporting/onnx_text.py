"""Texts in ONNX: ids of a vocabulary, lists out of text, decimals without their trailing zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from dlf_jax.data.schema import PADDING, Field
from dlf_jax.exporting.onnx_graph import ML, Graph, Tensor
from dlf_jax.exporting.spellings import TRAILING, Spellings


def text(*values: str) -> np.ndarray:
    """Texts as a known value: [n], or a scalar of one."""
    found = np.array(values, object)
    return found if len(values) != 1 else found.reshape(())


def ids(graph: Graph, texts: Tensor, spellings: Spellings, missing: int | None = None) -> Tensor:
    """Ids of texts, int64 of their shape.

    Args:
      graph: takes the nodes.
      texts: as they are written.
      spellings: of the field.
      missing: what missing ones become in place of their id.
    """
    if spellings.numbers:
        texts = _without_zeros(graph, texts, spellings.markers)
    values = list(spellings.ids.values())
    if missing is not None:
        values = [missing if value == spellings.missing else value for value in values]
    return graph.node(
        'LabelEncoder', [texts], texts.shape, 'int64', ML,
        keys_strings=list(spellings.ids), values_int64s=values, default_int64=spellings.unknown,
    )  # fmt: skip


def elements(graph: Graph, texts: Tensor, field: Field) -> Tensor:
    """Elements of texts that the field's separator divides, [rows, n]; '' after the last."""
    if not field.separator:
        return texts
    # One more separator, so that there are elements even where all texts are empty.
    longer = graph.node('StringConcat', [texts, text(field.separator)], texts.shape, 'str')
    shape = (*texts.shape, f'elements of {field.name}')
    counts = (texts.shape, 'int64')
    return graph.several('StringSplit', [longer], [(shape, 'str'), counts], delimiter=field.separator)[0]


def bag(graph: Graph, found: Tensor, field: Field, missing: int) -> Tensor:
    """Ids of a multi-valued field as its model reads them.

    Args:
      graph: takes the nodes.
      found: ids of the elements, int64 [rows, n], `PADDING` where there is none.
      field: the field.
      missing: id of a missing value.

    Returns:
      The first `length` ids, int64 [rows, length], with `PADDING` after the last; that of a missing value in
      a row without any.
    """
    rows, count, length = found.shape[0], found.shape[1], field.length
    there = graph.node('Greater', [found, _int(PADDING)], found.shape, 'bool')
    place = graph.node('CumSum', [graph.cast(there, 'int64'), _int(1)], found.shape, 'int64')
    axis = np.array([2], np.int64)
    wide = (rows, count, 1)
    own = graph.node('Equal', [
        graph.node('Unsqueeze', [place, axis], wide, 'int64'), np.arange(1, length + 1).reshape(1, 1, -1),
    ], (rows, count, length), 'bool')  # fmt: skip
    own = graph.node('And', [own, graph.node('Unsqueeze', [there, axis], wide, 'bool')], own.shape, 'bool')
    # One more, so that the sum over the elements is 0 where there is none.
    raised = graph.node('Add', [found, _int(1)], found.shape, 'int64')
    chosen = graph.node(
        'Where', [own, graph.node('Unsqueeze', [raised, axis], wide, 'int64'), _int(0)], own.shape, 'int64'
    )
    over = np.array([1], np.int64)
    total = graph.node('ReduceSum', [chosen, over], (rows, length), 'int64', keepdims=0)
    kept = graph.node('Sub', [total, _int(1)], total.shape, 'int64')
    number = graph.node('ReduceSum', [graph.cast(there, 'int64'), over], (rows, 1), 'int64', keepdims=1)
    empty = graph.node('Equal', [number, _int(0)], number.shape, 'bool')
    first = np.arange(length).reshape(1, -1) == 0
    alone = graph.node('And', [empty, first], kept.shape, 'bool')
    return graph.node('Where', [alone, _int(missing), kept], kept.shape, 'int64')


def _int(value: int) -> np.ndarray:
    return np.asarray(value, np.int64)


def _without_zeros(graph: Graph, texts: Tensor, markers: tuple[str, ...]) -> Tensor:
    """Decimals without trailing zeros, 7.50 as 7.5 and 7.0 as 7; other texts as they are.

    A text is cut at its zeros and put together again, without the empty pieces at its end.

    Args:
      graph: takes the nodes.
      texts: of any shape.
      markers: texts that become the empty one instead.
    """
    shape = texts.shape
    wrong = graph.node('RegexFullMatch', [texts], shape, 'bool', pattern=TRAILING)
    decimals = graph.node('Where', [wrong, texts, text('')], shape, 'str')
    many = (*shape, 'pieces')
    pieces, _ = graph.several('StringSplit', [decimals], [(many, 'str'), (shape, 'int64')], delimiter='0')
    blank = graph.node('Equal', [pieces, text('')], many, 'bool')
    full = graph.cast(graph.node('Not', [blank], many, 'bool'), 'int64')
    later = graph.node('CumSum', [full, _int(-1)], many, 'int64', reverse=1)
    kept = graph.node('Greater', [later, _int(0)], many, 'bool')
    count = graph.node('Shape', [pieces], (1,), 'int64', start=len(shape))
    nothing = graph.node('Where', [wrong, text(''), text('')], shape, 'str')
    joined = graph.node(
        'Loop', [graph.node('Squeeze', [count], (), 'int64'), np.asarray(True), nothing], shape, 'str',
        body=_join(graph, pieces, kept),
    )  # fmt: skip
    point = graph.node('RegexFullMatch', [joined], shape, 'bool', pattern=r'.*\.')
    longer = graph.node('StringConcat', [joined, text('.')], shape, 'str')
    parts, _ = graph.several('StringSplit', [longer], [(many, 'str'), (shape, 'int64')], delimiter='.')
    whole = graph.node('Gather', [parts, _int(0)], shape, 'str', axis=len(shape))
    joined = graph.node('Where', [point, whole, joined], shape, 'str')
    found = graph.node('Where', [wrong, joined, texts], shape, 'str')
    if not markers:
        return found
    marked = graph.node(
        'LabelEncoder', [texts], shape, 'int64', ML,
        keys_strings=list(markers), values_int64s=[1] * len(markers), default_int64=0,
    )  # fmt: skip
    return graph.node('Where', [graph.cast(marked, 'bool'), text(''), found], shape, 'str')


def _join(graph: Graph, pieces: Tensor, kept: Tensor) -> onnx.GraphProto:
    """Body of the loop that puts pieces together with a 0 between them, as far as they are kept."""

    def node(op: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [output], **attributes)

    empty, zero, axis = text(''), text('0'), len(pieces.shape) - 1
    nodes = [
        node('Greater', ['piece/number', graph.name(_int(0))], 'piece/later'),
        node('Where', ['piece/later', graph.name(zero), graph.name(empty)], 'piece/zero'),
        node('Gather', [pieces.name, 'piece/number'], 'piece/own', axis=axis),
        node('StringConcat', ['piece/zero', 'piece/own'], 'piece/longer'),
        node('Gather', [kept.name, 'piece/number'], 'piece/kept', axis=axis),
        node('Where', ['piece/kept', 'piece/longer', graph.name(empty)], 'piece/added'),
        node('StringConcat', ['piece/before', 'piece/added'], 'piece/after'),
        node('Identity', ['piece/going'], 'piece/on'),
    ]
    info = helper.make_tensor_value_info
    inputs = [
        info('piece/number', TensorProto.INT64, []),
        info('piece/going', TensorProto.BOOL, []),
        info('piece/before', TensorProto.STRING, None),
    ]
    outputs = [info('piece/on', TensorProto.BOOL, []), info('piece/after', TensorProto.STRING, None)]
    return helper.make_graph(nodes, 'join', inputs, outputs)
