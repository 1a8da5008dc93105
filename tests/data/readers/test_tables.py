"""Tables of text and Parquet files: what is read, and errors that name file and line."""

import contextlib
import csv
import gzip

import polars as pl
import pytest

from dlf_jax.data.readers import tables, text_blocks
from dlf_jax.data.readers.chunk import Columns
from dlf_jax.errors import UserError


def read(path, text=(), numbers=(), **options):
    table = tables.open_table((str(path),), **options)
    return list(table.chunks(Columns(text, numbers)))


def write(tmp_path, text, name='t.csv'):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_reads_text_and_numbers_with_missing_fields_as_null(tmp_path):
    path = write(tmp_path, 'a,b,c\nx,1,\n,2.5,z\n')
    (chunk,) = read(path, ['c', 'a'], ['b'])
    assert chunk.frame.columns == ['c', 'a', 'b']
    assert chunk.frame.rows() == [(None, 'x', 1.0), ('z', None, 2.5)]


@pytest.mark.parametrize(
    'text',
    ['a,b\r\n1,2\r\n3,4\r\n', 'a,b\n1,2\n3,4', 'a,b\n1,2\n3,4\n\n\n', '\ufeffa,b\n1,2\n3,4\n'],
    ids=['crlf', 'no newline at the end', 'blank lines at the end', 'byte order mark'],
)
def test_line_ends(tmp_path, text):
    chunks = read(write(tmp_path, text), ['a', 'b'])
    assert pl.concat([c.frame for c in chunks]).rows() == [('1', '2'), ('3', '4')]
    assert chunks[-1].where(chunks[-1].frame.height - 1).endswith('line 3')


def test_quotes_may_hold_separators_and_line_ends(tmp_path):
    path = write(tmp_path, 'a,b\n"x, y",1\n"two\nlines",2\nz,3\n')
    (chunk,) = read(path, ['a'], ['b'])
    assert chunk.frame['a'].to_list() == ['x, y', 'two\nlines', 'z']
    assert chunk.where(2).endswith('line 5')


def test_chunks_cut_at_line_ends_and_know_their_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(text_blocks, 'CHUNK_BYTES', 50)
    path = write(tmp_path, 'a,b\n' + ''.join(f'{i},"v\n{i}"\n' for i in range(100)))
    chunks = read(path, ['a', 'b'])
    assert len(chunks) > 10
    assert pl.concat([c.frame for c in chunks])['a'].to_list() == [str(i) for i in range(100)]
    assert chunks[3].where(0).endswith(f'line {2 + 2 * int(chunks[3].frame["a"][0])}')


def test_gz_tsv_and_parquet_give_the_same_rows(tmp_path):
    frame = pl.DataFrame({'a': ['x', None, 'z'], 'b': [1.5, 2.0, None]})
    frame.write_csv(tmp_path / 't.csv')
    frame.write_csv(tmp_path / 't.tsv', separator='\t')
    frame.write_parquet(tmp_path / 't.parquet')
    (tmp_path / 't.csv.gz').write_bytes(gzip.compress((tmp_path / 't.csv').read_bytes()))
    for name in ('t.csv', 't.tsv', 't.parquet', 't.csv.gz'):
        (chunk,) = read(tmp_path / name, ['a'], ['b'])
        assert chunk.frame.equals(frame), name
        size = tables.open_table((str(tmp_path / name),)).size
        assert size == (0 if name.endswith('.gz') else chunk.size + 4 * (chunk.raw is not None))


def test_parquet_integers_read_as_text_look_like_those_of_a_csv(tmp_path):
    pl.DataFrame({'a': [1, 2]}).write_parquet(tmp_path / 't.parquet')
    (chunk,) = read(tmp_path / 't.parquet', ['a'])
    assert chunk.frame['a'].to_list() == ['1', '2']


def test_several_files_follow_each_other(tmp_path):
    write(tmp_path, 'a\n1\n', 'x1.csv')
    write(tmp_path, 'a\n2\n', 'x2.csv')
    paths = tables.expand(f'{tmp_path}/x*.csv', '--input')
    frames = [c.frame for c in tables.open_table(paths).chunks(Columns(('a',)))]
    assert pl.concat(frames)['a'].to_list() == ['1', '2']


