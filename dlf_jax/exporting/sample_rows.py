"""Rows that exercise every field of a schema, made from what the encoder knows of the training part."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.readers.chunk import Chunk
from dlf_jax.data.readers.columns import FLOAT32
from dlf_jax.data.schema import Field

# A text that no vocabulary has.
UNKNOWN = 'a text that no training row had \u2603'
# Shares of rows with a missing value, an unknown one, and one that is spelled otherwise.
_MISSING, _UNKNOWN, _RESPELLED = 0.1, 0.1, 0.1
_INTEGER, _DECIMAL = re.compile(r'-?(?:0|[1-9][0-9]*)'), re.compile(r'-?(?:0|[1-9][0-9]*)\.[0-9]+')


def sample(encoder: Encoder, rows: int, seed: int = 0) -> Chunk:
    """Rows of known values, by their frequency in the training part, of unknown and missing ones, and of
    numbers around those of the training part and at the edges of their treatment.

    Args:
      encoder: of the training data.
      rows: their number.
      seed: of the draw.

    Returns:
      The fields' columns as the readers have them: String, lists of it, Float64; null where missing.
    """
    draw = np.random.default_rng(seed)
    columns = {}
    for field in encoder.schema.fields:
        if field.number:
            columns[field.name] = _numbers(encoder, field, rows, draw)
        elif field.bag:
            columns[field.name] = _lists(encoder, field, rows, draw)
        else:
            columns[field.name] = pl.Series(_texts(encoder, field, rows, draw), dtype=pl.String)
    return Chunk(pl.DataFrame(columns), 'sample rows', 1)


def _texts(encoder: Encoder, field: Field, count: int, draw: np.random.Generator) -> list[str | None]:
    """Texts of a field: known, unknown, missing, and numbers that are spelled otherwise."""
    kind = draw.random(count)
    # One of each among the first rows, which a self test shows.
    kind[1:3] = 0.0, _MISSING + _UNKNOWN / 2
    vocabulary = encoder.vocabularies.get(field.owner)
    if vocabulary is None or not vocabulary.height:
        known = [f'value {number}' for number in draw.integers(0, 1000, count)]
    else:
        weights = vocabulary['count'].to_numpy().astype(np.float64) + 1
        places = np.searchsorted(np.cumsum(weights), draw.random(count) * weights.sum(), side='right')
        known = vocabulary['value'].gather(np.minimum(places, vocabulary.height - 1)).to_list()
    found: list[str | None] = []
    for share, text in zip(kind, known, strict=True):
        if share < _MISSING:
            found.append(None if share < _MISSING / 2 else '')
        elif share < _MISSING + _UNKNOWN:
            found.append(UNKNOWN)
        elif share < _MISSING + _UNKNOWN + _RESPELLED:
            found.append(_respelled(text))
        else:
            found.append(text)
    return found


def _respelled(text: str) -> str:
    if _INTEGER.fullmatch(text):
        return f'{text}.0'
    return f'{text}00' if _DECIMAL.fullmatch(text) else text


def _lists(encoder: Encoder, field: Field, rows: int, draw: np.random.Generator) -> pl.Series:
    """Lists of up to two more values than are read, as lists or as text."""
    lengths = draw.integers(0, field.length + 3, rows)
    texts = iter(_texts(encoder, field, int(lengths.sum()), draw))
    lists = [[next(texts) for _ in range(length)] for length in lengths]
    if not field.separator:
        return pl.Series(lists, dtype=pl.List(pl.String))
    return pl.Series(
        [field.separator.join(text or '' for text in values) for values in lists], dtype=pl.String
    )


def _numbers(encoder: Encoder, field: Field, rows: int, draw: np.random.Generator) -> pl.Series:
    """Numbers around those of the training part, and at the edges of ranges and knots."""
    edges: list[float] = [0.0, 1.0, -1.0, 2.0, 2.5]
    center, spread, low, high = 0.0, 10.0, -FLOAT32 / 2, FLOAT32 / 2
    if field.name in encoder.moments:
        moments = encoder.moments[field.name]
        center, spread = moments.mean, moments.deviation or 1.0
        if moments.count:
            low, high = moments.low, moments.high
            edges = [moments.mean, low, high, *(x for x in edges if low <= x <= high)]
    for known in (encoder.boundaries.get(field.name), encoder.curves.get(field.name, np.empty((1, 0)))[0]):
        edges += [] if known is None else known[:: max(1, len(known) // 50)].tolist()
    if field.treatment == 'log2':
        kinds = encoder.typed_values(field.name).cast(pl.Float64).to_numpy()
        edges += np.ceil(np.exp(np.sqrt(np.clip(kinds[:100], 0, 1e3)))).tolist()
    drawn = center + spread * draw.standard_t(3, rows)
    drawn = np.where(draw.random(rows) < 0.3, np.round(drawn), drawn)
    drawn = np.where(draw.random(rows) < 0.4, draw.choice(edges, rows), drawn)
    if not field.curved:
        # As far as the model has seen: much further, its logits are so large that rounding shows.
        drawn = np.clip(drawn, low, high)
    missing = draw.random(rows) < _MISSING
    missing[1:2] = True
    return pl.Series(np.where(missing, np.nan, drawn)).fill_nan(None)
