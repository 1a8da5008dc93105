"""Encoders of a table with a field of every kind, and rows for them."""

import functools

import numpy as np
import polars as pl

from dlf_jax.data.preprocess import fitting, statistics
from dlf_jax.data.readers.chunk import Chunk
from dlf_jax.data.schema import Field, Schema, number_field, text_field

TREATMENTS = ('none', 'standard', 'minmax', 'quantile', 'piecewise', 'periodic', 'log2', 'bucket')


def schema(**options) -> Schema:
    """A schema with every kind of field and treatment.

    Args:
      options: attributes of the number fields, such as `out_of_range`.
    """
    numbers = [
        number_field(name, name, {'buckets': 4, 'frequencies': 3}, **options) for name in TREATMENTS
    ]  # fmt: skip
    return Schema(
        (
            text_field('user', missing=('NA', '-1.0')),
            text_field('ad', min_count=2, embedding_size=2),
            text_field('plain', verbatim=True),
            text_field('day'),
            *numbers,
            number_field('own', 'standard', {'fill': 'own'}, **options),
            Field('tags', 'multi-valued', separator='|', pooling='mean', length=3),
            Field('items', 'multi-valued', pooling='max', length=2, embedding_size=2),
            Field('last', 'categorical', shares='tags'),
        ),
        'click',
    )


def with_history() -> Schema:
    """A schema with a history of `user` beside every other kind of field."""
    missing = next(field.missing for field in schema().fields if field.name == 'user')
    seen = Field(
        'seen', 'multi-valued', separator='|', pooling='mean', length=3, ordered=True, shares='user',
        missing=missing,
    )  # fmt: skip
    return Schema((*schema().fields, seen), 'click')


def table(rows: int, seed: int = 0) -> Chunk:
    """Rows for `schema` and `with_history`, with missing and repeated values, and spellings."""
    draw = np.random.default_rng(seed)

    def texts(*values: str | None) -> list[str | None]:
        return [values[i] for i in draw.integers(0, len(values), rows)]

    def lists(values: tuple[str, ...], count: int) -> list[list[str]]:
        return [
            [values[i] for i in draw.integers(0, len(values), draw.integers(0, count))] for _ in range(rows)
        ]

    tags = ('red', 'green', 'blue', '7', '', 'naïve')
    columns = {
        'user': texts('ann', 'bob', '7', '7.5', '0', '1200', '-3.25', None, 'NA', 'true', '0.00002', '02516'),
        'ad': texts('x', 'y', 'z', *map(str, range(40))),
        'plain': texts('7.0', '7', 'nan', None, 'é'),
        'day': texts('2026-01-31', '2026-01-31 23:59:59', '2026-02-01', None),
        'tags': [*map('|'.join, lists(tags, 6))],
        'items': lists(('i1', 'i2', '3', 'i4'), 5),
        'last': texts('red', '7', 'green', None),
    }
    for place, name in enumerate((*TREATMENTS, 'own')):
        values = draw.lognormal(0, 1, rows).round(2 if place % 2 else 0)
        columns[name] = pl.Series(np.where(draw.random(rows) < 0.2, np.nan, values)).fill_nan(None)
    columns['seen'] = [*map('|'.join, lists(('ann', 'bob', '7.50', '', 'true', 'new'), 6))]
    return Chunk(pl.DataFrame(columns, schema_overrides={'items': pl.List(pl.String)}), 'made.csv', 2)


@functools.cache
def encoder(**options):
    """The encoder of `schema`, fitted to 300 rows."""
    of, chunk = schema(**options), table(300)
    found = statistics.measure_chunk(of, 0, chunk, np.arange(300), 0)
    return fitting.fit(of, found)


@functools.cache
def encoder_with_history():
    """The encoder of `with_history`, fitted to 300 rows."""
    found = statistics.measure_chunk(of := with_history(), 0, table(300), np.arange(300), 0)
    return fitting.fit(of, found)


@functools.cache
def small_encoder():
    """An encoder of a few fields, for tests that are about something else."""
    some = [field for field in schema().fields if field.name in ('user', 'standard', 'tags')]
    found = statistics.measure_chunk(of := Schema(tuple(some), 'click'), 0, table(300), np.arange(300), 0)
    return fitting.fit(of, found)


def odd_rows() -> Chunk:
    """Rows of what `table` has none of: unknown values, odd spellings, numbers at the edges."""
    users = [
        '7.0', '7.00', '7.', '7.50', '7.500', '-3.250', '-0', '-0.0', '0.000', '100.0', '1200.00', 'True',
        'TRUE',
        'NaN', 'nan', 'NA', '-1.0', '-1', '2e-05', '2E-05', '07.0', 'new', 'u.0', '7.0.0', '', '7.05', '.50',
        '02516', '2516', '1200.', 'a\n7.0', '0.0',
    ]  # fmt: skip
    days = [
        '2026-01-31T00:00:00', '2026-01-31T23:59:59Z', '2026-02-01 00:00:00Z', '2026-01-31 23:59:59', 'NaN',
        '2026-01-31T23:59:59.000Z', '2026-02-01T00:00:00+00:00', '2026-02-31', None, '2026-02-01',
    ]  # fmt: skip
    tags = ['', '|', 'red|red|red|red|red', '|blue||red', '7.0|7', 'nan|green', 'new|new', 'naïve', None]
    items = [None, [], ['i1', None, '', 'i2', 'i4'], ['3.0', 'new'], ['3']]
    edges = [0.0, -1.0, 1e-300, 2.0, 2.0000000001, -5.5, 3.0, 1e6, 1e9, 1e30, np.nan, 0.5, 7.39, 1.0, -0.0]
    count = len(users)

    def cycle(values):
        return [values[i % len(values)] for i in range(count)]

    columns = {
        'user': users, 'ad': cycle(['x', '3', 'rare', '3.0', None, '12.00']),
        'plain': cycle(['7.0', '7', '7.00', 'nan', '', None, 'NaN']), 'day': cycle(days), 'tags': cycle(tags),
        'items': cycle(items), 'last': cycle(['red', '7.0', None, 'new']),
    }  # fmt: skip
    for shift, name in enumerate((*TREATMENTS, 'own')):
        columns[name] = pl.Series(cycle(edges[shift:] + edges[:shift])).fill_nan(None)
    return Chunk(pl.DataFrame(columns, schema_overrides={'items': pl.List(pl.String)}), 'odd.csv', 2)
