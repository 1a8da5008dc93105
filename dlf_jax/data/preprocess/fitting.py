"""Fitting of the encoder to the statistics of the training part."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

import numpy as np
import polars as pl

from dlf_jax.data.preprocess import curves
from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.preprocess.statistics import Moments, Statistics
from dlf_jax.data.schema import NUMERIC, RESERVED, Field, Schema
from dlf_jax.data.values import canonical
from dlf_jax.errors import UserError

_log = logging.getLogger(__name__)


def fit(schema: Schema, found: Statistics, families: Mapping[str, str] | None = None) -> Encoder:
    """Fits an encoder to the statistics of the training part.

    Args:
      schema: the features, their fields without sizes.
      found: statistics of all training rows.
      families: what columns with a type of their own hold, by name.

    Raises:
      UserError: no rows.
    """
    counts = counted(schema, found)
    moments = found.merged_moments()
    schema = _decided(schema, found, moments)
    by_name = {f.name: f for f in schema.owners}
    vocabularies = {name: vocabulary(frame, by_name[name]) for name, frame in counts.items()}
    expected = {
        name: _expected_unknown(frame, vocabularies[name], by_name[name]) for name, frame in counts.items()
    }
    boundaries = {f.name: found.samples[f.name].boundaries(f.buckets) for f in schema.ranged}
    fitted = {f.name: curves.fit(f, found.samples[f.name].values) for f in schema.numeric if f.curved}
    return assemble(schema, vocabularies, moments, boundaries, fitted, families, expected)


def counted(schema: Schema, found: Statistics) -> dict[str, pl.DataFrame]:
    """`value` and `count` of all values of the training part, however they are written, by owning field.

    Raises:
      UserError: no rows.
    """
    if not found.rows:
        raise UserError('the training part has no rows')
    by_name = {f.name: f for f in schema.owners}
    return {name: _joined(counts, by_name[name]) for name, counts in found.counts.items()}


def assemble(
    schema: Schema,
    vocabularies: dict[str, pl.DataFrame],
    moments: dict[str, Moments],
    boundaries: dict[str, np.ndarray],
    fitted: dict[str, np.ndarray],
    families: Mapping[str, str] | None,
    expected: dict[str, float],
    growth: dict[str, dict[str, int]] | None = None,
) -> Encoder:
    """The encoder of what was fitted, with the sizes of its fields; the arguments are `Encoder`'s.

    Raises:
      UserError: more ids than 32 bits have.
    """
    owners = {f.name for f in schema.owners}

    def size(field: Field) -> int:
        if field.name not in owners:
            return 0
        if field.hash_buckets:
            return field.hash_buckets + RESERVED
        if field.name in boundaries:
            return len(boundaries[field.name]) + 1 + RESERVED
        return vocabularies[field.name].height + RESERVED

    def ranges(field: Field) -> int:
        return max(fitted[field.name].shape[1] - 1, 2) if field.treatment == 'piecewise' else field.buckets

    fields = tuple(dataclasses.replace(f, size=size(f), buckets=ranges(f)) for f in schema.fields)
    schema = dataclasses.replace(schema, fields=fields)
    if schema.vocabulary >= 2**31:
        largest = max(fields, key=lambda field: field.size)
        raise UserError(
            f'the fields have {schema.vocabulary:,} ids, and ids are 32-bit integers (2,147,483,647); the '
            f'largest field is {largest.name!r} with {largest.size:,}: fewer hash_buckets, a higher '
            'min_count or max_vocabulary'
        )
    return Encoder(schema, vocabularies, moments, boundaries, fitted, dict(families or {}), expected, growth)


def _decided(schema: Schema, found: Statistics, moments: Mapping[str, Moments]) -> Schema:
    """The schema with the treatments that `auto` stands for, and without values of their own for missing
    numbers that no training row lacked: nothing would be learnt of them."""

    def decide(field: Field) -> Field:
        if field.kind == NUMERIC and moments[field.name].count == found.rows:
            field = dataclasses.replace(field, fill='mean')
        if field.treatment != 'auto':
            return field
        return curves.decided(field, found.samples[field.name].values, len(schema.numeric))

    return dataclasses.replace(schema, fields=tuple(map(decide, schema.fields)))


def _joined(counts: pl.DataFrame, field: Field) -> pl.DataFrame:
    """Counts of the values of a field, those of one value that is written in several ways together."""
    if counts['value'].dtype != pl.String:
        return counts
    found = canonical(counts['value'], field.missing, field.verbatim)
    if not counts['value'].ne_missing(found).any():
        return counts
    spelled = counts.with_columns(as_written=pl.col('value'), value=found).drop_nulls('value')
    grouped = spelled.group_by('value').agg(pl.col('count').sum(), 'as_written')
    several = grouped.filter(pl.col('as_written').list.len() > 1)
    if several.height:
        value, _, texts = max(several.rows(), key=lambda row: row[1])
        told = ' and '.join(map(repr, sorted(texts)[:3]))
        _log.info(
            'field %s: %d values are written in several ways, such as %s, which are one (%s); '
            'verbatim = true in a schema file keeps them apart', field.name, several.height, told, value,
        )  # fmt: skip
    return grouped.select('value', 'count')


def _expected_unknown(counts: pl.DataFrame, vocabulary: pl.DataFrame, field: Field) -> float:
    """Share of values that the vocabulary would lack, had each been left out of its counting (Good 1953).

    Args:
      counts: `value` and `count` of all values of the training part.
      vocabulary: those that have ids.
      field: their field.
    """
    total = int(counts['count'].sum())
    kept = vocabulary['count'].filter(vocabulary['count'] > field.min_count)
    return round(1 - int(kept.sum()) / total, 6) if total else 0.0


def vocabulary(counts: pl.DataFrame, field: Field) -> pl.DataFrame:
    """The values with an id of their own, as texts, and their counts, in the order of the ids.

    Args:
      counts: `value` and `count` of all values.
      field: their field.
    """
    values = counts.filter(pl.col('count') >= field.min_count).cast({'value': pl.String})
    values = values.sort(['count', 'value'], descending=[True, False])
    return values.head(field.max_size) if field.max_size else values
