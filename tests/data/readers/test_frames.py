"""Frames in memory: the same rows as those of the Parquet file that they could be written to."""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlf_jax.data.readers import arrow_columns
from dlf_jax.data.readers.chunk import Columns
from dlf_jax.data.readers.frames import FrameTable, is_frame, to_arrow
from dlf_jax.data.readers.parquet_table import ParquetTable
from dlf_jax.errors import UserError

VALUES = {
    'text': ['a', None, 'b'],
    'whole': [1, 2, None],
    'float': [1.5, None, float('inf')],
    'flag': [True, False, None],
    'day': [datetime.date(2026, 11, 28), None, datetime.date(1969, 12, 31)],
    'list': [['x', 'y'], [], None],
}
WANTED = Columns(text=('text', 'whole', 'flag', 'day', 'list'), numbers=('float',), keep=('whole', 'list'))
FRAMES = {
    'polars': lambda: pl.DataFrame(VALUES),
    'polars lazy': lambda: pl.DataFrame(VALUES).lazy(),
    'polars categorical': lambda: pl.DataFrame(VALUES).with_columns(pl.col('text').cast(pl.Categorical)),
    'pandas': lambda: pd.DataFrame({**VALUES, 'whole': pd.array(VALUES['whole'], 'Int64')}, index=[7, 8, 9]),
    'pandas category': lambda: pd.DataFrame(
        {**VALUES, 'whole': pd.array(VALUES['whole'], 'Int64'), 'text': pd.Categorical(VALUES['text'])}
    ),
    'pyarrow': lambda: pa.table(VALUES),
    'record batch': lambda: pa.RecordBatch.from_pydict(VALUES),
    'dict': lambda: VALUES,
}


def rows(table, columns=WANTED):
    chunks = list(table.chunks(columns))
    return pl.concat([chunk.frame for chunk in chunks]), pl.concat([chunk.kept for chunk in chunks])


@pytest.mark.parametrize('kind', FRAMES)
def test_a_frame_is_read_as_its_parquet_file(kind, tmp_path):
    path = str(tmp_path / 'file.parquet')
    pq.write_table(to_arrow(FRAMES[kind]()), path)
    file, frame = ParquetTable((path,)), FrameTable(FRAMES[kind]())
    assert frame.columns == file.columns == tuple(VALUES)
    assert {n: f for n, (f, _) in frame.families.items()} == {n: f for n, (f, _) in file.families.items()}
    assert frame.size == file.size == 3
    for found, expected in zip(rows(frame), rows(file), strict=True):
        assert found.equals(expected)


@pytest.mark.parametrize('kind', FRAMES)
def test_all_frames_give_the_same_rows(kind):
    found, _ = rows(FrameTable(FRAMES[kind]()))
    expected, _ = rows(FrameTable(pl.DataFrame(VALUES)))
    assert found.equals(expected)


def test_rows_are_counted_over_chunks(monkeypatch):
    monkeypatch.setattr('dlf_jax.data.readers.frames.CHUNK_ROWS', 2)
    table = FrameTable({'number': ['1', '2', '3', 'four']})
    with pytest.raises(UserError, match=r"the frame, row 4: column 'number': expected .* found 'four'"):
        list(table.chunks(Columns(numbers=('number',))))
    assert arrow_columns.CHUNK_ROWS > 2


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        ([[1, 2]], 'expected a frame of polars, pandas or pyarrow, or a dict of columns; found list'),
        ({'a': [1, 'x']}, 'a column holds values of several types'),
        ({'a': [1], 'b': [1, 2]}, 'the frame: '),
        (pd.DataFrame({'a': [1, 'x']}), 'a column holds values of several types'),
        (pd.DataFrame(np.zeros((2, 2)), columns=['a', 'a']), "column 'a' is there twice; rename one"),
        ({1: [1], '1': [2]}, "column '1' is there twice; rename one"),
        (pl.Series([1, 2]), 'dict of columns; found Series'),
        (pa.table([[1], [2]], names=['a', 'a']), "column 'a' is there twice"),
    ],
)
def test_what_is_no_frame_is_told(data, message):
    with pytest.raises(UserError, match=message):
        FrameTable(data)


def test_a_column_without_a_name():
    """Which pandas writes of its index."""
    table = FrameTable(pl.DataFrame({'': [0, 1], 'a': ['x', 'y']}))
    assert rows(table, Columns(text=('', 'a'), keep=('',)))[0].columns == ['', 'a']


def test_a_frame_without_rows():
    with pytest.raises(UserError, match='the frame: no rows'):
        list(FrameTable(pl.DataFrame({'a': []})).chunks(Columns(text=('a',))))


def test_names_of_files_are_no_frames():
    assert not is_frame('day.csv')
    assert not is_frame(['day.csv'])
    assert all(is_frame(make()) for make in FRAMES.values())
