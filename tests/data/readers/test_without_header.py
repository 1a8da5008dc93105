"""Text files without a header line, whose columns the config names; Criteo's raw files by their form."""

import gzip
import random

import polars as pl
import pytest

from dlf_jax.config import get_config
from dlf_jax.config_checks import validate
from dlf_jax.data import builders
from dlf_jax.data.builders.criteo import CATEGORIES, NUMBERS
from dlf_jax.data.readers import tables
from dlf_jax.errors import UsageError, UserError
from tests.conftest import SMALL_FLAGS, fail, run, table_flags, write_table
from tests.data.test_builders import rows_of

COLUMNS = "--config.dataset.columns=('click','user','ad','price')"


def without_header(path, rows=600, separator=','):
    text = write_table(path, rows).read_text().partition('\n')[2]
    path.write_text(text.replace(',', separator))
    return path


@pytest.mark.slow
@pytest.mark.parametrize('separator', [',', '\t'])
def test_training_and_prediction_by_the_command(separator, tmp_path):
    path = without_header(tmp_path / 'train.csv', separator=separator)
    named = run(*table_flags(path), COLUMNS, f'--data_dir={tmp_path / "d"}', f'--workdir={tmp_path / "run"}')
    with_header = write_table(tmp_path / 'with.csv', 600)
    result = run(*table_flags(with_header), f'--data_dir={tmp_path / "d"}', f'--workdir={tmp_path / "run2"}')
    assert named['valid'] == result['valid']
    # Input to be scored may lack the label.
    lines = path.read_text().splitlines()
    (tmp_path / 'unlabelled').write_text(''.join(line.split(separator, 1)[1] + '\n' for line in lines))
    scores = []
    for name in ('train.csv', 'unlabelled'):
        output = tmp_path / f'{name}.parquet'
        run(
            '--mode=predict', f'--workdir={tmp_path / "run"}', f'--input={tmp_path / name}',
            f'--output={output}',
        )  # fmt: skip
        scores.append(pl.read_parquet(output)['probability'])
    assert scores[0].equals(scores[1])
    message = fail('--mode=evaluate', f'--workdir={tmp_path / "run"}', f'--input={tmp_path / "unlabelled"}')
    assert "unlabelled: no column 'click' (the label)" in message


def test_mistakes_by_the_command(tmp_path):
    path = without_header(tmp_path / 'train.csv')
    folders = (f'--data_dir={tmp_path / "d"}', '--mode=prepare')
    message = fail(*table_flags(path), *folders)
    assert 'for training, give them as --config.dataset.columns=' in message
    message = fail(*table_flags(write_table(tmp_path / 'with.csv', 600)), COLUMNS, *folders)
    assert 'with.csv, line 1: holds the names of config.dataset.columns' in message
    few = "--config.dataset.columns=('click','user','ad','price','site','page')"
    assert 'train.csv, line 1: expected 6 fields' in fail(*table_flags(path), few, *folders)


def test_names_that_cannot_be(tmp_path):
    pl.DataFrame({'click': [1]}).write_parquet(tmp_path / 'p')
    with pytest.raises(UserError, match=r'p: a Parquet file, which names its columns; leave config\.dataset'):
        tables.open_table((str(tmp_path / 'p'),), columns=('click',))
    config = get_config('mlp')
    config.dataset.name = 'table'
    for columns, form, message in (
        (('a', 'a'), 'auto', 'expected different names'), (('a', ''), 'auto', 'expected different names'),
        (('a',), 'libsvm', "none with config.dataset.format='libsvm'"),
    ):  # fmt: skip
        config.dataset.columns, config.dataset.format = columns, form
        with pytest.raises(UsageError, match=f'config.dataset.columns=.*{message}'):
            validate(config)


def test_header_line_and_byte_order_mark(tmp_path):
    for text in ('a,b\n', '"a","b"\n', ' a, b\n'):
        (tmp_path / 't').write_text(text + '1,2\n')
        with pytest.raises(UserError, match='line 1: holds the names'):
            tables.open_table((str(tmp_path / 't'),), columns=('a', 'b'))
    (tmp_path / 't').write_bytes(b'\xef\xbb\xbf1,2\n')
    with pytest.raises(UserError, match=r"line 1: a byte order mark.*sed -i '1s/\^\\xEF\\xBB\\xBF//' "):
        tables.open_table((str(tmp_path / 't'),), columns=('a', 'b'))


def criteo_line(draw, labelled=True):
    numbers = [draw.choice(['', str(draw.randint(-1, 300))]) for _ in NUMBERS]
    categories = [f'{draw.randint(0, 9):08x}' for _ in CATEGORIES]
    return '\t'.join([*([str(draw.randint(0, 1))] if labelled else []), *numbers, *categories])


def criteo_file(path, labelled=True, packed=False):
    draw = random.Random(0)
    text = ''.join(criteo_line(draw, labelled) + '\n' for _ in range(300)).encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    return path


@pytest.mark.parametrize('name', ['day_0', 'day_23.gz', 'day_1'])
def test_days_of_criteos_terabyte_log(name, tmp_path):
    """They are read as Kaggle's file is, and claim to be no published file."""
    path = criteo_file(tmp_path / name, packed=name != 'day_0')
    config = get_config('mlp').dataset
    config.name, config.train, config.valid = 'criteo', str(path), str(path)
    builder = builders.build(config, str(tmp_path / 'data'))
    builder.prepare()
    assert {field.treatment for field in builder.schema().fields} == {'log2', ''}
    assert len(rows_of(builder, 'train')['label']) == 300
    config.train = config.valid = str(criteo_file(tmp_path / 'train.txt'))
    with pytest.raises(UserError, match='allow_modified'):
        builders.build(config, str(tmp_path / 'data'))


def test_criteos_form_and_not_its_name_counts(tmp_path):
    dataset, config = builders.dataset_class('criteo'), get_config('mlp').dataset
    raw = dataset.open_files(config, (str(criteo_file(tmp_path / 'rows.csv')),))
    assert raw.columns == ('label', *NUMBERS, *CATEGORIES)
    raw = dataset.open_files(config, (str(criteo_file(tmp_path / 'rows', labelled=False)),))
    assert raw.columns == (*NUMBERS, *CATEGORIES)
    header = '\t'.join(['label', *NUMBERS, *CATEGORIES]) + '\n'
    (tmp_path / 'x1.txt').write_text(header + criteo_line(random.Random(0)) + '\n')
    assert dataset.open_files(config, (str(tmp_path / 'x1.txt'),)).columns == ('label', *NUMBERS, *CATEGORIES)


def test_days_by_the_command(tmp_path):
    criteo_file(tmp_path / 'day_0.gz', packed=True)
    flags = (
        *SMALL_FLAGS,
        '--dataset=criteo',
        f'--config.dataset.train={tmp_path}/day_?.gz',
        '--mode=prepare',
    )
    assert sum(run(*flags, f'--data_dir={tmp_path / "data"}')['rows'].values()) == 300


def test_a_schema_is_proposed_by_the_command(tmp_path):
    path = without_header(tmp_path / 'train.csv')
    flags = (
        '--dataset=table',
        f'--config.dataset.train={path}',
        '--mode=prepare',
        '--config.dataset.infer=True',
    )
    told = run(*flags, COLUMNS, f'--output={tmp_path / "s.toml"}')
    assert told['label'] == 'click'
    assert '[columns.user]' in (tmp_path / 's.toml').read_text()
