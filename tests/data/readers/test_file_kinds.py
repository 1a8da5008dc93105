"""Files are known by their first bytes; what is no table is named, with a way on that works."""

import bz2
import gzip
import json
import lzma
import pickle
import shutil
import sqlite3
import subprocess
import tarfile
import zipfile

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from dlf_jax.data.readers import tables
from dlf_jax.data.readers.chunk import Columns
from dlf_jax.errors import UserError
from tests.conftest import fail, run, table_flags, write_table

TEXT = b'a,b\nx,1\ny,2\n'
FRAME = pl.DataFrame({'a': ['x', 'y'], 'b': [1, 2]})


def rows(path):
    table = tables.open_table((str(path),))
    return pl.concat([chunk.frame for chunk in table.chunks(Columns(('a',), ('b',)))]).rows()


def refusal(path, text=None):
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(UserError) as error:
        rows(path)
    message = str(error.value)
    assert '\n' not in message
    assert message.startswith(f'{path}')
    return message


def follow(message, tmp_path):
    """Runs the command that a message ends with, and returns the rows of the new file."""
    command = message.split('it: ', 1)[1]
    program = command.split()[0]
    if not shutil.which(program):
        pytest.skip(f'{program} is not installed')
    before = set(tmp_path.iterdir())
    subprocess.run(['bash', '-c', command], cwd=tmp_path, check=True, timeout=60)
    (new,) = set(tmp_path.iterdir()) - before
    return rows(new)


def packed_by(program, text):
    if not shutil.which(program):
        pytest.skip(f'{program} is not installed')
    return subprocess.run([program, '-c'], input=text, capture_output=True, check=True, timeout=60).stdout


def zipped(path):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('inside.csv', TEXT)


def tarred(path, mode='w'):
    (path.parent / 'inside.csv').write_bytes(TEXT)
    with tarfile.open(path, mode) as archive:
        archive.add(path.parent / 'inside.csv', 'inside.csv')
    (path.parent / 'inside.csv').unlink()


def orc(path):
    from pyarrow import orc

    orc.write_table(FRAME.to_arrow(), str(path))


def stream(path):
    with pa.OSFile(str(path), 'wb') as file, pa.ipc.new_stream(file, FRAME.to_arrow().schema) as writer:
        writer.write_table(FRAME.to_arrow())


MADE = {
    'a bzip2 file': lambda path: path.write_bytes(bz2.compress(TEXT)),
    'an xz file': lambda path: path.write_bytes(lzma.compress(TEXT)),
    'a zstd file': lambda path: path.write_bytes(packed_by('zstd', TEXT)),
    'an lz4 file': lambda path: path.write_bytes(packed_by('lz4', TEXT)),
    'a ZIP archive': zipped,
    'a tar archive': tarred,
    'a tar archive inside gzip': lambda path: tarred(path, 'w:gz'),
    'a gzip file inside gzip': lambda path: path.write_bytes(gzip.compress(gzip.compress(TEXT))),
    'an xz file inside gzip': lambda path: path.write_bytes(gzip.compress(lzma.compress(TEXT))),
    'a Parquet file inside gzip': lambda path: path.write_bytes(gzip.compress(parquet_bytes(path))),
    'an Arrow (Feather) file': lambda path: FRAME.write_ipc(path),
    'a stream of Arrow batches': stream,
    'an ORC file': orc,
    'an Avro file': lambda path: FRAME.write_avro(path),
    'JSON lines': lambda path: path.write_text(FRAME.write_ndjson()),
    'JSON': lambda path: path.write_text(json.dumps(FRAME.to_dicts(), indent=2)),
    'UTF-16 text': lambda path: path.write_bytes(TEXT.decode().encode('utf-16')),
    'UTF-16 text inside gzip': lambda path: path.write_bytes(gzip.compress(TEXT.decode().encode('utf-16'))),
    'UTF-32 text': lambda path: path.write_bytes(TEXT.decode().encode('utf-32')),
}


def parquet_bytes(path):
    FRAME.write_parquet(path)
    return path.read_bytes()


@pytest.mark.parametrize('name', ["it's data.csv", 'table.csv.gz'])
@pytest.mark.parametrize('what', MADE)
def test_the_command_of_the_message_makes_a_table(what, name, tmp_path):
    path = tmp_path / name
    MADE[what](path)
    message = refusal(path)
    assert f'{path}: {what}, not a text or Parquet table; ' in message
    command = message.replace('compressed twice; unpack it', 'it')
    if what == 'an xz file inside gzip':
        subprocess.run(['bash', '-c', command.split('it: ')[-1]], cwd=tmp_path, check=True, timeout=60)
        (path,) = set(tmp_path.iterdir()) - {path}
        command = refusal(path)
    assert follow(command, tmp_path) == [('x', 1.0), ('y', 2.0)]


def test_the_encodings_without_a_mark(tmp_path):
    for encoding in ('utf-16-le', 'utf-16-be'):
        message = refusal(tmp_path / 't.csv', TEXT.decode().encode(encoding))
        assert 'UTF-16 text' in message
        assert follow(message, tmp_path) == [('x', 1.0), ('y', 2.0)]
        (tmp_path / 't.csv.txt').unlink()


def workbook(path):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('[Content_Types].xml', '<Types/>')
        archive.writestr('xl/workbook.xml', '<workbook/>')


def database(path):
    with sqlite3.connect(path) as connection:
        connection.execute('create table t (a, b)')
    connection.close()


