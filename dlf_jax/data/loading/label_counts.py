"""Labels of prepared parts in numbers: what tells how well one does without a model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from dlf_jax.data.loading.records import Blocks
from dlf_jax.data.progress import Progress
from dlf_jax.data.rows import Rows


@dataclasses.dataclass(frozen=True)
class LabelCounts:
    """Labels of a part's rows whose weight is above 0.

    Attributes:
      rows: number of these rows.
      clicks: number of them with a label above 0.5, which AUC counts as clicks.
      rate: weighted mean of their labels; None where there are no such rows.
    """

    rows: int
    clicks: int
    rate: float | None

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> LabelCounts:
        """The inverse of `to_json`."""
        return cls(**saved)


def count_labels(stream: Iterable[Rows]) -> LabelCounts:
    """Labels of rows in numbers.

    Args:
      stream: rows in pieces of any length, of which `label` and, where there is one, `weight` are read.
    """
    return join_sums(map(label_sums, stream))


# Rows, clicks, sum of weights and weighted sum of labels of a piece.
LabelSums = tuple[int, int, float, float]


def label_sums(piece: Rows) -> LabelSums:
    """Sums over the labels of some rows."""
    label = piece['label'].astype(np.float64)
    weight = piece['weight'].astype(np.float64) if 'weight' in piece else np.ones(len(label))
    rows = int(np.count_nonzero(weight > 0))
    clicks = int(np.count_nonzero((weight > 0) & (label > 0.5)))
    return rows, clicks, float(weight.sum()), float((weight * label).sum())


def join_sums(pieces: Iterable[LabelSums]) -> LabelCounts:
    """Labels of the rows of all pieces in numbers, whatever the order of the pieces."""
    rows, clicks, weights, labels = zip(*pieces, (0, 0, 0.0, 0.0), strict=True)
    total = math.fsum(weights)
    return LabelCounts(sum(rows), sum(clicks), math.fsum(labels) / total if total else None)


def read_labels(blocks: Blocks, part: str) -> Iterator[Rows]:
    """Yields the rows of a prepared part, block by block, for `count_labels`.

    Args:
      blocks: of the part.
      part: its name, for the progress bar.
    """
    with Progress(f'counting the labels of {part}', 'rows', blocks.rows) as progress:
        for number in range(len(blocks)):
            rows = blocks.read(number)
            yield rows
            progress.advance(len(rows['label']))
