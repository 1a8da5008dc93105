"""Tensors of the Open Inference Protocol: from JSON values or bytes to columns."""

from __future__ import annotations

import itertools
import math
import struct
from typing import Any

import numpy as np

from dlf_jax.server.rows import BadRequest

# NumPy's types by the protocol's names; BYTES are texts.
DATATYPES = {
    'BOOL': np.bool_, 'UINT8': np.uint8, 'UINT16': np.uint16, 'UINT32': np.uint32, 'UINT64': np.uint64,
    'INT8': np.int8, 'INT16': np.int16, 'INT32': np.int32, 'INT64': np.int64, 'FP16': np.float16,
    'FP32': np.float32, 'FP64': np.float64,
}  # fmt: skip
BYTES = 'BYTES'


def shape_of(found: Any, name: str) -> tuple[int, ...]:
    """A tensor's shape: rows, or rows and values of each.

    Raises:
      BadRequest: no list of one or two numbers of 1 and more.
    """
    good = isinstance(found, list) and len(found) in (1, 2) and all(type(n) is int and n > 0 for n in found)
    if not good:
        raise BadRequest(f'input {name!r}: shape: expected [ROWS] or [ROWS, VALUES], found {str(found)[:80]}')
    return tuple(found)


def from_json(data: Any, datatype: str, shape: tuple[int, ...], name: str) -> list[Any] | np.ndarray:
    """The values of a tensor, row after row.

    Args:
      data: a list of values, nested as the shape says, or flat.
      datatype: a key of `DATATYPES`, or `BYTES`.
      shape: see `shape_of`.
      name: of the input, for errors.

    Returns:
      Texts (None where null), or an array of the type.

    Raises:
      BadRequest: other values, or another number of them.
    """
    if not isinstance(data, list):
        raise BadRequest(f'input {name!r}: data: expected a list of values')
    if data and isinstance(data[0], list):
        if not all(isinstance(row, list) for row in data):
            raise BadRequest(f'input {name!r}: data: expected lists of values, or values, not both')
        width = shape[1] if len(shape) == 2 else 1
        if len(data) != shape[0] or any(len(row) != width for row in data):
            # Values must not move from one row into another.
            raise BadRequest(
                f'input {name!r}: data: expected {shape[0]} lists of {width} by its shape; fill short ones up'
            )
        data = list(itertools.chain.from_iterable(data))
    if len(data) != math.prod(shape):
        raise BadRequest(
            f'input {name!r}: expected {math.prod(shape)} values by its shape, found {len(data)}'
        )
    if datatype == BYTES:
        _check_types(data, {str, type(None)}, 'texts', name)
        return data
    if datatype == 'BOOL':
        _check_types(data, {bool}, 'booleans', name)
        return np.array(data, bool)
    kind: np.dtype[Any] = np.dtype(DATATYPES[datatype])
    if kind.kind == 'f':
        _check_types(data, {int, float, type(None)}, 'numbers', name)
        with np.errstate(over='ignore'):
            return np.array(data, np.float64).astype(kind)
    _check_types(data, {int}, 'whole numbers', name)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    for value in data:
        if not low <= value <= high:
            raise BadRequest(f'input {name!r}: {value} is no {datatype}')
    return np.array(data, kind)


def _check_types(data: list[Any], allowed: set[type], what: str, name: str) -> None:
    if not set(map(type, data)) <= allowed:
        found = next(value for value in data if type(value) not in allowed)
        raise BadRequest(f'input {name!r}: data: expected {what}, found {str(found)[:80]!r}')


def from_bytes(data: memoryview, datatype: str, shape: tuple[int, ...], name: str) -> list[Any] | np.ndarray:
    """The values of a tensor, row after row, of the protocol's binary form: little-endian, and each text with
    its length before it, 4 bytes.

    Args:
      data: the bytes of this tensor alone.
      datatype: a key of `DATATYPES`, or `BYTES`.
      shape: see `shape_of`.
      name: of the input, for errors.

    Raises:
      BadRequest: another number of bytes, or texts that are no UTF-8.
    """
    count = math.prod(shape)
    if datatype == BYTES:
        return _texts(data, count, name)
    kind = np.dtype(DATATYPES[datatype]).newbyteorder('<')
    if len(data) != count * kind.itemsize:
        raise BadRequest(
            f'input {name!r}: expected {count * kind.itemsize} bytes by its shape, found {len(data)}'
        )
    if datatype == 'BOOL':
        return np.frombuffer(data, np.uint8) != 0
    return np.frombuffer(data, kind)


def _texts(data: memoryview, count: int, name: str) -> list[str]:
    found, at = [], 0
    try:
        # Each text takes 4 bytes or more, so the loop ends with the data.
        for _ in range(count):
            (length,) = struct.unpack_from('<I', data, at)
            at += 4 + length
            if at > len(data):
                raise struct.error
            found.append(str(data[at - length : at], 'utf-8'))
    except struct.error:
        raise BadRequest(f'input {name!r}: its bytes end before text {len(found) + 1} of {count}') from None
    except UnicodeDecodeError:
        raise BadRequest(f'input {name!r}: text {len(found) + 1} is no UTF-8') from None
    if at != len(data):
        raise BadRequest(f'input {name!r}: {len(data) - at} bytes after the last of its {count} texts')
    return found
