"""The contract of datasets: the keys that they read, the fingerprint of prepared data, one's own datasets."""

import json
import textwrap

import numpy as np
import polars as pl
import pytest
from ml_collections import ConfigDict

from dlf_jax.config import get_config
from dlf_jax.data import builders
from dlf_jax.data.builders import DATASETS, base
from dlf_jax.data.builders.avazu import RAW_FIELDS, X1_FIELDS
from dlf_jax.data.builders.criteo import CATEGORIES, NUMBERS
from dlf_jax.data.builders.fingerprint import Fingerprint
from dlf_jax.data.schema import Field, Schema
from dlf_jax.errors import UsageError, UserError
from tests.conftest import write_table
from tests.data.test_builders import rows_of

ROWS = 30


def write_files(folder):
    """A small file for every format of every dataset, by name."""
    draw = np.random.default_rng(0)

    def write(file, columns, **options):
        labels = ('label', 'click', 'y')
        frame = pl.DataFrame(
            {name: np.arange(ROWS) % 2 if name in labels else draw.permutation(ROWS) for name in columns}
        )
        frame = frame.with_columns(pl.lit('14102100').alias('hour')) if 'hour' in columns else frame
        frame.write_csv(folder / file, **options)
        return str(folder / file)

    (folder / 's.toml').write_text('label = "y"\n[columns.a]\nkind = "categorical"\n')
    (folder / 'm.libfm').write_text('1 3:1 20:1 31:1\n' * ROWS)
    return {
        'criteo_x1': write('criteo.csv', ['label', *NUMBERS, *CATEGORIES]),
        'criteo_raw': write(
            'train.txt', ['label', *NUMBERS, *CATEGORIES], separator='\t', include_header=False
        ),
        'avazu_x1': write('avazu_x1.csv', ['label', *X1_FIELDS]),
        'avazu_raw': write('avazu.csv', ['id', 'click', *RAW_FIELDS]),
        'frappe': write('frappe.csv', ['label', *DATASETS['frappe'].FIELDS]),
        'movielens': write('movielens.csv', ['label', *DATASETS['movielens'].FIELDS]),
        'libfm': str(folder / 'm.libfm'),
        'table': write('table.csv', ['y', 'a', 'x', 'w', 'g']),
        'schema': str(folder / 's.toml'),
    }


# What a dataset may read, in cases that together read all of it. Values in braces name a file.
COLUMNS = {'label': 'y', 'categorical': ('a',), 'numeric': ('x',), 'weight': 'w', 'group': 'g'}
CASES = {
    'avazu': [
        {'train': '{avazu_raw}', 'hour': 'parts', 'hash_buckets': 5},
        {'train': '{avazu_raw}', 'split': 'time', 'time': 'C1'},
        {'train': '{avazu_x1}', 'valid': '{avazu_x1}', 'test': '{avazu_x1}'},
    ],
    'criteo': [{'train': '{criteo_raw}', 'treatment': 'bucket'}, {'train': '{criteo_x1}', 'split': 'random'},
               {'train': '{criteo_x1}', 'split': 'time', 'time': 'I1'}],
    'frappe': [{'train': '{frappe}', 'split': 'time', 'time': 'user'}],
    'movielens': [{'train': '{movielens}', 'split': 'time', 'time': 'user_id'}, {'train': '{libfm}'}],
    'synthetic': [{'rows': 100, 'split': 'random'}],
    'synthetic_histories': [{'rows': 100, 'split': 'random'}, {'rows': 100, 'hash_buckets': 9}],
    'table': [
        {'train': '{table}', **COLUMNS, 'split': 'time', 'time': 'g'},
        {'train': '{table}', 'valid': '{table}', 'schema': '{schema}'},
    ],
}  # fmt: skip
# Read by what uses the datasets, with a `beam_runner`, and by what grows an earlier vocabulary.
READ_ELSEWHERE = {'name', 'check_overlap', 'infer', 'beam_options', 'forget_after', 'refit_numbers'}


def config_of(name, keys=None, files=None):
    config = get_config('mlp').dataset
    config.name, config.block_rows = name, 16
    if {'allow_modified'} <= builders.dataset_class(name).keys():
        config.allow_modified = True
    for key, value in (keys or {}).items():
        config[key] = value.format(**files) if isinstance(value, str) and files else value
    return config


class RecordingConfig(ConfigDict):
    """A config that remembers which keys are read."""

    read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)


