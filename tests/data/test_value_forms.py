"""The same table, written in any format and dtype, prepares to the same records, or is refused in one line.

Parts of one dataset may each be written in another form. More examples with DLF_JAX_FUZZ=1000.
"""

import datetime
import decimal
import os
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlf_jax.config import get_config
from dlf_jax.data import builders
from dlf_jax.data.values import canonical, canonical_rows
from dlf_jax.errors import UserError
from tests.data.test_builders import rows_of

EXAMPLES = int(os.environ.get('DLF_JAX_FUZZ', '12'))
ANY_TEXT = st.one_of(
    st.text(max_size=12),
    st.from_regex(r'\A-?[0-9]{1,6}(\.[0-9]{0,4})?([eE][+-]?[0-9]{1,3})?\Z'),
    st.sampled_from(
        ['', 'NaN', 'nan', 'True', 'FALSE', '2026-02-30 00:00:00', '2026-01-01T00:00:00.0Z', '-0.00']
    ),
)


@given(
    st.lists(st.one_of(st.none(), ANY_TEXT), max_size=20), st.booleans(), st.sampled_from([(), ('NA', '-1')])
)
def test_one_text_is_settled_at_once(texts, verbatim, missing):
    values = pl.Series('v', texts, dtype=pl.String)
    found = canonical(values, missing, verbatim)
    assert canonical(found, missing, verbatim).equals(found, null_equal=True)
    assert canonical_rows(values, missing, verbatim).equals(found, null_equal=True)
    # Row by row, too: a value's text does not depend on its neighbours.
    alone = [canonical(values[i : i + 1], missing, verbatim)[0] for i in range(len(values))]
    assert found.to_list() == alone


@given(st.one_of(st.integers(-(2**63), 2**64 - 1), st.decimals(-(10**9), 10**9, places=3)))
def test_numbers_are_their_shortest_decimal_text(number):
    (found,) = canonical(pl.Series([f'{number}'])).to_list()
    assert decimal.Decimal(found) == decimal.Decimal(number)
    assert 'E' not in found.upper()
    assert '.' not in found or not found.endswith(('0', '.'))


def forms(kind):
    """Ways to write a column of some kind, each a function of the column's Python values."""
    texts = {
        'text': lambda values: pl.Series([None if v is None else str(v) for v in values], dtype=pl.String),
        'category': lambda values: pl.Series(
            [None if v is None else str(v) for v in values], dtype=pl.String
        ).cast(pl.Categorical),
    }
    return {
        'integers': {
            'int64': lambda values: pl.Series(values, dtype=pl.Int64),
            'int16': lambda values: pl.Series(values, dtype=pl.Int16),
            'float64': lambda values: pl.Series(values, dtype=pl.Float64),
            'float32, NaN': lambda values: pl.Series(values, dtype=pl.Float32).fill_null(float('nan')),
            'decimal': lambda values: pl.Series(values, dtype=pl.Int64).cast(pl.Decimal(12, 2)),
            'float text': lambda values: pl.Series(values, dtype=pl.Float64).cast(pl.String),
            **texts,
        },
        'fractions': {
            'float64': lambda values: pl.Series(values, dtype=pl.Float64),
            'decimal': lambda values: pl.Series(
                [None if v is None else decimal.Decimal(str(v)) for v in values]
            ).cast(pl.Decimal(12, 3)),
            **texts,
        },
        'booleans': {'boolean': lambda values: pl.Series(values, dtype=pl.Boolean), **texts},
        'days': {
            'date': lambda values: pl.Series(values, dtype=pl.Date),
            'datetime': lambda values: pl.Series(values, dtype=pl.Date).cast(pl.Datetime('us')),
            'nanoseconds': lambda values: pl.Series(values, dtype=pl.Date).cast(pl.Datetime('ns', 'UTC')),
            **texts,
        },
    }[kind]


VALUES = {
    'integers': st.integers(-2000, 2000),
    'fractions': st.integers(-(10**6), 10**6).map(lambda n: n / 8),
    'booleans': st.booleans(),
    'days': st.dates(datetime.date(1990, 1, 1), datetime.date(2040, 1, 1)),
}


