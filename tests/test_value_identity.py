"""A value is the same whatever file format or dtype carries it, from the command's input to its scores."""

import datetime
import decimal

import numpy as np
import polars as pl
import pytest
import tensorflow_datasets as tfds

import dlf_jax
from tests.conftest import SMALL_FLAGS, command, config_of, fail, finish, run

ROWS = 1200


def table(seed=0, rows=ROWS):
    """Clicks that depend on the user alone, an id of 0 to 19, and on an ad."""
    draw = np.random.default_rng(seed)
    user, ad = draw.integers(0, 20, rows), draw.integers(0, 5, rows)
    click = draw.random(rows) < np.where(user % 2, 0.9, 0.1)
    return pl.DataFrame({'click': click.astype(np.int64), 'user': user, 'ad': pl.Series(ad).cast(pl.String)})


def flags(train, valid=None, categorical=('user', 'ad')):
    return (
        *SMALL_FLAGS, '--dataset=table', f'--config.dataset.train={train}', '--config.dataset.label=click',
        *([f'--config.dataset.valid={valid}'] if valid else []), '--config.optimizer.learning_rate=0.02',
        f'--config.dataset.categorical={categorical!r}'.replace(' ', ''),
    )  # fmt: skip


def records(folder):
    """Ids of all prepared rows."""
    builder = tfds.builder_from_directory(folder)
    blocks = (block for part in ('train', 'valid', 'test') for block in builder.as_data_source(part))
    return np.concatenate([block['categorical'] for block in blocks])


def as_float(frame):
    return frame.with_columns(pl.col('user').cast(pl.Float64))


WRITERS = {
    'int.parquet': lambda f, p: f.write_parquet(p),
    'float.parquet': lambda f, p: as_float(f).write_parquet(p),
    'float32.parquet': lambda f, p: f.with_columns(pl.col('user').cast(pl.Float32)).write_parquet(p),
    'uint8.parquet': lambda f, p: f.with_columns(pl.col('user').cast(pl.UInt8)).write_parquet(p),
    'text.parquet': lambda f, p: f.with_columns(pl.col('user').cast(pl.String)).write_parquet(p),
    'category.parquet': lambda f, p: f.with_columns(
        pl.col('user').cast(pl.String).cast(pl.Categorical)
    ).write_parquet(p),
    'decimal.parquet': lambda f, p: f.with_columns(pl.col('user').cast(pl.Decimal(9, 2))).write_parquet(p),
    'float text.parquet': lambda f, p: (
        as_float(f).with_columns(pl.col('user').cast(pl.String)).write_parquet(p)
    ),
    'int.csv': lambda f, p: f.write_csv(p),
    'float.csv': lambda f, p: as_float(f).write_csv(p),
    'quoted.csv': lambda f, p: f.write_csv(p, quote_style='always'),
    'decimal.csv': lambda f, p: f.with_columns(pl.col('user').cast(pl.Decimal(9, 2))).write_csv(p),
}


@pytest.fixture(scope='module')
def trained(tmp_path_factory, data_dir):
    folder = tmp_path_factory.mktemp('identity')
    for name, write in WRITERS.items():
        write(table(1), folder / name)
    WRITERS['int.parquet'](table(), folder / 'train.parquet')
    flag = flags(folder / 'train.parquet', folder / 'float.csv')
    result = run(*flag, f'--workdir={folder / "run"}', f'--data_dir={data_dir}')
    assert result['valid']['auc'] > 0.85
    return folder


@pytest.mark.parametrize('name', WRITERS)
def test_a_whole_number_scores_the_same_in_every_dtype(trained, name, tmp_path):
    told = dlf_jax.predict(trained / 'run', str(trained / name), str(tmp_path / 'o.parquet'))
    assert told['out_of_vocabulary'] == {'user': 0, 'ad': 0}
    dlf_jax.predict(trained / 'run', str(trained / 'int.csv'), str(tmp_path / 'e.parquet'))
    assert pl.read_parquet(tmp_path / 'o.parquet').equals(pl.read_parquet(tmp_path / 'e.parquet'))


def test_both_files_in_one_list_have_20_users(trained, tmp_path):
    names = ','.join(str(trained / name) for name in ('int.parquet', 'float.parquet'))
    found = dlf_jax.prepare(config_of(*flags(names)), tmp_path)
    assert found['fields'] == {'user': 22, 'ad': 7}
    assert found['out_of_vocabulary']['valid'] == {'user': 0, 'ad': 0}


