"""Values that the training part did not have: their shares by field, and the warning where those are high."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from dlf_jax.data.loading.records import Blocks
from dlf_jax.data.schema import OUT_OF_VOCABULARY, PADDING, Schema

_log = logging.getLogger(__name__)

# A share of unknown values is high from here on, where less than a quarter of it was to be expected.
_HIGH = 0.1
_TIMES_EXPECTED = 4


def unknown_shares(schema: Schema, blocks: Blocks) -> dict[str, float]:
    """Share of the values of prepared rows that are out of vocabulary.

    Args:
      schema: the features, with sizes.
      blocks: of a part.

    Returns:
      Shares by categorical or multi-valued field with a vocabulary.
    """
    counts = {f.name: np.zeros(2, np.int64) for f in (*schema.categorical, *schema.bags) if f.counted}
    unknown = {
        f.name: schema.offsets[f.owner] + OUT_OF_VOCABULARY for f in (*schema.categorical, *schema.bags)
    }

    def add(name: str, ids: np.ndarray) -> None:
        if name in counts:
            counts[name] += np.count_nonzero(ids == unknown[name]), np.count_nonzero(ids != PADDING)

    for block in range(len(blocks) if counts else 0):
        rows = blocks.read(block)
        for i, field in enumerate(schema.categorical):
            add(field.name, rows['categorical'][:, i])
        for field, columns in schema.bag_slices():
            add(field.name, rows['bags'][:, columns])
    return {name: round(int(outside) / max(int(read), 1), 6) for name, (outside, read) in counts.items()}


def tell(what: str, shares: Mapping[str, float], expected: Mapping[str, float]) -> None:
    """Logs the shares of unknown values by field, with a warning where they are high without a reason.

    Args:
      what: rows that they are of, such as 'valid'.
      shares: by field.
      expected: shares to expect of further rows like the training rows, by field (`Encoder`).
    """
    told = [f'{name} {share:.2%}' for name, share in shares.items() if share]
    if told:
        _log.info('%s: values that are not in the vocabulary: %s', what, ', '.join(told))
    for name, share in shares.items():
        if share >= _HIGH and name in expected and share > _TIMES_EXPECTED * expected[name]:
            _log.warning(
                'WARNING: %s: %.1f %% of the values of %r are not in the vocabulary, where %.1f %% were to '
                'be expected from the training part; are they written in another way, or of another kind?',
                what, 100 * share, name, 100 * expected[name],
            )  # fmt: skip