def prepared(folder, kind, written, formats, values):
    """All prepared rows of a table whose parts are each written in a form of its own, by part."""
    config = get_config('mlp').dataset
    config.name, config.label, config.categorical, config.block_rows = 'table', 'y', ('v',), 16
    for part, form, file_format in zip(('train', 'valid', 'test'), written, formats, strict=True):
        column = forms(kind)[form](values).alias('v')
        frame = pl.DataFrame([pl.Series('y', [i % 2 for i in range(len(values))]), column])
        path = Path(folder) / f'{part}.{file_format}'
        getattr(frame, f'write_{file_format}')(path)
        config[part] = str(path)
    builder = builders.build(config, f'{folder}/data')
    builder.prepare()
    return {part: rows_of(builder, part)['categorical'].tolist() for part in builder.parts()}


@pytest.mark.parametrize('kind', VALUES)
def test_every_form_is_the_same_table(kind):
    names = list(forms(kind))
    drawn = st.tuples(
        st.lists(st.one_of(st.none(), VALUES[kind]), min_size=2, max_size=12),
        st.tuples(*[st.sampled_from(names)] * 3),
        st.tuples(*[st.sampled_from(['csv', 'parquet'])] * 3),
    )

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(drawn)
    def check(found):
        values, written, formats = found
        with tempfile.TemporaryDirectory() as folder:
            rows = prepared(folder, kind, written, formats, values)
        # The three parts hold the same rows, so they have the same ids, and nothing is unknown.
        assert rows['train'] == rows['valid'] == rows['test']
        missing = [value is None for value in values]
        assert [ids == [1] for ids in rows['train']] == missing
        known = {repr(v) for v in values if v is not None}
        assert len({tuple(ids) for ids in rows['train'] if ids != [1]}) == len(known)
        assert all(ids[0] >= 1 for ids in rows['train'])

    check()


def test_kinds_without_a_common_value_are_refused():
    values = [True, False, True, None]
    with tempfile.TemporaryDirectory() as folder:
        frame = pl.DataFrame({'y': [0, 1, 0, 1], 'v': pl.Series(values)})
        frame.write_parquet(f'{folder}/train.parquet')
        frame.with_columns(v=pl.Series([1, 0, 1, None])).write_parquet(f'{folder}/valid.parquet')
        config = get_config('mlp').dataset
        config.name, config.label, config.categorical = 'table', 'y', ('v',)
        config.train, config.valid = f'{folder}/train.parquet', f'{folder}/valid.parquet'
        with pytest.raises(UserError, match=r"valid\.parquet: column 'v' holds numbers, but booleans in"):
            builders.build(config, f'{folder}/data')


def test_numbers_are_the_same_in_every_form():
    numbers = [1.5, None, -2.0, 1e6, 0.125, 3.0] * 4
    found = []
    series = {
        'float64': pl.Series(numbers, dtype=pl.Float64),
        'float32': pl.Series(numbers, dtype=pl.Float32),
        'decimal': pl.Series(numbers, dtype=pl.Float64).cast(pl.Decimal(12, 3)),
        'text': pl.Series(numbers, dtype=pl.Float64).cast(pl.String),
        'NaN': pl.Series(numbers, dtype=pl.Float64).fill_null(float('nan')),
    }
    for name, column in series.items():
        for file_format in ('csv', 'parquet'):
            with tempfile.TemporaryDirectory() as folder:
                frame = pl.DataFrame([pl.Series('y', [0, 1] * 12), column.alias('v')])
                getattr(frame, f'write_{file_format}')(f'{folder}/t.{file_format}')
                config = get_config('mlp').dataset
                config.name, config.label, config.numeric = 'table', 'y', ('v',)
                config.train = config.valid = f'{folder}/t.{file_format}'
                builder = builders.build(config, f'{folder}/data')
                builder.prepare()
                found.append(rows_of(builder, 'train')['numeric'])
        np.testing.assert_array_equal(found[-1], found[0], err_msg=name)
        np.testing.assert_array_equal(found[-2], found[0], err_msg=name)
