"""What a flag names: files, lists, globs, folders, and the columns that folders give."""

import os

import polars as pl
import pytest

from dlf_jax.config import get_config
from dlf_jax.data import builders
from dlf_jax.data.readers import tables
from dlf_jax.data.readers.chunk import Columns
from dlf_jax.data.readers.formats import HourTable
from dlf_jax.errors import UserError
from tests.conftest import SMALL_FLAGS, fail, run, write_table


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('a,b\nx,1\n')


def names(spec, folder):
    return [os.path.relpath(path, folder) for path in tables.expand(spec, '--input')]


def test_commas_in_names_and_between_them(tmp_path):
    touch(tmp_path, 'a,b.csv', 'a', 'b.csv', 'c.csv')
    assert names(f'{tmp_path}/a,b.csv', tmp_path) == ['a,b.csv']
    assert names(f'{tmp_path}/a, {tmp_path}/b.csv', tmp_path) == ['a', 'b.csv']
    assert names(rf'{tmp_path}/a\,b.csv,{tmp_path}/c.csv', tmp_path) == ['a,b.csv', 'c.csv']
    assert names([f'{tmp_path}/a,b.csv', f'{tmp_path}/c.csv'], tmp_path) == ['a,b.csv', 'c.csv']


def test_home(tmp_path, monkeypatch):
    touch(tmp_path, 'a.csv', 'b.csv', 'day=1/c.csv')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert names('~/a.csv', tmp_path) == ['a.csv']
    assert names('~/a.csv,~/b.csv', tmp_path) == ['a.csv', 'b.csv']
    assert names('~/*.csv', tmp_path) == ['a.csv', 'b.csv']
    assert names('~', tmp_path) == ['a.csv', 'b.csv', 'day=1/c.csv']


def test_folders_stand_for_their_data_files(tmp_path):
    touch(
        tmp_path, 'b.csv', 'a.tsv', 'c.TXT', 'd.csv.gz', '_SUCCESS', '_meta.csv', '.hidden.csv', 'notes.md',
        'day=2/p.parquet', 'day=1/hour=0/p.pq', 'day=1/hour=0/_temporary.pq', 'other/e.csv', '_day=3/f.csv',
    )  # fmt: skip
    (tmp_path / 'day=1' / 'loop=1').symlink_to(tmp_path)
    expected = ['a.tsv', 'b.csv', 'c.TXT', 'd.csv.gz', 'day=1/hour=0/p.pq', 'day=2/p.parquet']
    assert names(f'{tmp_path}', tmp_path) == expected
    assert names(f'{tmp_path}/', tmp_path) == expected
    assert names(f'{tmp_path}/other,{tmp_path}/day=2', tmp_path) == ['other/e.csv', 'day=2/p.parquet']
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match=r'--input: .*/empty is a folder without data files \(\.csv, '):
        tables.expand(f'{tmp_path}/empty', '--input')


def test_globs(tmp_path):
    touch(tmp_path, 'x/1.csv', 'x/y/2.csv', 'x/_SUCCESS', 'day=1/p.csv', 'day=2/p.csv', 'odd[1].csv')
    assert names(f'{tmp_path}/**/*.csv', tmp_path) == [
        'day=1/p.csv', 'day=2/p.csv', 'odd[1].csv', 'x/1.csv', 'x/y/2.csv',
    ]  # fmt: skip
    assert names(f'{tmp_path}/x/**', tmp_path) == ['x/1.csv', 'x/y/2.csv']
    assert names(f'{tmp_path}/x/_*', tmp_path) == ['x/_SUCCESS']
    assert names(f'{tmp_path}/day=*', tmp_path) == ['day=1/p.csv', 'day=2/p.csv']
    assert names(f'{tmp_path}/odd[1].csv', tmp_path) == ['odd[1].csv']
    for spec, message in {
        '*.tsv': 'no file matches',
        'none.csv': 'no such file',
        ' , ': 'no file named',
    }.items():
        with pytest.raises(UserError, match=message):
            tables.expand(spec if ',' in spec else f'{tmp_path}/{spec}', '--input')


