"""Rows of a sample on the devices, a padded batch at a time."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np

from dlf_jax.data.loading import batches as batching
from dlf_jax.data.loading.order import even_batch
from dlf_jax.data.rows import Rows
from dlf_jax.training.model_setup import ModelSetup
from dlf_jax.training.train_step import Batch

# Rows of a batch on a CPU, whose caches then hold it: of DLF on Criteo's fields a core scored 29,000 rows a
# second in batches of 512 to 2,048 and 20,000 in those of 4,096.
_CPU_ROWS = 1024


def batch_size_for(rows: int, most: int, setup: ModelSetup) -> int:
    """Rows of a batch for a sample, at most `most`: few rows need no large one."""
    if setup.partitioner.platform == 'cpu':
        most = min(most, _CPU_ROWS)
    return even_batch(min(rows, most), len(setup.partitioner.devices))


def batches_on_devices(rows: Rows, size: int, setup: ModelSetup) -> Iterator[tuple[Batch, int, int]]:
    """Yields batches with their number of rows that are no padding, and the place of the first one.

    Args:
      rows: arrays [n, ...].
      size: of a batch, from `batch_size_for`.
      setup: of the model.
    """
    total = len(rows['label'])
    for start in range(0, total, size):
        piece = {name: values[start : start + size] for name, values in rows.items()}
        yield setup.partitioner.put(batching.pad(piece, size)), min(size, total - start), start


def everywhere(arrays: dict[str, np.ndarray], setup: ModelSetup) -> dict[str, jax.Array]:
    """Small arrays on every device."""
    return {name: setup.partitioner.put_everywhere(values) for name, values in arrays.items()}