@pytest.mark.parametrize('hashed', [(), ('--config.dataset.hash_buckets=50',)])
def test_other_kinds_of_values(tmp_path, hashed):
    """The same table, written with types and as their texts, becomes the same records."""
    day, moment = datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1, 7, 30, 0, 500_000)
    rows = 400
    frame = table(2, rows).with_columns(
        user=pl.Series([None if i % 7 == 0 else day + datetime.timedelta(i % 9) for i in range(rows)]),
        ad=pl.Series([moment + datetime.timedelta(hours=i % 5) for i in range(rows)]),
        truth=pl.Series([[True, False, None][i % 3] for i in range(rows)]),
        price=pl.Series([decimal.Decimal(f'{i % 6}.50') for i in range(rows)]),
        small=pl.Series([[0.1, 2.5e-7, float('nan'), None][i % 4] for i in range(rows)]),
        stamp=pl.Series([moment.replace(tzinfo=datetime.UTC)] * rows).dt.convert_time_zone('Asia/Tokyo'),
    )
    frame.write_parquet(tmp_path / 'typed.parquet')
    frame.write_csv(tmp_path / 'text.csv')
    # As pandas and Python write them.
    texts = frame.with_columns(
        pl.col('ad').dt.to_string('%Y-%m-%dT%H:%M:%S%.f'),
        pl.col('truth').replace_strict({True: 'True', False: 'False'}, default=None, return_dtype=pl.String),
        pl.col('price').cast(pl.Float64).cast(pl.String),
        small=pl.Series([['0.1', '2.5e-07', '', ''][i % 4] for i in range(rows)]),
        stamp=pl.lit('2026-01-01 16:30:00.5+09:00'),
    )
    texts.write_csv(tmp_path / 'other.csv')
    names = ('user', 'ad', 'truth', 'price', 'small', 'stamp')
    prepared = []
    for name in ('typed.parquet', 'text.csv', 'other.csv'):
        found = dlf_jax.prepare(
            config_of(*flags(tmp_path / name, categorical=names), *hashed), tmp_path / 'data'
        )
        prepared.append(records(found['folder']))
        if not hashed:
            sizes = {'user': 11, 'ad': 7, 'truth': 4, 'price': 8, 'small': 4, 'stamp': 3}
            assert found['fields'] == sizes, name
    for other in prepared[1:]:
        np.testing.assert_array_equal(other, prepared[0])


def test_kinds_that_have_no_value_in_common_are_refused(trained, tmp_path):
    frame = table(1).with_columns(pl.col('user') > 3)
    frame.write_parquet(tmp_path / 'bool.parquet')
    message = fail('--mode=evaluate', f'--workdir={trained / "run"}', f'--input={tmp_path / "bool.parquet"}')
    assert "bool.parquet: column 'user' holds booleans, but numbers in the training data" in message
    message = fail(
        *flags(trained / 'int.parquet', tmp_path / 'bool.parquet'), f'--workdir={tmp_path / "run"}',
        f'--data_dir={tmp_path / "data"}',
    )  # fmt: skip
    assert "column 'user' holds booleans, but numbers in" in message
    assert 'int.parquet' in message


def test_rounded_ids_are_refused(tmp_path):
    frame = table().with_columns(user=pl.col('user') + 1_700_000_000_000_000_001)
    frame.write_parquet(tmp_path / 'whole.parquet')
    found = dlf_jax.prepare(config_of(*flags(tmp_path / 'whole.parquet')), tmp_path / 'data')
    assert found['fields']['user'] == 22
    as_float(frame).write_parquet(tmp_path / 'rounded.parquet')
    message = fail('--mode=prepare', *flags(tmp_path / 'rounded.parquet'), f'--data_dir={tmp_path / "data"}')
    assert "rounded.parquet, row 1: column 'user': the category 1.7" in message
    assert 'is rounded' in message


def test_leading_zeros_are_kept_and_versions_can_be(tmp_path):
    draw = np.random.default_rng(0)
    frame = table().with_columns(
        user=pl.Series(draw.choice(['02516', '2516', '2516.0', '1.10', '1.1', '12345e67'], ROWS))
    )
    frame.write_csv(tmp_path / 't.csv')
    found = dlf_jax.prepare(config_of(*flags(tmp_path / 't.csv')), tmp_path / 'data')
    assert found['fields']['user'] == 2 + 4
    schema = tmp_path / 'schema.toml'
    schema.write_text(
        'label = "click"\n[columns.user]\nkind = "categorical"\nverbatim = true\n'
        '[columns.ad]\nkind = "categorical"\n'
    )
    own = (*SMALL_FLAGS, '--dataset=table', f'--config.dataset.train={tmp_path / "t.csv"}')
    found = dlf_jax.prepare(config_of(*own, f'--config.dataset.schema={schema}'), tmp_path / 'data')
    assert found['fields']['user'] == 2 + 6


def test_unknown_values_are_told_with_a_warning(tmp_path):
    table().write_csv(tmp_path / 'train.csv')
    table(1).with_columns(pl.format('u{}', 'user').alias('user')).write_csv(tmp_path / 'valid.csv')
    flag = flags(tmp_path / 'train.csv', tmp_path / 'valid.csv')
    for mode in (('--mode=prepare',), (f'--workdir={tmp_path / "run"}',)):
        done = finish(command(*flag, *mode, f'--data_dir={tmp_path / "data"}'))
        assert done.returncode == 0, done.stderr
        assert "WARNING: valid: 100.0 % of the values of 'user' are not in the vocabulary" in done.stderr
        assert "of 'ad'" not in done.stderr
