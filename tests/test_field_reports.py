"""Inputs that people give to such programs, through the command: the right values come out, or one line."""

import datetime
import json
import logging

import numpy as np
import polars as pl
import pytest
import tensorflow_datasets as tfds

import dlf_jax
from dlf_jax.errors import UserError
from tests.conftest import SMALL_FLAGS, command, config_of, fail, finish, run

ROWS = 600


def table(rows=ROWS, seed=0, **more):
    draw = np.random.default_rng(seed)
    columns = {
        'click': draw.integers(0, 2, rows),
        'ad': draw.choice(['x', 'y', 'z'], rows),
        'price': draw.normal(10, 2, rows).round(2),
    }
    return pl.DataFrame({**columns, **more})


def flags(train, *more, categorical=('ad',), numeric=('price',)):
    return (
        *SMALL_FLAGS, '--dataset=table', f'--config.dataset.train={train}', '--config.dataset.label=click',
        f'--config.dataset.categorical={categorical!r}'.replace(' ', ''),
        f'--config.dataset.numeric={numeric!r}'.replace(' ', ''), *more,
    )  # fmt: skip


def prepare(tmp_path, path, *more, **kinds):
    return dlf_jax.prepare(config_of(*flags(path, *more, **kinds)), tmp_path / 'data')


def refused(tmp_path, path, *more, **kinds):
    with pytest.raises(UserError) as error:
        prepare(tmp_path, path, *more, **kinds)
    assert '\n' not in str(error.value)
    return str(error.value)


def train(tmp_path, *flag):
    return dlf_jax.train(config_of(*flag), tmp_path / 'run', tmp_path / 'data')


def evaluate(tmp_path, path):
    return dlf_jax.evaluate(tmp_path / 'run', str(path))


