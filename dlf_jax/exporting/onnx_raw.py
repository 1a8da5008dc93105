"""Raw values to encoded ones in ONNX: what `Encoder` does, as nodes before the model's.

Texts are of type string, numbers of float64 (what the encoder computes in); an empty text and NaN are
missing.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.readers.columns import FLOAT32, LARGEST
from dlf_jax.data.schema import MISSING, OUT_OF_VOCABULARY, PADDING, RESERVED, Field
from dlf_jax.errors import UserError
from dlf_jax.exporting import onnx_text, spellings
from dlf_jax.exporting.onnx_graph import ML, Graph, Tensor, Value
from dlf_jax.exporting.program import LOGIT, PROBABILITY

# Bytes of texts and ids that a model may hold: a protobuf message is less than 2 GiB, and vocabularies cannot
# lie beside it.
VOCABULARY_BYTES = (1 << 31) - (256 << 20)
# What an id takes at most.
_ID_BYTES = 12


def check(encoder: Encoder) -> None:
    """Refuses a schema whose raw values ONNX cannot encode.

    Raises:
      UserError: names the field.
    """
    for field in encoder.schema.fields:
        if field.name in (LOGIT, PROBABILITY):
            raise UserError(
                f'field {field.name!r} has the name of an output of the exported model; take '
                '--config.export.inputs=ids, whose inputs have names of their own, or rename the column'
            )
        if field.hash_buckets:
            raise UserError(
                f'field {field.name!r} has hashes of its values for ids (hash_buckets={field.hash_buckets}), '
                'which ONNX cannot compute: it has no operator for the bytes of a text; take '
                '--config.export.inputs=ids, or train with a vocabulary'
            )
        if field.ordered:
            raise UserError(
                f'field {field.name!r} is ordered, and raw values in ONNX do not keep the latest ones in '
                'their places; take --config.export.inputs=ids'
            )
    sizes = {
        field.name: _vocabulary_bytes(encoder, field) for field in encoder.schema.fields if field.counted
    }
    if sum(sizes.values()) > VOCABULARY_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise UserError(
            f'the vocabularies take {sum(sizes.values()) / 1e9:.3g} GB, more than the '
            f'{VOCABULARY_BYTES / 1e9:.3g} GB that an ONNX file can hold of them; the largest is '
            f'that of field {largest!r}, with {sizes[largest] / 1e9:.3g} GB; take '
            '--config.export.inputs=ids, or train with a higher --config.dataset.min_count'
        )


def _vocabulary_bytes(encoder: Encoder, field: Field) -> int:
    values = encoder.vocabularies[field.owner]['value']
    return int(values.str.len_bytes().sum() or 0) + _ID_BYTES * len(values)


def encoded(graph: Graph, encoder: Encoder, rows: Any) -> tuple[dict[str, Value], Tensor | None]:
    """Adds an input for each field, and the nodes that encode them.

    Args:
      graph: takes inputs and nodes.
      encoder: of the training data.
      rows: the symbolic number of rows.

    Returns:
      The encoded inputs by name, see `Encoder.encode`; and whether a row has a number that the encoder
      refuses, bool [rows], None where no row can.
    """
    return _Fields(graph, encoder, rows).encoded()


@dataclasses.dataclass
class _Fields:
    graph: Graph
    encoder: Encoder
    rows: Any

    def __post_init__(self) -> None:
        self._refused: list[Tensor] = []

    def encoded(self) -> tuple[dict[str, Value], Tensor | None]:
        schema = self.encoder.schema
        inputs = {field.name: self._input(field) for field in schema.fields}
        found: dict[str, Value] = {}
        if schema.categorical:
            ids = [self._ids(field, inputs[field.name]) for field in schema.categorical]
            found['categorical'] = self._columns(ids, 'int32')
        if schema.numeric:
            treated = [self._treated(field, inputs[field.name]) for field in schema.numeric]
            found['numeric'] = self._columns(treated, 'float32')
        if schema.bags:
            found['bags'] = self._bags({field.name: inputs[field.name] for field in schema.bags})
        refused = None
        for bad in self._refused:
            refused = bad if refused is None else self._node('Or', [refused, bad], 'bool')
        return found, refused

    def _input(self, field: Field) -> Tensor:
        if field.number:
            return self.graph.input(field.name, 'float64', (self.rows,))
        if field.bag and not field.separator:
            return self.graph.input(field.name, 'str', (self.rows, f'elements of {field.name}'))
        return self.graph.input(field.name, 'str', (self.rows,))

    def _node(self, op: str, inputs: list[Value], dtype: str, **attributes: Any) -> Tensor:
        return self.graph.node(op, inputs, (self.rows,), dtype, **attributes)

    def _columns(self, values: list[Tensor], dtype: str) -> Tensor:
        """Values [rows] side by side."""
        axis = np.array([1], np.int64)
        columns = [self.graph.node('Unsqueeze', [v, axis], (self.rows, 1), v.dtype) for v in values]
        joined = columns[0]
        if len(columns) > 1:
            joined = self.graph.node('Concat', columns, (self.rows, len(columns)), values[0].dtype, axis=1)
        return self.graph.cast(joined, dtype)

    def _ids(self, field: Field, value: Tensor) -> Tensor:
        """Ids of a categorical field, int64 [rows]."""
        if not field.number:
            return onnx_text.ids(self.graph, value, spellings.of_field(self.encoder, field))
        first = self.encoder.schema.offsets[field.name]
        number = self._number(field, value)
        gone = self._node('IsNaN', [number], 'bool')
        if field.treatment == 'bucket':
            bounds = self.encoder.boundaries[field.name]
            known = self._node('Add', [self._passed(number, bounds), _int(first + RESERVED)], 'int64')
        else:
            known = self._node(
                'LabelEncoder', [self._squared_log(number, gone)], 'int64', domain=ML,
                keys_int64s=(values := self.encoder.typed_values(field.name).to_list()) or [0],
                values_int64s=[first + RESERVED + i for i in range(len(values))] or [first],
                default_int64=first + OUT_OF_VOCABULARY,
            )  # fmt: skip
        return self._node('Where', [gone, _int(first + MISSING), known], 'int64')

    def _number(self, field: Field, value: Tensor) -> Tensor:
        """Numbers with NaN for missing ones, as `columns.numbers` has them."""
        nan = np.asarray(np.nan)
        for marker in field.missing:
            try:
                wrong = self._node('Equal', [value, np.asarray(float(marker))], 'bool')
            except ValueError:
                continue
            value = self._node('Where', [wrong, nan, value], 'float64')
        beyond = self._beyond(value, FLOAT32 if field.treatment == 'none' else LARGEST)
        if field.out_of_range == 'missing':
            return self._node('Where', [beyond, nan, value], 'float64')
        self._refused.append(beyond)
        return value

    def _beyond(self, value: Tensor, largest: float) -> Tensor:
        size = self._node('Abs', [value], 'float64')
        return self._node('Greater', [size, np.asarray(largest)], 'bool')

    def _squared_log(self, number: Tensor, gone: Tensor) -> Tensor:
        """`floor(log(x)^2)` above 2, `floor(x)` below, int64; anything where `gone`."""
        large = self._node('Greater', [number, np.asarray(2.0)], 'bool')
        safe = self._node('Where', [large, number, np.asarray(2.0)], 'float64')
        log = self._node('Log', [safe], 'float64')
        squared = self._node('Mul', [log, log], 'float64')
        chosen = self._node('Where', [large, squared, number], 'float64')
        floor = self._node('Floor', [chosen], 'float64')
        floor = self._node('Max', [floor, np.asarray(-(2.0**62))], 'float64')
        return self.graph.cast(self._node('Where', [gone, np.asarray(0.0), floor], 'float64'), 'int64')

    def _passed(self, number: Tensor, bounds: np.ndarray) -> Tensor:
        """Number of bounds that a number has reached, int64 [rows]."""
        column = self.graph.node('Unsqueeze', [number, np.array([1], np.int64)], (self.rows, 1), 'float64')
        # One that no number reaches, for fields of a single range.
        row = np.append(bounds, np.inf).reshape(1, -1)
        reached = self.graph.node('GreaterOrEqual', [column, row], (self.rows, row.size), 'bool')
        return self._node(
            'ReduceSum', [self.graph.cast(reached, 'int64'), np.array([1])], 'int64', keepdims=0
        )

    def _treated(self, field: Field, value: Tensor) -> Tensor:
        """Treated numbers, float64 [rows]."""
        at = self.encoder.schema.numeric.index(field)
        missing, shift, scale = (float(x) for x in self.encoder.treatments[:, at, 0])
        number = self._number(field, value)
        gone = self._node('IsNaN', [number], 'bool')
        filled = number
        if not np.isnan(missing):
            filled = self._node('Where', [gone, np.asarray(missing), number], 'float64')
        if field.curved:
            return self._followed(self.encoder.curves[field.name], filled)
        moved = self._node('Sub', [filled, np.asarray(shift)], 'float64')
        treated = self._node('Div', [moved, np.asarray(scale)], 'float64')
        beyond = self._beyond(treated, FLOAT32)
        if field.out_of_range == 'missing':
            instead = np.asarray((missing - shift) / scale)
            return self._node('Where', [beyond, instead, treated], 'float64')
        self._refused.append(beyond)
        return treated

    def _followed(self, curve: np.ndarray, number: Tensor) -> Tensor:
        """What a curve makes of numbers: a line between two knots, level beyond the first and the last."""
        knots, values = curve
        if len(knots) == 1:
            knots, values = np.append(knots, knots + 1), np.append(values, values)
        inside = self._node('Min', [number, np.asarray(knots[-1])], 'float64')
        inside = self._node('Max', [inside, np.asarray(knots[0])], 'float64')
        piece = self._passed(inside, knots[1:-1])
        slopes = np.diff(values) / np.diff(knots)
        start, value, slope = (
            self._node('Gather', [array, piece], 'float64') for array in (knots[:-1], values[:-1], slopes)
        )
        past = self._node('Sub', [inside, start], 'float64')
        risen = self._node('Mul', [slope, past], 'float64')
        return self._node('Add', [risen, value], 'float64')

    def _bags(self, inputs: dict[str, Tensor]) -> Tensor:
        columns: list[Tensor] = []
        for field in self.encoder.schema.bags:
            known = spellings.of_field(self.encoder, field)
            texts = onnx_text.elements(self.graph, inputs[field.name], field)
            found = onnx_text.ids(self.graph, texts, known, missing=PADDING)
            columns.append(onnx_text.bag(self.graph, found, field, known.missing))
        shape = (self.rows, self.encoder.schema.bag_columns)
        joined = columns[0]
        if len(columns) > 1:
            joined = self.graph.node('Concat', columns, shape, 'int64', axis=1)
        return self.graph.cast(joined, 'int32')


def _int(value: int) -> np.ndarray:
    return np.asarray(value, np.int64)
