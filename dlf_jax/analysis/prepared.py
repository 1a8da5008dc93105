"""Prepared records of a run's data, found without the files that they were made of."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from dlf_jax.data.builders import part_counts
from dlf_jax.data.loading.label_counts import LabelCounts
from dlf_jax.data.loading.records import Blocks, RecordBlocks
from dlf_jax.data.preprocess import encoder
from dlf_jax.data.preprocess.splits import PARTS
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UserError
from dlf_jax.storage import data_folder


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Prepared records.

    Attributes:
      folder: where they are.
      schema: their fields, with sizes.
      blocks: blocks by part, in the order train, valid, test.
    """

    folder: Path
    schema: Schema
    blocks: Mapping[str, Blocks]

    def labels(self) -> dict[str, LabelCounts]:
        """Labels in numbers by part; counted once and remembered."""
        return part_counts.labels(self.folder, self.blocks)

    def unknown(self) -> dict[str, dict[str, float]]:
        """Shares of unknown values by field, by part other than training; counted once and remembered."""
        return part_counts.unknown(self.folder, self.blocks, self.schema)


def find(fingerprint: str, data_dir: str | os.PathLike) -> Prepared | None:
    """The records of a fingerprint, as a workdir's `data.json` has it; None where they are not there.

    Args:
      fingerprint: that of the records; '' is of none.
      data_dir: folder of prepared data.

    Raises:
      UserError: they are there and damaged.
    """
    top = Path(data_folder.local(data_dir))
    # A name, not a pattern.
    if not fingerprint.isalnum() or not top.is_dir():
        return None
    data_folder.fetch_named(top, fingerprint)
    for folder in sorted(top.glob(f'*/{fingerprint}/*')):
        if not (folder / 'dataset_info.json').is_file():
            continue
        builder = tfds.builder_from_directory(str(folder))
        rows, block_rows = builder.info.metadata['rows'], builder.info.metadata['block_rows']
        blocks = {
            part: RecordBlocks(builder, part, rows[part], block_rows)
            for part in PARTS
            if part in builder.info.splits
        }
        return Prepared(folder, encoder.load_schema(folder / 'encoder'), blocks)
    return None


@dataclasses.dataclass(frozen=True)
class Sample:
    """Rows of a part, read block by block at even distances.

    Attributes:
      rows: the features, labels and weights, each [rows, ...].
      numbers: number of each row in the part, int64 [rows], rising.
      of: number of all rows of the part.
    """

    rows: Rows
    numbers: np.ndarray
    of: int


def sample(blocks: Blocks, most: int) -> Sample:
    """Whole blocks of a part at even distances, so that what it reads is bounded.

    Args:
      blocks: of the part.
      most: number of rows after which no further block is read.
    """
    wanted = min(len(blocks), max(1, most // blocks.block_rows))
    # The middles of as many equal stretches: one block alone is not the first, whose rows may be the oldest.
    chosen = ((np.arange(wanted) + 0.5) * len(blocks) / max(wanted, 1)).astype(np.int64)
    found: dict[str, list[np.ndarray]] = {}
    numbers = []
    for block in chosen:
        rows = blocks.read(int(block))
        for name, values in rows.items():
            found.setdefault(name, []).append(values)
        first = int(block) * blocks.block_rows
        numbers.append(np.arange(first, first + len(rows['label'])))
    joined = {name: np.concatenate(values) for name, values in found.items()}
    return Sample(joined, np.concatenate([np.zeros(0, np.int64), *numbers]), blocks.rows)


def found_or_none(fingerprint: str, data_dir: str | os.PathLike | None) -> Prepared | None:
    """As `find`; None also where no folder is named, or the records are damaged."""
    if data_dir is None:
        return None
    with contextlib.suppress(UserError):
        return find(fingerprint, data_dir)
    return None