def rows_of(found):
    """All prepared rows, by name."""
    builder = tfds.builder_from_directory(found['folder'])
    blocks = [block for part in ('train', 'valid', 'test') for block in builder.as_data_source(part)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """A run on a table with a constant price."""
    folder = tmp_path_factory.mktemp('model')
    table(price=pl.Series([9.99] * ROWS)).write_csv(folder / 'train.csv')
    # On the line of standard scores a number may go beyond float32; curves end level.
    keys = (
        '--config.dataset.treatment=standard',
        f'--workdir={folder / "run"}',
        f'--data_dir={folder / "data"}',
    )
    run(*flags(folder / 'train.csv', *keys))
    return folder / 'run'


def predict(model, path, tmp_path, *more, to='o.parquet'):
    arguments = (f'--workdir={model}', f'--input={path}', f'--output={tmp_path / to}', *more)
    run('--mode=predict', *arguments)
    return (
        pl.read_parquet(tmp_path / to)
        if to.endswith('.parquet')
        else pl.read_csv(tmp_path / to, infer_schema=False)
    )


def test_what_is_constant_but_for_rounding_is_constant(model, tmp_path):
    table(price=pl.Series([9.99, 10.49] * (ROWS // 2))).write_csv(tmp_path / 'in.csv')
    scores = predict(model, tmp_path / 'in.csv', tmp_path)['probability']
    assert scores.is_between(0.2, 0.8).all()


@pytest.mark.parametrize('treatment', ['standard', 'minmax'])
@pytest.mark.parametrize('values', [[9.99], [0.1 + 0.2, 0.3], [1e9 + 0.1], [0.0], [None], [-7.77, None]])
def test_statistics_that_divide(tmp_path, treatment, values):
    price = pl.Series((values * ROWS)[:ROWS], dtype=pl.Float64)
    table(price=price).write_parquet(tmp_path / 't.parquet')
    found = prepare(tmp_path, tmp_path / 't.parquet', f'--config.dataset.treatment={treatment}')
    assert np.abs(rows_of(found)['numeric']).max() < 1e-6
    encoder = (tmp_path / 'data' / 'table').rglob('encoder.json')
    json.loads(next(encoder).read_text(), parse_constant=lambda name: pytest.fail(name))


def test_a_missing_number_is_the_mean_under_every_treatment(tmp_path):
    price = pl.Series([1.0, None, 3.0] * (ROWS // 3))
    table(price=price).write_csv(tmp_path / 't.csv')
    found = prepare(tmp_path, tmp_path / 't.csv', '--config.dataset.treatment=none')
    assert rows_of(found)['numeric'][:3, 0].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize('output', ['o.parquet', 'o.csv'])
def test_kept_columns_are_as_they_were(model, tmp_path, output):
    moment = datetime.datetime(2026, 1, 1, 12, 30)
    frame = table(
        big=pl.Series([1_700_000_000_000_000_001 + i for i in range(ROWS)]),
        whole=pl.Series([20 if i % 2 else None for i in range(ROWS)], dtype=pl.Int32),
        when=pl.Series([moment + datetime.timedelta(microseconds=i) for i in range(ROWS)]),
        real=pl.Series([1.5, 20.0] * (ROWS // 2), dtype=pl.Float32),
        truth=pl.Series([True, False] * (ROWS // 2)),
    )
    frame.write_parquet(tmp_path / 'in.parquet')
    frame.write_csv(tmp_path / 'in.csv')
    keep = '--config.predict.keep=' + repr((*frame.columns,)).replace(' ', '')
    found = predict(model, tmp_path / 'in.parquet', tmp_path, keep, to=output)
    if output == 'o.parquet':
        assert found.drop('probability').equals(frame)
        assert found.schema == {**frame.schema, 'probability': pl.Float64}
    text = predict(model, tmp_path / 'in.csv', tmp_path, keep, to=output)
    assert text.drop('probability').equals(pl.read_csv(tmp_path / 'in.csv', infer_schema=False))


def test_kept_texts_are_kept_to_the_letter(model, tmp_path):
    texts = ['1.50', '', '""', ' x', '007', 'NaN', '1e3', '"a,b"']
    lines = [f'x,{9.99},{texts[i % len(texts)]}' for i in range(80)]
    (tmp_path / 'in.csv').write_text('ad,price,note\n' + '\n'.join(lines) + '\n')
    found = predict(model, tmp_path / 'in.csv', tmp_path, "--config.predict.keep=('price','note')")
    assert found['price'].to_list() == ['9.99'] * 80
    assert found['note'][:8].to_list() == ['1.50', None, '', ' x', '007', 'NaN', '1e3', 'a,b']


@pytest.mark.parametrize('batch', [7, 10_000])
@pytest.mark.parametrize('output', ['o.parquet', 'o.csv'])
def test_kept_columns_of_other_types_in_other_files_are_refused(model, tmp_path, output, batch):
    """Large integers would be rounded beside floats."""
    for name, kind in (('1.parquet', pl.Int64), ('2.parquet', pl.Float64)):
        table(n=pl.Series(range(ROWS), dtype=kind)).write_parquet(tmp_path / name)
    options = {'keep': ('n',), 'batch_size': batch}
    with pytest.raises(UserError, match=r"keep: the column 'n' is of Int64 in one file and of Float64 in an"):
        dlf_jax.predict(model, f'{tmp_path}/*.parquet', str(tmp_path / output), options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['1.parquet', '2.parquet']


def test_names_that_clash_are_refused(model, tmp_path):
    table(probability=pl.Series([0.5] * ROWS)).write_csv(tmp_path / 'in.csv')
    arguments = ('--mode=predict', f'--workdir={model}', f'--input={tmp_path / "in.csv"}')
    for keep in ("('probability',)", "('ad','ad')"):
        message = fail(*arguments, f'--output={tmp_path / "o.csv"}', f'--config.predict.keep={keep}', code=2)
        assert 'config.predict.keep' in message
    assert not (tmp_path / 'o.csv').exists()


def test_lists_do_not_fit_into_a_csv(model, tmp_path):
    table(tags=pl.Series([['a', 'b']] * ROWS)).write_parquet(tmp_path / 'in.parquet')
    arguments = (
        f'--workdir={model}',
        f'--input={tmp_path / "in.parquet"}',
        "--config.predict.keep=('tags',)",
    )
    message = fail('--mode=predict', *arguments, f'--output={tmp_path / "o.csv"}')
    assert "a CSV file cannot hold the column 'tags'" in message
    found = run('--mode=predict', *arguments, f'--output={tmp_path / "o.parquet"}')
    assert found['rows'] == ROWS


@pytest.mark.parametrize('form', ['csv', 'parquet'])
@pytest.mark.parametrize('treatment', ['none', 'standard', 'minmax', 'log2', 'bucket'])
def test_numbers_out_of_range_are_named_or_missing(tmp_path, form, treatment):
    price = pl.Series([1.0, 2.0] * (ROWS // 2)).scatter(7, 1e42 if treatment == 'none' else 1e200)
    path = tmp_path / f't.{form}'
    getattr(table(price=price), f'write_{form}')(path)
    key = f'--config.dataset.treatment={treatment}'
    message = refused(tmp_path, path, key)
    where = 'line 9' if form == 'csv' else 'row 8'
    assert f"{path}, {where}: column 'price'" in message
    found = prepare(tmp_path, path, key, '--config.dataset.out_of_range=missing')
    assert all(np.isfinite(values).all() for values in rows_of(found).values())


def test_a_score_that_overflows_is_named(model, tmp_path):
    table(price=pl.Series([9.99] * ROWS).scatter(4, 1e42)).write_csv(tmp_path / 'in.csv')
    arguments = (f'--workdir={model}', f'--input={tmp_path / "in.csv"}')
    for mode in (('--mode=evaluate',), ('--mode=predict', f'--output={tmp_path / "o.csv"}')):
        message = fail(*mode, *arguments)
        assert "in.csv, line 6: column 'price': " in message


def test_empty_is_missing_however_it_is_written(tmp_path):
    there = np.arange(ROWS) % 4 != 0
    words = np.where(np.arange(ROWS) % 2, 'x', 'y')
    prices = (np.arange(ROWS) % 5).astype(float)

    def csv(empty):
        texts = np.where(there, words, empty)
        lines = [f'{i % 2},{texts[i]},{prices[i]:g}' for i in range(ROWS)]
        return 'click,ad,price\n' + '\n'.join(lines) + '\n'

    (tmp_path / '0.csv').write_text(csv(''))
    (tmp_path / '1.csv').write_text(csv('""'))
    base = table(click=pl.Series(np.arange(ROWS) % 2), price=pl.Series(prices))
    null = base.with_columns(ad=pl.Series([w if t else None for w, t in zip(words, there, strict=True)]))
    null.write_parquet(tmp_path / '2.parquet')
    null.with_columns(pl.col('ad').fill_null('')).write_parquet(tmp_path / '3.parquet')
    null.with_columns(pl.col('ad').fill_null('NaN')).write_parquet(tmp_path / '4.parquet')
    null.with_columns(pl.col('ad').fill_null('NA')).write_parquet(tmp_path / '5.parquet')
    prepared = []
    for i, name in enumerate(sorted(path.name for path in tmp_path.glob('?.*'))):
        marker = ("--config.dataset.missing=('NA',)",) if i == 5 else ()
        found = prepare(tmp_path, tmp_path / name, *marker)
        assert found['fields']['ad'] == 4, name
        prepared.append(rows_of(found)['categorical'])
    for other in prepared[1:]:
        np.testing.assert_array_equal(other, prepared[0])


def test_missing_float_ids(tmp_path):
    ids = pl.Series([float('nan') if i % 4 == 0 else i % 3 for i in range(ROWS)], dtype=pl.Float64)
    table(ad=ids).write_parquet(tmp_path / 't.parquet')
    assert prepare(tmp_path, tmp_path / 't.parquet')['fields']['ad'] == 5


@pytest.mark.parametrize('form', ['csv', 'parquet'])
def test_markers_of_missing_values(tmp_path, form):
    rows = range(ROWS)
    frame = table(
        ad=pl.Series([['x', 'NA', '\\N', 'y'][i % 4] for i in rows]),
        price=pl.Series([['1.5', 'NA', '-', '-999.0', '2.5'][i % 5] for i in rows]),
    )
    path = tmp_path / f't.{form}'
    getattr(frame, f'write_{form}')(path)
    found = prepare(tmp_path, path, r"--config.dataset.missing=('NA','\\N','-','-999')")
    assert found['fields']['ad'] == 4
    assert found['missing_numbers'] == {'price': 0.6}
    assert "column 'price': expected a number, found 'NA'" in refused(tmp_path, path)
    schema = tmp_path / 'schema.toml'
    schema.write_text(
        'label = "click"\n[columns.ad]\nkind = "categorical"\nmissing = ["NA"]\n'
        '[columns.price]\nkind = "numeric"\nmissing = ["NA", "-"]\n'
    )
    flag = (
        *SMALL_FLAGS,
        '--dataset=table',
        f'--config.dataset.train={path}',
        f'--config.dataset.schema={schema}',
    )
    found = dlf_jax.prepare(config_of(*flag), tmp_path / 'data')
    assert found['fields']['ad'] == 5
    assert found['missing_numbers'] == {'price': 0.4}


LABELS = {
    '0 and 1': (['0', '1'], ()),
    'decimals': (['0.0', '1.0'], ()),
    'True': (['False', 'True'], ()),
    'TRUE': (['FALSE', 'TRUE'], ()),
    'yes': (['no', 'Yes'], ()),
    'y': (['n', 'y'], ()),
    '-1': (['-1', '1'], ()),
    'named': (['lost', 'won'], ('--config.dataset.positive=won',)),
    'named number': (['3', '5.0'], ('--config.dataset.positive=5',)),
    'soft': (['0', '1'], ('--config.dataset.soft_labels=True',)),
}


@pytest.mark.parametrize('form', LABELS)
def test_forms_of_a_label(tmp_path, form):
    values, keys = LABELS[form]
    clicks = table()['click']
    texts = pl.Series([values[click] for click in clicks])
    table(click=texts).write_csv(tmp_path / 't.csv')
    found = prepare(tmp_path, tmp_path / 't.csv', *keys)
    assert rows_of(found)['label'].tolist() == clicks.to_list()


def test_a_boolean_label(tmp_path):
    clicks = table()['click']
    table(click=clicks.cast(pl.Boolean)).write_parquet(tmp_path / 't.parquet')
    assert rows_of(prepare(tmp_path, tmp_path / 't.parquet'))['label'].tolist() == clicks.to_list()


@pytest.mark.parametrize(
    ('line', 'keys', 'message'),
    [
        ('2', (), "line 5: label 'click': expected 0 or 1, found 2; in training, config.dataset.positive"),
        ('0.3', (), 'expected 0 or 1, found 0.3; training with config.dataset.soft_labels=True takes shares'),
        ('', (), "line 5: label 'click': expected 0 or 1, found an empty field"),
        ('', ('--config.dataset.positive=1',), 'expected a value, found an empty field'),
        ('1.2', ('--config.dataset.soft_labels=True',), 'expected a number from 0 to 1, found 1.2'),
        ('-1', (), "label 'click': both 0 and -1"),
    ],
)
def test_labels_that_cannot_be(tmp_path, line, keys, message):
    texts = [str(click) for click in table()['click']]
    texts[3] = line
    table(click=pl.Series(texts)).write_csv(tmp_path / 't.csv')
    assert message in refused(tmp_path, tmp_path / 't.csv', *keys)


def test_labels_of_two_conventions_in_two_files(tmp_path):
    click = table()['click']
    table(click=click).write_csv(tmp_path / 'one.csv')
    table(click=2 * click - 1).write_csv(tmp_path / 'two.csv')
    message = refused(tmp_path, f'{tmp_path / "one.csv"},{tmp_path / "two.csv"}')
    assert 'two.csv, line' in message
    assert "label 'click': both 0 and -1" in message


def test_soft_labels_train_and_are_evaluated(tmp_path, caplog):
    caplog.set_level(logging.INFO, 'dlf_jax')
    draw = np.random.default_rng(0)
    frame = table(rows=2000)
    rate = np.where(frame['ad'] == 'x', 0.8, 0.1) + draw.uniform(-0.1, 0.1, 2000)
    frame.with_columns(click=pl.Series(rate)).write_csv(tmp_path / 't.csv')
    keys = ('--config.optimizer.learning_rate=0.05', '--config.training.monitor=logloss')
    result = train(
        tmp_path, *flags(tmp_path / 't.csv', '--config.dataset.soft_labels=True', *keys),
        '--config.training.epochs=10',
    )  # fmt: skip
    assert result['valid']['auc'] > 0.99
    entropy = -np.mean(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert result['valid']['logloss'] == pytest.approx(entropy, abs=0.05)
    assert 'auc and gauc count those above 0.5 as clicks' in caplog.text
    caplog.clear()
    found = evaluate(tmp_path, tmp_path / 't.csv')
    assert 'auc and gauc count those above 0.5 as clicks' in caplog.text
    assert found['logloss'] == pytest.approx(entropy, abs=0.05)


@pytest.mark.parametrize('form', ['csv', 'parquet'])
@pytest.mark.parametrize('duty', ['time', 'group', 'weight', 'feature and number'])
def test_a_column_with_two_duties(tmp_path, form, duty):
    path = tmp_path / f't.{form}'
    getattr(table(price=pl.Series(range(ROWS)) % 50 + 1), f'write_{form}')(path)
    keys = {
        'time': ('--config.dataset.split=time', '--config.dataset.time=price'),
        'group': ('--config.dataset.group=price',),
        'weight': ('--config.dataset.weight=price',),
        'feature and number': ('--config.dataset.group=ad',),
    }[duty]
    keys += ('--config.dataset.treatment=none',)
    found = prepare(tmp_path, path, *keys)
    prices = rows_of(found)['numeric'][:, 0]
    assert len(np.unique(prices)) == 50
    if form == 'parquet':
        # The records are those of the CSV, so training is the same.
        return
    train(tmp_path, *flags(path, *keys), '--config.training.epochs=1')
    assert evaluate(tmp_path, path)['rows'] == ROWS


def test_a_time_of_dates_is_no_number(tmp_path):
    day = pl.Series([datetime.date(2026, 1, 1 + i % 20) for i in range(ROWS)])
    for name in ('t.csv', 't.parquet'):
        frame = table(price=day)
        frame.write_csv(tmp_path / name) if name == 't.csv' else frame.write_parquet(tmp_path / name)
        keys = ('--config.dataset.split=time', '--config.dataset.time=price')
        assert "column 'price': expected a number, found '2026-01-01'" in refused(
            tmp_path, tmp_path / name, *keys
        )
        found = prepare(tmp_path, tmp_path / name, *keys, categorical=('ad', 'price'), numeric=())
        assert found['fields']['price'] > 10


def test_a_column_twice(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array([0, 1] * 50), pa.array(['x', 'y'] * 50), pa.array(['x', 'y'] * 50)]
    pq.write_table(pa.Table.from_arrays(columns, ['click', 'ad', 'ad']), tmp_path / 't.parquet')
    message = refused(tmp_path, tmp_path / 't.parquet', numeric=())
    assert "t.parquet: column 'ad' is there twice; rename one" in message


def test_a_number_column_of_nulls_is_missing(tmp_path):
    table(price=pl.Series([None] * ROWS)).write_parquet(tmp_path / 'null.parquet')
    table().write_parquet(tmp_path / 'whole.parquet')
    both = f'{tmp_path / "whole.parquet"},{tmp_path / "null.parquet"}'
    found = prepare(tmp_path, both, '--config.dataset.split=random')
    assert 0.45 < found['missing_numbers']['price'] < 0.55
    assert prepare(tmp_path, tmp_path / 'null.parquet')['missing_numbers'] == {'price': 1.0}
    table(ad=pl.Series([None] * ROWS)).write_parquet(tmp_path / 'category.parquet')
    assert prepare(tmp_path, tmp_path / 'category.parquet')['fields']['ad'] == 2


def test_text_numbers_of_parquet(tmp_path):
    table(price=pl.Series(['1.5', '', '2'] * (ROWS // 3))).write_parquet(tmp_path / 't.parquet')
    assert prepare(tmp_path, tmp_path / 't.parquet')['missing_numbers'] == {
        'price': pytest.approx(1 / 3, abs=0.01)
    }


def test_rows_without_a_group(tmp_path):
    user = pl.Series([None if i % 3 == 0 else f'u{i % 7}' for i in range(ROWS)])
    table(user=user).write_csv(tmp_path / 't.csv')
    flag = flags(tmp_path / 't.csv', '--config.dataset.group=user')
    result = train(tmp_path, *flag)
    assert result['valid']['rows_without_group'] == 40
    found = evaluate(tmp_path, tmp_path / 't.csv')
    assert found['rows_without_group'] == 200
    table(user=user).filter(user.is_not_null()).write_csv(tmp_path / 'g.csv')
    grouped = evaluate(tmp_path, tmp_path / 'g.csv')
    assert grouped['gauc'] == pytest.approx(found['gauc'], abs=1e-9)


def test_groups_have_the_identity_of_values(tmp_path):
    user = pl.Series([i % 7 for i in range(ROWS)])
    table(user=user).write_csv(tmp_path / 'int.csv')
    table(user=user.cast(pl.Float64)).write_parquet(tmp_path / 'float.parquet')
    flag = flags(tmp_path / 'int.csv', '--config.dataset.group=user')
    train(tmp_path, *flag)
    found = [evaluate(tmp_path, tmp_path / name) for name in ('int.csv', 'float.parquet')]
    assert found[0]['gauc'] == found[1]['gauc']


def test_hash_buckets_of_more_than_an_id_can_be(tmp_path):
    table().write_csv(tmp_path / 't.csv')
    arguments = ('--mode=prepare', f'--data_dir={tmp_path / "data"}')
    message = fail(*arguments, *flags(tmp_path / 't.csv', '--config.dataset.hash_buckets=3000000000'), code=2)
    assert 'config.dataset.hash_buckets=3000000000: expected at most 2,147,483,645' in message
    # Many buckets take no memory until there is an embedding table.
    found = prepare(tmp_path, tmp_path / 't.csv', '--config.dataset.hash_buckets=2000000000')
    assert found['vocabulary'] == 2_000_000_002
    message = refused(
        tmp_path, tmp_path / 't.csv', '--config.dataset.hash_buckets=2000000000', categorical=('ad', 'price'),
        numeric=(),
    )  # fmt: skip
    assert 'ids are 32-bit integers' in message


def test_a_table_that_fits_no_device_is_refused_before_training(tmp_path):
    table().write_csv(tmp_path / 't.csv')
    done = finish(
        command(
            *flags(tmp_path / 't.csv', '--config.dataset.hash_buckets=2000000000'),
            f'--data_dir={tmp_path / "data"}', f'--workdir={tmp_path / "run"}',
        )
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert 'Traceback' not in done.stderr
