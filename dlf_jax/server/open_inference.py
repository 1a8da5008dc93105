"""The Open Inference Protocol, version 2 (KServe, Triton), with its extension for binary tensors.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import orjson

import dlf_jax
from dlf_jax.data.preprocess.joined_encoder import TypedRows
from dlf_jax.data.schema import Field
from dlf_jax.errors import suggest
from dlf_jax.server import tensors
from dlf_jax.server.rows import BadRequest
from dlf_jax.server.scorer import Scorer

# Of HTTP, in small letters: the number of bytes of JSON before the tensors.
HEADER = 'inference-header-content-length'
OUTPUT = 'probability'
_REQUEST = ('id', 'inputs', 'outputs', 'parameters')


@dataclasses.dataclass(frozen=True)
class Inference:
    """A request.

    Attributes:
      rows: the rows to score.
      id: which the answer repeats; None for none.
      binary: whether the probabilities are wanted as bytes.
    """

    rows: TypedRows
    id: str | None
    binary: bool


def server() -> dict[str, Any]:
    """Metadata of the server."""
    return {'name': 'dlf_jax', 'version': dlf_jax.__version__, 'extensions': ['binary_tensor_data']}


def metadata(name: str, scorer: Scorer) -> dict[str, Any]:
    """Metadata of the model: an input for each column, and the one output."""
    inputs = [
        {'name': field.name, 'datatype': _datatype(field), 'shape': [-1, -1] if field.bag else [-1]}
        for field in scorer.schema.fields
    ]
    output = {'name': OUTPUT, 'datatype': 'FP32', 'shape': [-1]}
    return {
        'name': name, 'versions': [scorer.version], 'platform': 'dlf_jax', 'inputs': inputs,
        'outputs': [output],
    }  # fmt: skip


def _datatype(field: Field) -> str:
    return 'FP64' if field.number else tensors.BYTES


def parse(body: bytes, json_bytes: str | None, scorer: Scorer, max_rows: int) -> Inference:
    """Reads a request.

    Args:
      body: JSON, and perhaps tensors after it.
      json_bytes: value of `HEADER`; None: all is JSON.
      scorer: the version that will score it.
      max_rows: maximum number of rows.

    Raises:
      BadRequest: names the input.
    """
    length = _json_length(json_bytes, len(body))
    request = decoded(body[:length])
    if foreign := sorted(request.keys() - set(_REQUEST)):
        raise BadRequest(f'{foreign[0][:80]!r}: no part of a request{suggest(foreign[0][:80], _REQUEST)}')
    identity = request.get('id')
    if identity is not None and not isinstance(identity, str):
        raise BadRequest('id: expected a text')
    inputs = request.get('inputs')
    if not isinstance(inputs, list) or not inputs or not all(isinstance(one, dict) for one in inputs):
        raise BadRequest('inputs: expected a list of at least one object')
    binary = _wants_binary(request)
    columns, rows = _columns(inputs, memoryview(body)[length:], scorer, max_rows)
    return Inference(scorer.reader.columns(columns, rows), identity, binary)


def decoded(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises BadRequest where it is none."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f'the body is no JSON: {error}') from None
    if not isinstance(found, dict):
        raise BadRequest('the body: expected a JSON object')
    return found


def _json_length(header: str | None, size: int) -> int:
    if header is None:
        return size
    if not (header.isascii() and header.isdigit()) or len(header) > 18 or int(header) > size:
        raise BadRequest(f'{HEADER}: expected a number of bytes up to {size}, found {header[:40]!r}')
    return int(header)


def _wants_binary(request: dict[str, Any]) -> bool:
    """Whether the output is wanted as bytes; checks what else is said of outputs."""
    binary = _parameters(request, 'the request').get('binary_data_output', False)
    outputs = request.get('outputs')
    if outputs is None:
        outputs = []
    if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs):
        raise BadRequest('outputs: expected a list of objects')
    for one in outputs:
        if one.get('name') != OUTPUT:
            raise BadRequest(f'output {str(one.get("name"))[:80]!r}: there is only {OUTPUT!r}')
        parameters = _parameters(one, f'output {OUTPUT!r}')
        if 'classification' in parameters:
            raise BadRequest(f'output {OUTPUT!r}: classification is not supported')
        binary = parameters.get('binary_data', binary)
    if not isinstance(binary, bool):
        raise BadRequest('binary_data: expected true or false')
    return binary


def _parameters(of: dict[str, Any], what: str) -> dict[str, Any]:
    found = of.get('parameters')
    if found is not None and not isinstance(found, dict):
        raise BadRequest(f'{what}: parameters: expected an object')
    return found or {}


def _columns(
    inputs: list[dict[str, Any]], raw: memoryview, scorer: Scorer, max_rows: int
) -> tuple[dict[str, Any], int]:
    """Columns of the inputs, by name, and their number of rows."""
    fields = {field.name: field for field in scorer.schema.fields}
    columns: dict[str, Any] = {}
    rows, at = 0, 0
    for one in inputs:
        name = one.get('name')
        if not isinstance(name, str) or name not in fields:
            raise BadRequest(f'input {str(name)[:80]!r}: no such column{suggest(str(name)[:80], fields)}')
        if name in columns:
            raise BadRequest(f'input {name!r}: is there twice')
        shape = tensors.shape_of(one.get('shape'), name)
        if shape[0] > max_rows:
            raise BadRequest(f'input {name!r}: {shape[0]} rows, but at most {max_rows} at once', 413)
        if rows and shape[0] != rows:
            raise BadRequest(f'input {name!r}: {shape[0]} rows, but {rows} in the input before')
        rows = shape[0]
        if len(shape) == 2 and shape[1] > 1 and not fields[name].bag:
            raise BadRequest(f'input {name!r}: {shape[1]} values a row, but the column has one')
        datatype = one.get('datatype')
        if not isinstance(datatype, str) or datatype not in (tensors.BYTES, *tensors.DATATYPES):
            known = ', '.join((tensors.BYTES, *tensors.DATATYPES))
            raise BadRequest(f'input {name!r}: datatype {str(datatype)[:80]!r}: expected one of {known}')
        size = _parameters(one, f'input {name!r}').get('binary_data_size')
        if size is None:
            values = tensors.from_json(one.get('data'), datatype, shape, name)
        else:
            if type(size) is not int or not 0 <= size <= len(raw) - at:
                raise BadRequest(
                    f'input {name!r}: binary_data_size: expected up to {len(raw) - at} bytes, which the body '
                    f'still has, found {str(size)[:80]}'
                )
            values = tensors.from_bytes(raw[at : at + size], datatype, shape, name)
            at += size
        columns[name] = scorer.reader.lists(values, shape[1], name) if len(shape) == 2 else values
    if at != len(raw):
        raise BadRequest(f'{len(raw) - at} bytes after the last input with a binary_data_size')
    return columns, rows


def answer(
    name: str, version: str, inference: Inference, probabilities: np.ndarray
) -> tuple[bytes, dict[str, str]]:
    """The answer to a request.

    Args:
      name: of the model.
      version: that has scored it.
      inference: the request.
      probabilities: float32 [rows].

    Returns:
      The body, and headers.
    """
    output: dict[str, Any] = {'name': OUTPUT, 'datatype': 'FP32', 'shape': [len(probabilities)]}
    found: dict[str, Any] = {'model_name': name, 'model_version': version, 'outputs': [output]}
    if inference.id is not None:
        found['id'] = inference.id
    if not inference.binary:
        output['data'] = probabilities
        body = orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY)
        return body, {'content-type': 'application/json'}
    raw = probabilities.astype('<f4').tobytes()
    output['parameters'] = {'binary_data_size': len(raw)}
    head = orjson.dumps(found)
    return head + raw, {'content-type': 'application/octet-stream', HEADER: str(len(head))}