OTHERS = {
    'an Excel workbook': (workbook, 'save the sheet as CSV'),
    'NumPy arrays (.npz)': (lambda path: np.savez(path.open('wb'), a=np.ones(3)), 'columns'),
    'a NumPy array': (lambda path: np.save(path.open('wb'), np.ones(3)), 'columns'),
    'an SQLite database': (database, 'sqlite3 -header -csv'),
    'an HDF5 file': (lambda path: path.write_bytes(b'\x89HDF\r\n\x1a\n' + bytes(200)), 'read_hdf'),
    'a pickle': (lambda path: path.write_bytes(pickle.dumps({'a': [1, 2]})), 'read_pickle'),
    'a web page': (
        lambda path: path.write_text('\n<!DOCTYPE html>\n<html>404</html>\n'),
        'fetch the file again',
    ),
    'Git LFS': (
        lambda path: path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n'),
        'git lfs pull',
    ),
    'binary data': (lambda path: path.write_bytes(bytes(range(256)) * 20), 'as CSV or Parquet'),
    'the end of a Parquet file': (lambda path: path.write_bytes(parquet_bytes(path)[4:]), 'again'),
}


@pytest.mark.parametrize('what', OTHERS)
def test_other_files_are_named(what, tmp_path):
    make, way = OTHERS[what]
    path = tmp_path / 't.csv'
    make(path)
    message = refusal(path)
    assert what in message
    assert way in message


def test_names_mean_nothing(tmp_path):
    FRAME.write_parquet(tmp_path / 'part-00000')
    FRAME.write_parquet(tmp_path / 'p.csv')
    (tmp_path / 't.parquet').write_bytes(TEXT)
    (tmp_path / 't.gz').write_bytes(TEXT)
    (tmp_path / 'g.csv').write_bytes(gzip.compress(TEXT))
    for name in ('part-00000', 'p.csv', 't.parquet', 't.gz', 'g.csv'):
        assert rows(tmp_path / name) == [('x', 1.0), ('y', 2.0)], name


@pytest.mark.parametrize('header', ['PAR1,b', 'ORC,b', 'BZh,b', 'Obj\x01,b', 'ARROW1,b'])
def test_headers_that_look_like_other_files(header, tmp_path):
    (tmp_path / 't.csv').write_text(f'{header}\nx,1\n')
    if '\x01' in header:
        assert 'Avro' in refusal(tmp_path / 't.csv')
    else:
        name = header.split(',')[0]
        (chunk,) = tables.open_table((str(tmp_path / 't.csv'),)).chunks(Columns((name,)))
        assert chunk.frame[name].to_list() == ['x']


def test_mixed_files(tmp_path):
    FRAME.write_parquet(tmp_path / 'a.parquet')
    (tmp_path / 'b.csv').write_bytes(TEXT)
    paths = (str(tmp_path / 'a.parquet'), str(tmp_path / 'b.csv'))
    with pytest.raises(UserError, match=rf'{paths[1]}: text, but {paths[0]} is Parquet'):
        tables.open_table(paths)


def test_damaged_gz_files_tell_the_cause(tmp_path):
    path = tmp_path / 't.csv.gz'
    whole = gzip.compress(TEXT)
    message = refusal(path, whole + b'garbage')
    assert 'bytes after the end of the gzip data' in message
    # gzip warns with exit code 2, and writes all of the text.
    subprocess.run(['bash', '-c', message.split('them: ')[1]], check=False, capture_output=True, timeout=60)
    assert rows(f'{path}.txt') == [('x', 1.0), ('y', 2.0)]
    assert 'ends too early' in refusal(path, whole[:-9])
    assert 'damaged .gz file (CRC check failed' in refusal(path, whole[:-8] + b'\0' * 4 + whole[-4:])
    assert 'nothing in the .gz file' in refusal(path, gzip.compress(b''))
    # Several members are one file, and zeros after them padding.
    path.write_bytes(whole + gzip.compress(b'z,3\n') + bytes(512))
    assert len(rows(path)) == 3


def test_first_lines_that_are_none(tmp_path):
    path = tmp_path / 't.csv'
    assert 'the file is empty' in refusal(path, b'')
    assert 'line 1: the line is blank' in refusal(path, b'\n' + TEXT)
    path.write_bytes(b'# made on Monday\n' + TEXT)
    table = tables.open_table((str(path),))
    with pytest.raises(UserError, match="begins with '#'"):
        tables.check_columns(table, ['a'], 'a feature')
    message = refusal(path, 'a,b\n\xe9,1\n'.encode('latin-1'))
    assert 'line 2: not UTF-8 text (byte 0xe9)' in message
    subprocess.run(['bash', '-c', message.split('example: ')[1]], check=True, timeout=60)
    assert rows(f'{path}.utf8') == [('\xe9', 1.0)]


def test_characters_that_separate_fields_elsewhere_are_text(tmp_path):
    (tmp_path / 't.txt').write_bytes(TEXT.replace(b',', b'\x01'))
    (chunk,) = tables.open_table((str(tmp_path / 't.txt'),), separator='\x01').chunks(Columns(('a',)))
    assert chunk.frame['a'].to_list() == ['x', 'y']


def test_training_by_the_command(tmp_path):
    table = write_table(tmp_path / 'train.csv', 600)
    pl.read_csv(table).write_parquet(tmp_path / 'train')
    folders = (f'--data_dir={tmp_path / "data"}', '--mode=prepare')
    assert sum(run(*table_flags(tmp_path / 'train'), *folders)['rows'].values()) == 600
    (tmp_path / 'train.csv.xz').write_bytes(lzma.compress(table.read_bytes()))
    message = fail(*table_flags(tmp_path / 'train.csv.xz'), *folders)
    assert f'{tmp_path}/train.csv.xz: an xz file' in message
    assert f'xz -dc {tmp_path}/train.csv.xz > ' in message
    message = fail(*table_flags(f'{tmp_path / "train"},{table}'), *folders)
    assert f'{table}: text, but {tmp_path / "train"} is Parquet' in message