BAD = {
    'too few': ('a,b\n1,2\n3\n', 'line 3: expected 2 fields separated by a comma, found 1'),
    'too many': ('a,b\n1,2\n3,4,5\n', 'line 3: expected 2 fields separated by a comma, found 3'),
    'one of each': ('a,b\n1,2,9\n3\n', 'line 2: expected 2 fields'),
    'one of each, later': ('a,b\n1,2\n3\n4,5,6\n', 'line 3: expected 2 fields'),
    'blank row': ('a,b\n1,2\n\n3,4\n', 'line 3: expected 2 fields'),
    'not a number': ('a,b\n1,2\n3,many\n', "line 3: column 'b': expected a number, found 'many'"),
    'not UTF-8': (b'a,b\nx,1\n\xff,2\n', 'line 3: not UTF-8 text (byte 0xff)'),
    'no rows': ('a,b\n', 'no rows'),
    'unpaired quote': ('a,b\n"x,1\ny,2\n', 'line'),
    'stray quote': ('a,b\nx,1\ny"z,2\n', 'line 3: a double quote that does not begin or end a field'),
    'quote closed too early': ('a,b\n"x"y,1\n', 'line 2: a double quote that'),
    'carriage return': ('a,b\nx,1\ny\rz,2\n', 'line 3: a carriage return that ends no line'),
    'quoted and ragged': ('a,b\n"x,y",1\nz\n', 'line 3: expected 2 fields'),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_rows_are_named_by_line(tmp_path, case):
    text, message = BAD[case]
    with pytest.raises(UserError) as error:
        read(write(tmp_path, text), ['a'], ['b'])
    assert message in str(error.value)
    assert '\n' not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_truncated_gz(tmp_path):
    data = gzip.compress(b'a,b\n' + b'1,2\n' * 10_000)
    path = write(tmp_path, data[:-20], 't.csv.gz')
    with pytest.raises(UserError, match='ends too early'):
        read(path, ['a'], ['b'])


def test_not_gz_and_not_parquet(tmp_path):
    # What is in a file counts, not its name.
    (chunk,) = read(write(tmp_path, 'a,b\n1,2\n', 't.csv.gz'), ['a'])
    assert chunk.frame.rows() == [('1',)]
    (chunk,) = read(write(tmp_path, 'a,b\n1,2\n', 't.parquet'), ['a'])
    assert chunk.frame.rows() == [('1',)]
    pl.DataFrame({'a': ['x', 'y']}).write_parquet(tmp_path / 'whole')
    with pytest.raises(UserError, match='not a readable Parquet file'):
        read(write(tmp_path, (tmp_path / 'whole').read_bytes()[:-20], 'cut.parquet'), ['a'])


def test_endless_line(tmp_path, monkeypatch):
    monkeypatch.setattr(text_blocks, 'CHUNK_BYTES', 1000)
    monkeypatch.setattr(text_blocks, 'MAX_LINE_BYTES', 10_000)
    with pytest.raises(UserError, match='line 3: longer than'):
        read(write(tmp_path, 'a\n1\n' + 'x' * 50_000 + '\n'), ['a'])


def test_header_mistakes(tmp_path):
    with pytest.raises(UserError, match='the file is empty'):
        read(write(tmp_path, ''), ['a'])
    with pytest.raises(UserError, match="'a' is there twice"):
        read(write(tmp_path, 'a,b,a\n1,2,3\n'), ['a'])
    with pytest.raises(UserError, match='line 1: the line is blank; expected column names'):
        read(write(tmp_path, '\na,b\n1,2\n'), ['a'])


@pytest.mark.parametrize('separator', [';', '\t', '|', ','])
@pytest.mark.parametrize('name', ['t.csv', 't.tsv', 't.data'])
def test_the_separator_is_found(tmp_path, separator, name):
    text = 'a,b\n1,2\n'.replace(',', separator)
    (chunk,) = read(write(tmp_path, text, name), ['b', 'a'])
    assert chunk.frame.rows() == [('2', '1')]


def test_columns_of_several_files_are_matched_by_name(tmp_path):
    one = write(tmp_path, 'a,b,c\n1,2,3\n', 'one.csv')
    other = write(tmp_path, 'b,d;e,a\n5,6,4\n', 'other.csv')
    for names in ((one, other), (other, one)):
        table = tables.open_table(tuple(map(str, names)))
        assert set(table.columns) == {'a', 'b'}
        found = pl.concat([c.frame for c in table.chunks(Columns(('a', 'b')))])
        assert sorted(found.rows()) == [('1', '2'), ('4', '5')]
    with pytest.raises(UserError, match=r"other\.csv: no column 'c' \(the label\), which .*one\.csv has"):
        tables.check_columns(tables.open_table((str(one), str(other))), ['c'], 'the label')
    frames = pl.DataFrame({'a': [1], 'b': ['x']}), pl.DataFrame({'b': ['y'], 'n': [0], 'a': [2.0]})
    for i, frame in enumerate(frames):
        frame.write_parquet(tmp_path / f'{i}.parquet')
    table = tables.open_table((str(tmp_path / '0.parquet'), str(tmp_path / '1.parquet')))
    assert [c.frame.rows() for c in table.chunks(Columns(('b',), ('a',)))] == [[('x', 1.0)], [('y', 2.0)]]


def test_paths(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        tables.expand(f'{tmp_path}/none.csv', '--input')
    with pytest.raises(UserError, match='no file matches'):
        tables.expand(f'{tmp_path}/*.csv', '--input')
    with pytest.raises(UserError, match='is a folder'):
        tables.expand(str(tmp_path), '--input')


def test_the_limit_of_the_csv_module_is_left_alone(tmp_path):
    """It belongs to the whole process, and is raised only while the line of an error is looked for."""
    before = csv.field_size_limit()
    long = 'x' * (before + 1)
    for text in (f'a,b\n"{long}",1\n2\n', f'a,b\n"{long}",1\n2,3\n', f'"{long}",b\n1,2\n'):
        with contextlib.suppress(UserError):
            read(write(tmp_path, text), ['b'])
        assert csv.field_size_limit() == before
    with pytest.raises(UserError, match='line 3: expected 2 fields'):
        read(write(tmp_path, f'a,b\n"{long}",1\n2\n'), ['b'])