def read(folder, columns):
    table = tables.open_table(tables.expand(str(folder), '--input'))
    chunks = list(table.chunks(columns))
    pieces = [table.read(place, columns) for i in range(len(table.paths)) for place, _ in table.places(i)]
    for chunk, piece in zip(chunks, pieces, strict=True):
        assert piece.frame.equals(chunk.frame)
        assert (piece.kept is None) == (chunk.kept is None)
    return table, chunks


@pytest.mark.parametrize('ending', ['csv', 'parquet'])
def test_folders_give_columns(tmp_path, ending):
    for day, hour, value in (('2026-11-01', '07', 'x'), ('a%2Fb c', '__HIVE_DEFAULT_PARTITION__', 'y')):
        folder = tmp_path / f'day={day}' / f'hour={hour}'
        folder.mkdir(parents=True)
        frame = pl.DataFrame({'v': [value, value], 'n': [1, 2]})
        (frame.write_csv if ending == 'csv' else frame.write_parquet)(folder / f'part-0.{ending}')
    table, chunks = read(tmp_path, Columns(('day', 'v'), ('hour', 'n'), ('hour', 'v', 'day')))
    assert table.columns == ('v', 'n', 'day', 'hour')
    assert chunks[0].frame.columns == ['day', 'v', 'hour', 'n']
    assert pl.concat([c.frame for c in chunks]).rows() == [
        ('2026-11-01', 'x', 7.0, 1.0), ('2026-11-01', 'x', 7.0, 2.0),
        ('a/b c', 'y', None, 1.0), ('a/b c', 'y', None, 2.0),
    ]  # fmt: skip
    assert chunks[0].kept.columns == ['hour', 'v', 'day']
    assert chunks[0].kept.rows() == [('07', 'x', '2026-11-01')] * 2
    # Alone, they still have as many rows as the file.
    _, chunks = read(tmp_path, Columns(('day',), ('hour',)))
    assert [c.frame.height for c in chunks] == [2, 2]
    with pytest.raises(
        UserError, match=r"day=a.*, (line 2|row 1): column 'day': expected a number, found 'a/b c'"
    ):
        read(tmp_path / 'day=a%2Fb c', Columns(('v',), ('day',)))


def test_a_column_of_the_file_wins(tmp_path):
    touch(tmp_path, 'a=folder/p.csv')
    table, chunks = read(tmp_path, Columns(('a',)))
    assert table.columns == ('a', 'b')
    assert chunks[0].frame['a'].to_list() == ['x']


def test_folders_that_not_all_files_are_in(tmp_path):
    touch(tmp_path, 'day=1/p.csv', 'other/q.csv')
    table = tables.open_table((f'{tmp_path}/day=1/p.csv', f'{tmp_path}/other/q.csv'))
    assert table.columns == ('a', 'b')
    with pytest.raises(UserError, match=r"other/q.csv: no column 'day' \(the time\), which .*p.csv has"):
        tables.check_columns(table, ['day'], 'the time')


def partitioned(tmp_path):
    """Days of clicks, the day a folder; only the day tells whether there is a click."""
    for day in range(1, 6):
        folder = tmp_path / 'logs' / f'day=2026-11-0{day}' / f'site=s{day % 2}'
        folder.mkdir(parents=True)
        write_table(folder / 'part-0.csv', 200, seed=day)
        (folder / '_SUCCESS').touch()
    return tmp_path / 'logs'


