"""How the values of fields differ between the parts of prepared data: missing, unknown, and shifted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from dlf_jax.analysis import number_ranges
from dlf_jax.analysis.prepared import Sample
from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import MISSING, OUT_OF_VOCABULARY, PADDING, RESERVED, Field, Schema

# Shares of a field's values that are compared: its most frequent ones, and all the others together; of a
# number its ranges that hold a tenth of the training rows each.
TOP_VALUES = 20
# Added to every count, so that a value that one part lacks is a finite difference.
_PRIOR = 0.5
# What is called small and large (Siddiqi 2006, "Credit Risk Scorecards").
SMALL, LARGE = 0.1, 0.25


@dataclasses.dataclass(frozen=True)
class FieldShares:
    """A field's values in the parts.

    Attributes:
      field: the field.
      missing: share of values that are missing by part; None where missing ones became the mean.
      unknown: share of values outside the vocabulary by part; None where the field has none.
      psi: population stability index of each later part against the training part.
    """

    field: Field
    missing: dict[str, float | None]
    unknown: dict[str, float | None]
    psi: dict[str, float]


def psi(expected: np.ndarray, found: np.ndarray) -> float:
    """Population stability index of counts: the sum of (q - p) log(q / p) over bins.

    Half a row is added to every bin. 0 where the shares are the same; below 0.1 is called small, above 0.25
    large (Siddiqi 2006). Rows without drift have about (bins - 1) (1 / n + 1 / m) of it, by chance.

    Args:
      expected: counts by bin in the training part, [bins].
      found: counts by bin in another part, [bins].
    """
    p, q = ((c + _PRIOR) / (c.sum() + _PRIOR * len(c)) for c in (expected.astype(float), found.astype(float)))
    return float(np.sum((q - p) * np.log(q / p)))


def missing_numbers(config: ConfigDict, encoder: Encoder, rows: int) -> dict[str, float]:
    """Share of missing training values by numeric field, from what was counted while preparing.

    Args:
      config: of the run.
      encoder: fitted to the training part.
      rows: of the training part.

    Returns:
      Nothing where statistics were kept over a warm start: they are of the rows that they were fitted to.
    """
    if not rows or (config.training.warm_start and not config.dataset.refit_numbers):
        return {}
    return {name: 1 - moments.count / rows for name, moments in encoder.moments.items()}


def compare(
    schema: Schema, samples: Mapping[str, Sample], missing: Mapping[str, float] | None = None
) -> list[FieldShares]:
    """Missing, unknown and shifted values of every field, in the order of the schema.

    Args:
      schema: with sizes.
      samples: rows by part, `train` among them.
      missing: share of missing training values by numeric field, for those whose missing numbers became the
        mean and cannot be told in the rows.
    """
    rows = {part: sample.rows for part, sample in samples.items()}
    found = [_compare(schema, field, rows) for field in schema.fields]
    for shares in found:
        if shares.missing['train'] is None:
            shares.missing['train'] = (missing or {}).get(shares.field.name)
    return found


def _compare(schema: Schema, field: Field, parts: Mapping[str, Rows]) -> FieldShares:
    if field in schema.numeric:
        place = schema.numeric.index(field)
        numbers = {part: rows['numeric'][:, place] for part, rows in parts.items()}
        counts = _number_counts(numbers)
        told = field.fill == 'own'
        missing = {
            part: float(np.mean(np.isnan(v))) if told and len(v) else None for part, v in numbers.items()
        }
        unknown: dict[str, float | None] = dict.fromkeys(parts)
    else:
        ids = {part: _ids(schema, field, rows) for part, rows in parts.items()}
        size = next(owner.size for owner in schema.owners if owner.name == field.owner)
        by_id = {part: np.bincount(values, minlength=size) for part, values in ids.items()}
        missing = {part: _share(c[MISSING], c) for part, c in by_id.items()}
        unknown = {
            part: _share(c[OUT_OF_VOCABULARY], c) if field.counted else None for part, c in by_id.items()
        }
        counts = _value_counts(by_id)
    shifted = {part: psi(counts['train'], c) for part, c in counts.items() if part != 'train'}
    return FieldShares(field, missing, unknown, shifted)


def _ids(schema: Schema, field: Field, rows: Rows) -> np.ndarray:
    """Ids of a field's values from 0 on, without the filler of multi-valued ones, int [values]."""
    offset = schema.offsets[field.owner]
    if field.bag:
        columns = next(columns for bag, columns in schema.bag_slices() if bag == field)
        found = rows['bags'][:, columns]
        if field.ordered:
            # A row without a history holds no id; other fields without a value hold that of a missing one.
            empty = (found == PADDING).all(1, keepdims=True)
            found = np.where(empty & (np.arange(field.length) == 0), offset + MISSING, found)
        return found[found != PADDING] - offset
    return rows['categorical'][:, schema.categorical.index(field)] - offset


def _share(count: int, counts: np.ndarray) -> float:
    return float(count / max(counts.sum(), 1))


def _value_counts(by_id: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Counts of the two reserved ids, the most frequent values of the training part, and the rest."""
    order = np.argsort(-by_id['train'][RESERVED:], kind='stable')[:TOP_VALUES] + RESERVED
    kept = np.concatenate([[OUT_OF_VOCABULARY, MISSING], order])
    return {part: np.append(c[kept], c.sum() - c[kept].sum()) for part, c in by_id.items()}


def _number_counts(numbers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Counts of ranges that hold about a tenth of the training rows each, and of missing numbers."""
    train = numbers['train']
    cuts = number_ranges.cuts(train, number_ranges.RANGES)
    if not len(cuts) and not np.isnan(train).all():
        # The training part has one number: what lies below it, it, and what lies above.
        one = np.float64(np.nanmax(train))
        cuts = np.array([np.nextafter(one, -np.inf), one])

    def counts(values: np.ndarray) -> np.ndarray:
        there = values[~np.isnan(values)]
        ranges = np.bincount(np.searchsorted(cuts, there, side='left'), minlength=len(cuts) + 1)
        return np.append(ranges, len(values) - len(there))

    return {part: counts(values) for part, values in numbers.items()}