@pytest.mark.parametrize('name', DATASETS)
def test_a_dataset_declares_the_keys_that_it_reads(name, tmp_path, monkeypatch):
    """All of them, since it sees no others, and no more than those."""
    files, read = write_files(tmp_path), set()
    monkeypatch.setattr(base, 'ConfigDict', RecordingConfig)
    monkeypatch.setattr(RecordingConfig, 'read', read)
    # The fingerprint looks at every declared key.
    monkeypatch.setattr(
        base.Builder, '_fingerprint',
        lambda self, data_dir: Fingerprint(self.task, {'case': len(read)}, '', data_dir, lambda name: True),
    )  # fmt: skip
    for i, keys in enumerate(CASES[name]):
        builder = builders.build(config_of(name, keys, files), str(tmp_path / f'data{i}'))
        builder.prepare()
    assert read <= DATASETS[name].keys()
    assert DATASETS[name].keys() - read <= READ_ELSEWHERE


@pytest.mark.parametrize('name', DATASETS)
def test_declared_keys_are_those_of_the_config(name):
    defaults = get_config('mlp').dataset.to_dict()
    assert DATASETS[name].keys() <= set(defaults)
    neutral = {**base.COMMON_KEYS, **base.RELEASE_KEYS, **DATASETS[name].KEYS, 'name': 'synthetic'}
    # May differ only where a default has changed after the key was released; none has so far.
    assert neutral == {key: defaults[key] for key in neutral}


def test_keys_that_a_dataset_does_not_read_are_known():
    assert {'hour'} <= DATASETS['avazu'].keys()
    for name in set(DATASETS) - {'avazu'}:
        assert not {'hour'} & DATASETS[name].keys()
    assert not {'train', 'separator', 'download', 'time'} & DATASETS['synthetic'].keys()
    assert not {'treatment', 'rows', 'label'} & DATASETS['frappe'].keys()


@pytest.fixture
def table(tmp_path):
    keys = {'label': 'click', 'categorical': ('user', 'ad'), 'numeric': ('price',)}
    return config_of('table', {'train': str(write_table(tmp_path / 't.csv', 100)), **keys})


def folder_of(config, tmp_path):
    return builders.build(config, str(tmp_path / 'data')).data_dir


def test_a_key_of_a_later_release_prepares_nothing_anew(table, tmp_path, monkeypatch):
    before = folder_of(table, tmp_path)
    with table.unlocked():
        table.later = 'default'
    assert folder_of(table, tmp_path) == before
    # Nor does one that the dataset reads, as long as it has the value that changes nothing.
    keys = {**DATASETS['table'].KEYS, 'later': 'default'}
    monkeypatch.setattr(DATASETS['table'], 'KEYS', keys)
    assert folder_of(table, tmp_path) == before
    table.later = 'other'
    assert folder_of(table, tmp_path) != before


def test_keys_of_other_datasets_prepare_nothing_anew(table, tmp_path):
    before = folder_of(table, tmp_path)
    table.hour, table.rows, table.seed = 'parts', 10, 3
    table.check_overlap = table.allow_modified = True
    assert folder_of(table, tmp_path) == before


@pytest.mark.parametrize(
    ('key', 'value'),
    [('min_count', 2), ('block_rows', 32), ('split', 'random'), ('fractions', (8.0, 1.0, 1.0)),
     ('separator', ','), ('numeric', ()), ('treatment', 'minmax')],
)  # fmt: skip
def test_keys_that_change_the_records_prepare_them_anew(table, tmp_path, key, value):
    before = folder_of(table, tmp_path)
    table[key] = value
    assert folder_of(table, tmp_path) != before


def test_keys_of_the_split_count_only_where_a_table_is_split(table, tmp_path):
    table.valid = table.train
    before = folder_of(table, tmp_path)
    table.split, table.split_seed = 'random', 5
    assert folder_of(table, tmp_path) == before


def test_an_attribute_of_a_later_schema_prepares_nothing_anew():
    schema = Schema(
        (Field('a', 'categorical', min_count=2), Field('x', 'numeric', 'minmax')), 'y', weight='w'
    )
    assert schema.identity() == {
        'label': 'y',
        'weight': 'w',
        'fields': [
            {'name': 'a', 'kind': 'categorical', 'min_count': 2},
            {'name': 'x', 'kind': 'numeric', 'treatment': 'minmax'},
        ],
    }


