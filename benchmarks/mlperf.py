"""The shape of MLPerf's recommendation benchmark: DLRM-DCNv2 on Criteo's terabyte, several values a field.

Sizes of tables and bags: mlcommons/training, `recommendation_v2/torchrec_dlrm`. Tables may be capped, so that
one card or one machine holds them; ids are then those of the smaller tables, and all else stays: 214 lookups
a row, of which 149 are in the five largest tables.
"""

from __future__ import annotations

from typing import Any

import numpy as np

NUMBERS = 13
# Rows of the 26 tables, in the order of Criteo's columns, and values that a row has of each.
_TABLES = (
    (40_000_000, 3), (39_060, 2), (17_295, 1), (7_424, 2), (20_265, 6), (3, 1), (7_122, 1), (1_543, 1),
    (63, 1), (40_000_000, 7), (3_067_956, 3), (405_282, 8), (10, 1), (2_209, 6), (11_938, 9), (155, 5),
    (4, 1), (976, 1), (14, 1), (40_000_000, 12), (40_000_000, 100), (40_000_000, 27), (590_152, 10),
    (12_973, 3), (108, 1), (36, 1),
)  # fmt: skip
# Fields of one value lie before the bags, as in a schema: a permutation of the model's inputs.
TABLES = sorted(_TABLES, key=lambda table: table[1] > 1)
LENGTHS = [length for _, length in TABLES]
SHAPE: dict[str, Any] = {
    'embedding_size': 128,
    'bottom_hidden': [512, 256],
    'cross_layers': 3,
    'rank': 512,
    'hidden': [1024, 1024, 512, 256],
}


def sizes(cap: int) -> list[int]:
    """Rows of each table, at most `cap`."""
    return [min(rows, cap) for rows, _ in TABLES]


def bags(ids: np.ndarray, sizes: list[int], lengths: list[int]) -> np.ndarray:
    """Several values a field from one: the first is a row's own id, the others are a list of each id's own,
    drawn uniformly from the field's, as in the benchmark's data.

    Args:
      ids: int64 [rows, F], within each field's size.
      sizes: number of ids of each field.
      lengths: number of values of each field.

    Returns:
      int64 [rows, sum of lengths], fields side by side.
    """
    columns = []
    for field, (size, length) in enumerate(zip(sizes, lengths, strict=True)):
        places = np.arange(1, length, dtype=np.uint64)
        others = _mixed(ids[:, field, None].astype(np.uint64) * np.uint64(1000) + places) % np.uint64(size)
        columns += [ids[:, field, None], others.astype(np.int64)]
    return np.concatenate(columns, 1)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Bits of uint64 values mixed so that neighbours have nothing in common (splitmix64)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
