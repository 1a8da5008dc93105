"""Block records: a TFDS dataset whose example is a block of rows, stored as raw bytes in ArrayRecord.

One row per record is 100 to 1000 times too slow to read. All blocks of a split hold `block_rows`
rows; the last one holds the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.core import decode, writer

from dlf_jax.data.hashing import mix
from dlf_jax.data.progress import ahead
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UserError

Rows = dict[str, np.ndarray]


def features(schema: Schema) -> tfds.features.FeaturesDict:
    """The features of a block: `categorical` int32 [rows, Fc], `numeric` float32 [rows, Fn], `bags` int32
    [rows, bag_columns], `label` and `weight` float32 [rows], `group` int64 [rows]; `label` always, the
    others where the schema has them."""

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


class BlockWriter(writer.ExampleWriter):
    """Writes examples that are blocks to ArrayRecord shards, uncompressed.

    Unpacking TFDS's default, zstd, takes five times as long as reading the bytes and is most of the time
    that a batch takes; the ids of rare values hardly shrink. A record still carries a checksum.
    """

    def __init__(self):
        super().__init__(tfds.core.FileFormat.ARRAY_RECORD)

    def write(self, path, examples):
        options = 'group_size:1,uncompressed,max_parallelism:2'
        shard = array_record_module.ArrayRecordWriter(os.fspath(path), options)
        with ahead(examples, 4) as ready:
            for _, example in ready:
                shard.write(example)
        shard.close()


def reblock(parts: Iterable[Rows], rows: int) -> Iterator[Rows]:
    """Cuts a stream of parts of any length into blocks of `rows`, the last one shorter."""
    waiting: list[Rows] = []
    count = 0
    for part in parts:
        length = len(part['label'])
        start = 0
        while count + length - start >= rows:
            stop = start + rows - count
            waiting.append({k: v[start:stop] for k, v in part.items()})
            yield _join(waiting)
            waiting, count, start = [], 0, stop
        if start < length:
            waiting.append({k: v[start:] for k, v in part.items()})
            count += length - start
    if count:
        yield _join(waiting)


def _join(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


class Blocks(Protocol):
    """Random access to the blocks of a split."""

    rows: int
    block_rows: int

    def __len__(self) -> int:
        """Number of blocks."""

    def read(self, block: int) -> Rows:
        """The rows of a block, each value an array of [rows, ...]."""


class RecordBlocks:
    """The blocks of a prepared split, read from its ArrayRecord shards."""

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, rows: int, block_rows: int):
        """Opens the shards.

        Raises:
          UserError: a shard is missing or damaged, or holds another number of rows than was written.
        """
        self.rows = rows
        self.block_rows = block_rows
        self._files = [Path(f) for f in builder.info.splits[split].filepaths]
        for path in self._files:
            _check_shard(path)
        # The bytes as they are: what TFDS decodes, it copies twice.
        self._source = builder.as_data_source(split, deserialize_method=decode.DeserializeMethod.RAW_BYTES)
        self._features = {
            name: (feature.np_dtype, [-1, *feature.shape[1:]])
            for name, feature in builder.info.features.items()
        }
        if len(self._source) != -(-rows // block_rows):
            raise UserError(
                f'{self._files[0].parent}: split {split!r} holds {len(self._source)} blocks, expected '
                f'{-(-rows // block_rows)}; remove the folder and prepare again'
            )

    def __len__(self) -> int:
        return len(self._source)

    def read(self, block: int) -> Rows:
        """The rows of a block, each value a read-only view of the record's bytes, not always aligned."""
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
    """The features of a serialized `tf.train.Example` that holds one bytes value for each."""
    for _, features in _messages(memoryview(record)):
        for _, entry in _messages(features):
            name, feature = (content for _, content in _messages(entry))
            ((kind, values),) = _messages(feature)
            ((_, value),) = _messages(values)
            if kind != 1:
                raise ValueError(f'feature {bytes(name)!r} is not stored as bytes')
            yield bytes(name).decode(), value


def _messages(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The (number, content) of the fields of a protobuf message, all of the kind that has a length."""
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


def shared_rows(parts: Mapping[str, Blocks]) -> dict[str, int]:
    """How many rows of each later part are, features and label, also in the training part.

    Keeps 8 bytes for each training row in memory.
    """

    def hashes(blocks: Blocks) -> Iterator[np.ndarray]:
        return (_row_hashes(blocks.read(block)) for block in range(len(blocks)))

    train = np.unique(np.concatenate(list(hashes(parts['train']))))
    return {
        part: sum(int(np.isin(found, train).sum()) for found in hashes(blocks))
        for part, blocks in parts.items()
        if part != 'train'
    }


def _row_hashes(rows: Rows) -> np.ndarray:
    """A 64-bit hash of each row's features and label, uint64 [rows]."""
    hashes = np.zeros(len(rows['label']), np.uint64)
    for name in ('label', 'categorical', 'numeric', 'bags'):
        for column in np.atleast_2d(rows[name].T) if name in rows else ():
            bits = np.ascontiguousarray(column).view(np.uint32).astype(np.uint64)
            hashes = mix(hashes + bits + np.uint64(0x9E3779B97F4A7C15))
    return hashes
