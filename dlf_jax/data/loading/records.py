"""Block records: TFDS datasets whose example is a block of rows, stored as raw bytes in ArrayRecord shards.

Reading one record per row is orders of magnitude slower. All blocks of a part hold `block_rows` rows, but
for the last one, which holds the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.core import example_serializer, writer

from dlf_jax.data.prefetch import prefetch
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UserError


def features(schema: Schema) -> tfds.features.FeaturesDict:
    """TFDS features of a block.

    These are `label` float32 [rows] and, where the schema has them, `categorical` int32 [rows, Fc],
    `numeric` float32 [rows, Fn], `bags` int32 [rows, bag_columns], `weight` float32 [rows] and `group`
    int64 [rows].
    """

    def raw(shape: tuple[int | None, ...], dtype: type) -> tfds.features.Tensor:
        return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=tfds.features.Encoding.BYTES)

    spec = {'label': raw((None,), np.float32)}
    if schema.categorical:
        spec['categorical'] = raw((None, len(schema.categorical)), np.int32)
    if schema.numeric:
        spec['numeric'] = raw((None, len(schema.numeric)), np.float32)
    if schema.bags:
        spec['bags'] = raw((None, schema.bag_columns), np.int32)
    if schema.weight:
        spec['weight'] = raw((None,), np.float32)
    if schema.group:
        spec['group'] = raw((None,), np.int64)
    return tfds.features.FeaturesDict(spec)


class BlockWriter(tfds.core.ExampleWriter):
    """TFDS writer of blocks to uncompressed ArrayRecord shards.

    Decompression of TFDS's default, zstd, would take most of the time of reading, and the ids of rare values
    hardly shrink. Records still carry a checksum.
    """

    def __init__(self) -> None:
        """Fixes the file format."""
        super().__init__(tfds.core.FileFormat.ARRAY_RECORD)

    def write(self, path: Any, examples: Any) -> None:
        """Writes one shard.

        Args:
          path: the shard's file.
          examples: iterator over (key, serialized example).
        """
        options = 'group_size:1,uncompressed,max_parallelism:2'
        shard = array_record_module.ArrayRecordWriter(os.fspath(path), options)
        with prefetch(examples, 4) as ready:
            for _, example in ready:
                shard.write(_in_order(example))
        shard.close()


def write_shard(path: Path, schema: Schema, blocks: Iterator[tuple[int, Rows]]) -> int:
    """Writes a shard as TFDS does, on a machine without its builder.

    Args:
      path: the shard's file.
      schema: of the blocks.
      blocks: (number, block) in the order of the numbers.

    Returns:
      The number of blocks.
    """
    spec = features(schema)
    serializer = example_serializer.ExampleSerializer(spec.get_serialized_info())
    shard = writer.ShardWriter(features=spec, serializer=serializer, example_writer=BlockWriter())
    return shard.write(path=path, examples=blocks)


class Blocks(Protocol):
    """Random access to the blocks of a part."""

    rows: int
    block_rows: int

    def __len__(self) -> int:
        """Number of blocks."""

    def read(self, block: int) -> Rows:
        """Reads the rows of a block, each value an array of [rows, ...]."""


class RecordBlocks:
    """Blocks of a prepared part, read from its ArrayRecord shards."""

    def __init__(self, builder: tfds.core.DatasetBuilder, part: str, rows: int, block_rows: int):
        """Opens the shards.

        Args:
          builder: builder of prepared data.
          part: name of the part.
          rows: number of rows of the part.
          block_rows: rows of a block.

        Raises:
          UserError: a shard is missing or damaged, or holds another number of blocks than was written.
        """
        self.rows = rows
        self.block_rows = block_rows
        self._files = [Path(f) for f in builder.info.splits[part].filepaths]
        for path in self._files:
            _check_shard(path)
        # Raw bytes: TFDS's decoding copies them twice.
        self._source = builder.as_data_source(
            part, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        self._features = {
            name: (feature.np_dtype, [-1, *feature.shape[1:]])
            for name, feature in builder.info.features.items()
        }
        if len(self._source) != -(-rows // block_rows):
            raise UserError(
                f'{self._files[0].parent}: part {part!r} holds {len(self._source)} blocks, expected '
                f'{-(-rows // block_rows)}; remove the folder and prepare again'
            )

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._source)

    def read(self, block: int) -> Rows:
        """Reads a block; each value is a read-only view of the record's bytes, which may be unaligned.

        Raises:
          UserError: a block that cannot be read, or a shard that has become damaged or is gone.
        """
        try:
            return {
                name: np.frombuffer(value, self._features[name][0]).reshape(self._features[name][1])
                for name, value in _byte_features(self._source[block])
            }
        except Exception as error:
            for path in self._files:
                _check_shard(path)
            raise UserError(
                f'{self._files[0].parent}: block {block} cannot be read ({error}); '
                'remove the folder and prepare again'
            ) from error


def _byte_features(record: bytes) -> Iterator[tuple[str, memoryview]]:
    """Features of a serialized `tf.train.Example` that holds one bytes value per feature."""
    for _, features in _messages(memoryview(record)):
        for _, entry in _messages(features):
            name, feature = (content for _, content in _messages(entry))
            ((kind, values),) = _messages(feature)
            ((_, value),) = _messages(values)
            if kind != 1:
                raise ValueError(f'feature {bytes(name)!r} is not stored as bytes')
            yield bytes(name).decode(), value


def _messages(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yields the (number, content) of the fields of a protobuf message, all of them length-delimited."""
    position = 0
    while position < len(message):
        tag, size, shift, position = message[position], 0, 0, position + 1
        while True:
            byte, position = message[position], position + 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if tag & 7 != 2 or position + size > len(message):
            raise ValueError('not a block of rows')
        yield tag >> 3, message[position : position + size]
        position += size


def _in_order(record: bytes) -> bytes:
    """A serialized `tf.train.Example` with its features in an order that is the same in every process.

    They are a map of protobuf, whose order is drawn anew by each process: the same rows would be other bytes.
    """
    ((_, features),) = _messages(memoryview(record))
    pieces = [record[: len(record) - len(features)]]
    for entry in sorted(bytes(entry) for _, entry in _messages(features)):
        pieces += [b'\n', _varint(len(entry)), entry]
    return b''.join(pieces)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def _check_shard(path: Path) -> None:
    if not path.is_file():
        raise UserError(f'{path}: record shard is missing; restore it, or remove its folder and run again')
    try:
        reader = array_record_module.ArrayRecordReader(str(path))
        healthy = reader.ok() and reader.num_records() > 0
        reader.close()
    except (ValueError, RuntimeError, OSError, IndexError):
        healthy = False
    if not healthy:
        raise UserError(
            f'{path}: record shard is damaged or cut short ({path.stat().st_size} bytes); '
            'restore it, or remove its folder and run again to prepare it anew'
        )