@pytest.mark.slow
def test_folders_by_the_command(tmp_path):
    """Their columns as features, time, group and kept columns; in training, with Beam, and in prediction."""
    folder = partitioned(tmp_path)
    flags = (
        *SMALL_FLAGS, '--dataset=table', f'--config.dataset.train={folder}', '--config.dataset.label=click',
        "--config.dataset.categorical=('user','site')", "--config.dataset.numeric=('price',)",
        '--config.dataset.group=day', f'--data_dir={tmp_path / "data"}',
    )  # fmt: skip
    by_time = (
        '--config.dataset.split=time',
        '--config.dataset.time=day',
        '--config.dataset.fractions=(3.,2.)',
    )
    result = run(*flags, *by_time, f'--workdir={tmp_path / "run"}')
    assert 'gauc' in result['valid']
    day = f'{folder}/day=2026-11-05'
    told = run('--mode=evaluate', f'--workdir={tmp_path / "run"}', f'--input={day}')
    assert told['rows'] == 200
    assert told['out_of_vocabulary']['site'] == 0
    output = tmp_path / 'o.csv'
    run(
        '--mode=predict', f'--workdir={tmp_path / "run"}', f'--input={folder}', f'--output={output}',
        "--config.predict.keep=('day','site','click')",
    )  # fmt: skip
    found = pl.read_csv(output)
    assert found.columns == ['day', 'site', 'click', 'probability']
    assert found['day'].unique(maintain_order=True).to_list() == [f'2026-11-0{d}' for d in range(1, 6)]
    assert found.height == 1000
    message = fail(
        '--mode=predict', f'--workdir={tmp_path / "run"}', f'--output={tmp_path / "p.csv"}',
        f'--input={day}/site=s1/part-0.csv,{tmp_path}/o.csv',
    )  # fmt: skip
    assert "no column 'user'" in message


def test_columns_of_folders_are_known_through_other_tables(tmp_path):
    folder = tmp_path / 'day=3'
    folder.mkdir()
    (folder / 'a.csv').write_text('hour,x\n14102100,1\n')
    table = HourTable(tables.open_table((str(folder / 'a.csv'),)))
    assert table.folder_columns == ('day',)
    (chunk,) = table.chunks(Columns(('day', 'weekday'), ('x',), ('is_weekend', 'day')))
    assert chunk.frame.rows() == [('3', '2', 1.0)]
    assert chunk.kept.rows() == [('0', '3')]


@pytest.mark.slow
def test_folders_with_beam(tmp_path):
    pytest.importorskip('apache_beam')
    folder = partitioned(tmp_path)
    flags = (
        *SMALL_FLAGS, '--dataset=table', f'--config.dataset.train={folder}', '--config.dataset.label=click',
        "--config.dataset.categorical=('site','day')", '--mode=prepare',
    )  # fmt: skip
    told = [
        run(*flags, f'--data_dir={tmp_path / name}', *more)
        for name, more in (('a', ()), ('b', ('--config.dataset.beam_runner=DirectRunner',)))
    ]
    assert told[0]['rows'] == told[1]['rows']
    shards = [sorted((tmp_path / name).rglob('*.array_record*')) for name in 'ab']
    assert [p.name for p in shards[0]] == [p.name for p in shards[1]]
    encoders = [next((tmp_path / name).rglob('encoder')) for name in 'ab']
    for file in encoders[0].iterdir():
        assert file.read_bytes() == (encoders[1] / file.name).read_bytes(), file.name


def test_a_folder_of_another_name_is_other_data(tmp_path):
    """The files are the same, the column of their folder is not; one that is not read does not count."""
    config = get_config('mlp').dataset
    config.name, config.label = 'table', 'click'
    found = {}
    for categorical in (('user',), ('user', 'day')):
        for day in (1, 2):
            folder = tmp_path / f'day={day}'
            folder.mkdir(exist_ok=True)
            config.train, config.categorical = str(write_table(folder / 'p.csv', 50)), categorical
            found[categorical, day] = builders.build(config, str(tmp_path / 'data')).data_dir
    assert found[('user',), 1] == found[('user',), 2]
    assert found[('user', 'day'), 1] != found[('user', 'day'), 2]