def test_hour_parts_of_files_without_an_hour_are_refused(tmp_path):
    files = write_files(tmp_path)
    keys = {'train': files['avazu_x1'], 'hour': 'parts'}
    with pytest.raises(UserError, match=r"config.dataset.hour='parts': .*avazu_x1.csv has no column 'hour'"):
        builders.build(config_of('avazu', keys), str(tmp_path))


def test_synthetic_rows_have_no_time(tmp_path):
    with pytest.raises(UserError, match=r"config.dataset.split='time': the synthetic data has no"):
        builders.build(config_of('synthetic', {'split': 'time', 'time': 'I1'}), str(tmp_path))


# Datasets of one's own.

SONGS = '''
    from dlf_jax.data.builders import Builder
    from dlf_jax.data.builders.base import CATEGORY_KEYS, FILE_KEYS, SPLIT_KEYS
    from dlf_jax.data.schema import Schema

    class {name}(Builder):
        """Which song a listener skips."""

        KEYS = {{**FILE_KEYS, **SPLIT_KEYS, **CATEGORY_KEYS, 'listeners': 0}}

        def make_schema(self, table):
            fields = [self.categorical('listener'), self.categorical('song')]
            return Schema(tuple(fields[self.dataset.listeners :]), label='skipped')

    class Undone(Builder):
        pass

    a_number = 7
'''


def write_songs(folder, name='Songs'):
    folder.mkdir(exist_ok=True)
    (folder / 'songs.py').write_text(textwrap.dedent(SONGS.format(name=name)))
    lines = [f'{i % 2},l{i % 7},s{i % 5}' for i in range(40)]
    (folder / 'songs.csv').write_text('\n'.join(['skipped,listener,song', *lines]) + '\n')
    config = get_config('mlp').dataset
    config.name, config.train = f'{folder}/songs.py:{name}', str(folder / 'songs.csv')
    return config


# Names that TFDS gives a meaning, or that a dataset of the package or of TFDS has already.
@pytest.mark.parametrize('name', ['Songs', 'Builder', 'Criteo', 'OwnTable', 'Mnist', 'MySongs2'])
def test_a_dataset_in_a_file(tmp_path, name):
    if name == 'Builder':
        text = SONGS.replace('import Builder', 'import Builder as Base').replace('(Builder)', '(Base)')
        (tmp_path / 'songs.py').write_text(textwrap.dedent(text.format(name=name)))
        config = write_songs(tmp_path / 'other')
        config.name = f'{tmp_path}/songs.py:Builder'
    else:
        config = write_songs(tmp_path, name)
    builder = builders.build(config, str(tmp_path / 'data'))
    assert builder.name == {'OwnTable': 'own_table', 'MySongs2': 'my_songs2'}.get(name, name.lower())
    builder.prepare()
    assert builder.info.metadata['rows'] == {'train': 28, 'valid': 8, 'test': 4}
    assert rows_of(builder, 'train')['categorical'].shape == (28, 2)
    assert builder.true_probabilities('valid') is None
    # Opened again, it is the same data; with a key of its own set, it is other data.
    assert builders.build(config, str(tmp_path / 'data')).data_dir == builder.data_dir
    with config.unlocked():
        config.listeners = 1
    other = builders.build(config, str(tmp_path / 'data'))
    assert other.data_dir != builder.data_dir
    assert [field.name for field in other.task.schema.fields] == ['song']


def test_two_datasets_of_one_name(tmp_path):
    for folder in (tmp_path / 'one', tmp_path / 'two'):
        builder = builders.build(write_songs(folder), str(tmp_path / 'data'))
        builder.prepare()
        assert json.loads((builder.data_path / 'dataset_info.json').read_text())['name'] == 'songs'


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('sonks', r"config.dataset.name='sonks': there is no such entry"),
        ('{}:a_number', r'expected a subclass of .*base.Builder, found an object of type int$'),
        ('{}:Schema', r'expected a subclass of .*base.Builder, found Schema$'),
        ('{}:Builder', r'expected a subclass of .*base.Builder, found Builder$'),
        ('{}:Undone', r'Undone does not define make_schema$'),
        ('{}:Song', r"has no 'Song'; did you mean 'Songs'"),
    ],
)
def test_what_is_no_dataset_is_refused_in_one_line(tmp_path, name, message):
    write_songs(tmp_path)
    with pytest.raises(UsageError, match=message) as error:
        builders.dataset_class(name.format(tmp_path / 'songs.py'))
    assert str(error.value).startswith('config.dataset.name=')
    assert '\n' not in str(error.value)
