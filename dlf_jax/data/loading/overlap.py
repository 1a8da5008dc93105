"""Overlap of the parts of a dataset: rows of later parts that the training part has, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from dlf_jax.data.hashing import mix
from dlf_jax.data.loading.records import Blocks
from dlf_jax.data.rows import Rows


def shared_rows(parts: Mapping[str, Blocks]) -> dict[str, int]:
    """Counts the rows of each later part whose features and label are also those of a training row.

    It keeps 8 bytes per training row in memory.

    Args:
      parts: blocks by part; 'train' is one of them.

    Returns:
      The number of shared rows, by part other than 'train'.
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
    """Hashes of the rows' features and labels, uint64 [rows]."""
    hashes = np.zeros(len(rows['label']), np.uint64)
    for name in ('label', 'categorical', 'numeric', 'bags'):
        for column in np.atleast_2d(rows[name].T) if name in rows else ():
            bits = np.ascontiguousarray(column).view(np.uint32).astype(np.uint64)
            hashes = mix(hashes + bits + np.uint64(0x9E3779B97F4A7C15))
    return hashes
