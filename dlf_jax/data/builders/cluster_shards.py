"""Records that a cluster has written, handed to TFDS."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds


def take(
    part: str, template: tfds.core.ShardedFileTemplate, shards: Sequence[tuple[str, int]]
) -> tfds.core.SplitInfo:
    """Gives the shards of a part their names.

    Args:
      part: name of the part.
      template: TFDS's names of the part's files.
      shards: (file, number of blocks) in the order of the blocks.
    """
    size = 0
    for number, (file, _) in enumerate(shards):
        target = Path(template.sharded_filepath(shard_index=number, num_shards=len(shards)))
        os.replace(file, target)
        size += target.stat().st_size
    lengths = [blocks for _, blocks in shards]
    return tfds.core.SplitInfo(name=part, shard_lengths=lengths, num_bytes=size, filename_template=template)
