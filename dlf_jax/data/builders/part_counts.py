"""What was counted in the parts of prepared data: labels, and values that the training part did not have.

Each kind is a file beside the records, so that it is counted once: while preparing, or when first asked for.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlf_jax.data.loading.label_counts import LabelCounts, count_labels, read_labels
from dlf_jax.data.loading.records import Blocks
from dlf_jax.data.loading.unknown_values import unknown_shares
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UserError
from dlf_jax.file_writing import to_json, write_atomically

_LABELS, _UNKNOWN = 'labels.json', 'out_of_vocabulary.json'


def labels(folder: Path, parts: Mapping[str, Blocks]) -> dict[str, LabelCounts]:
    """Labels in numbers by part.

    Args:
      folder: of the records.
      parts: blocks by part.
    """

    def count() -> dict[str, Any]:
        return {part: count_labels(read_labels(blocks, part)).to_json() for part, blocks in parts.items()}

    found = _remembered(folder / _LABELS, count)
    return {part: LabelCounts.from_json(counts) for part, counts in found.items()}


def write_labels(folder: Path, counts: Mapping[str, LabelCounts]) -> None:
    """Writes what was counted while preparing."""
    write_atomically(folder / _LABELS, to_json({part: c.to_json() for part, c in counts.items()}) + '\n')


def unknown(folder: Path, parts: Mapping[str, Blocks], schema: Schema) -> dict[str, dict[str, float]]:
    """Shares of unknown values by field, by part other than training.

    Args:
      folder: of the records.
      parts: blocks by part.
      schema: of the data.
    """

    def count() -> dict[str, Any]:
        return {part: unknown_shares(schema, blocks) for part, blocks in parts.items() if part != 'train'}

    found: dict[str, dict[str, float]] = _remembered(folder / _UNKNOWN, count)
    return found


def _remembered(path: Path, count: Callable[[], Any]) -> Any:
    """What a file holds; where there is none, it is counted and written."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text())
    found = count()
    # Remembered where that is possible: prepared data may be read-only.
    with contextlib.suppress(UserError):
        write_atomically(path, to_json(found) + '\n')
    return found
