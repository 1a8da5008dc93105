"""The encoder: ids, numbers, and what it refuses."""

import dataclasses
import functools
import json

import chex
import numpy as np
import polars as pl
import pytest

from dlf_jax.data.preprocess import encoder as encoders
from dlf_jax.data.preprocess import fitting, statistics
from dlf_jax.data.readers import columns
from dlf_jax.data.readers.chunk import Chunk
from dlf_jax.data.schema import Field, Schema, number_field, text_field
from dlf_jax.errors import UserError


def chunk(**columns):
    return Chunk(pl.DataFrame(columns), 'made.csv', 2)


TRAIN = chunk(
    label=[0.0, 1.0, 1.0, 0.0, 1.0, 0.0],
    user=['b', 'a', 'a', None, 'c', 'b'],
    ad=['x', 'x', 'y', 'x', 'x', 'x'],
    price=[1.0, 2.0, 3.0, None, 2.0, 2.0],
)
SCHEMA = Schema(
    (text_field('user'), number_field('price', 'standard'), text_field('ad', min_count=2)), 'label'
)


def fitted(schema, chunks):
    """Encoder fitted to consecutive training chunks."""
    first, found = 0, []
    for number, data in enumerate(chunks):
        rows = np.arange(data.frame.height)
        found.append(statistics.measure_chunk(schema, number, data, rows, first))
        first += data.frame.height
    nothing = statistics.Statistics(0, {}, (), {})
    return fitting.fit(schema, functools.reduce(statistics.Statistics.merge, found) if found else nothing)


def counts(unknown):
    return {name: found.tolist() for name, found in unknown.items()}


def test_ids_are_by_frequency_offset_into_one_table():
    encoder = fitted(SCHEMA, [TRAIN])
    assert encoder.schema.vocabulary == 5 + 3
    assert encoder.schema.offsets == {'user': 0, 'ad': 5}
    rows, unknown = encoder.transform(TRAIN)
    chex.assert_shape(rows['categorical'], (6, 2))
    assert rows['categorical'].dtype == np.int32
    assert rows['numeric'].dtype == np.float32
    # a and b occur twice each: ties are broken by value. None is 1, the rare y is out of vocabulary.
    assert rows['categorical'].tolist() == [[3, 7], [2, 7], [2, 5], [1, 7], [4, 7], [3, 7]]
    assert counts(unknown) == {'user': [0, 6], 'ad': [1, 6]}


def test_unseen_values_and_missing_ones():
    encoder = fitted(SCHEMA, [TRAIN])
    rows, unknown = encoder.transform(chunk(user=['new', None], ad=[None, 'q'], price=[None, 5.0]))
    assert rows['categorical'].tolist() == [[0, 6], [1, 5]]
    assert counts(unknown) == {'user': [1, 2], 'ad': [1, 2]}
    assert rows['numeric'][0, 0] == 0


def test_fit_does_not_depend_on_the_cut_into_chunks():
    whole = fitted(SCHEMA, [TRAIN])
    parts = fitted(SCHEMA, [dataclasses.replace(TRAIN, frame=TRAIN.frame[i : i + 1]) for i in range(6)])
    for name in ('user', 'ad'):
        assert whole.vocabularies[name].equals(parts.vocabularies[name])
    assert whole.moments['price'].mean == pytest.approx(parts.moments['price'].mean)
    assert whole.moments['price'].deviation == pytest.approx(parts.moments['price'].deviation)


@pytest.mark.parametrize(
    ('treatment', 'expected'),
    [
        ('none', [1, 2, 3, 2, 2, 2]),
        ('standard', (np.array([1, 2, 3, 2, 2, 2]) - 2) / np.std([1, 2, 3, 2, 2])),
        ('minmax', [0, 0.5, 1, 0.5, 0.5, 0.5]),
    ],
)
def test_treatments_of_numbers(treatment, expected):
    schema = Schema((number_field('price', treatment),), 'label')
    rows, _ = fitted(schema, [TRAIN]).transform(TRAIN)
    np.testing.assert_allclose(rows['numeric'][:, 0], expected, rtol=1e-6)


def test_log2_makes_categories():
    schema = Schema((number_field('count', 'log2'),), 'label')
    numbers = [-3.0, 0.0, 1.0, 2.0, 3.0, 100.0, 101.0, None]
    data = chunk(count=numbers)
    encoder = fitted(schema, [data])
    found = columns.categories(data, encoder.schema.fields[0]).to_list()
    # floor(log(100)^2) = floor(log(101)^2) = 21
    assert found == [-3, 0, 1, 2, 1, 21, 21, None]


def test_constant_number_does_not_divide_by_zero():
    for treatment in ('standard', 'minmax'):
        schema = Schema((number_field('x', treatment),), 'label')
        rows, _ = fitted(schema, [chunk(x=[4.0, 4.0])]).transform(chunk(x=[4.0]))
        assert rows['numeric'].tolist() == [[0.0]]


def test_max_size_keeps_the_most_frequent():
    schema = Schema((text_field('user', max_size=1),), 'label')
    encoder = fitted(schema, [TRAIN])
    assert encoder.vocabularies['user']['value'].to_list() == ['a']


@pytest.mark.parametrize(
    ('options', 'expected'),
    # a is there three times, b and c twice, d once.
    [({}, 1 / 8), ({'min_count': 2}, 5 / 8), ({'max_size': 1}, 5 / 8), ({'max_size': 2}, 3 / 8)],
)
def test_the_share_of_unknown_values_to_expect(options, expected):
    encoder = fitted(Schema((text_field('user', **options),), 'label'), [chunk(user=list('aaabbccd'))])
    assert encoder.expected_unknown == {'user': pytest.approx(expected)}


def test_a_list_of_one_value_is_that_value():
    data = chunk(user=[['a'], [], None, ['b'], ['a']])
    rows, _ = fitted(Schema((text_field('user'),), 'label'), [data]).transform(data)
    assert rows['categorical'][:, 0].tolist() == [2, 1, 1, 3, 2]
    several = chunk(user=[['a'], ['a', 'b']])
    with pytest.raises(UserError, match=r"row 3: column 'user': expected one value a row, found lists of"):
        fitted(Schema((text_field('user'),), 'label'), [several])


def test_saved_and_loaded_transforms_the_same(tmp_path):
    encoder = fitted(SCHEMA, [TRAIN])
    encoder.save(tmp_path)
    loaded = encoders.Encoder.load(tmp_path)
    chex.assert_trees_all_equal(loaded.transform(TRAIN)[0], encoder.transform(TRAIN)[0])
    assert loaded.schema == encoder.schema


def test_a_field_without_values_survives_saving(tmp_path):
    schema = Schema((text_field('empty'), text_field('user')), 'label')
    data = chunk(empty=pl.Series([None, None], dtype=pl.String), user=['a', 'b'])
    fitted(schema, [data]).save(tmp_path)
    assert encoders.Encoder.load(tmp_path).schema.fields[0].size == 2


def test_load_says_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match=r'encoder.json: missing'):
        encoders.Encoder.load(tmp_path)
    fitted(SCHEMA, [TRAIN]).save(tmp_path)
    path = tmp_path / 'encoder.json'
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({**saved, 'version': 99}))
    with pytest.raises(UserError, match='newer dlf_jax'):
        encoders.Encoder.load(tmp_path)
    path.write_text(json.dumps(saved)[:-30])
    with pytest.raises(UserError, match='cannot be read'):
        encoders.Encoder.load(tmp_path)
    path.write_text(json.dumps(saved))
    (tmp_path / 'vocabulary.parquet').write_bytes(b'PAR1')
    with pytest.raises(UserError, match=r'vocabulary.parquet: cannot be read'):
        encoders.Encoder.load(tmp_path)


def test_bad_values_are_named_by_line():
    with pytest.raises(UserError, match=r"made.csv, row 3: column 'x': expected a finite"):
        fitted(Schema((number_field('x', 'none'),), 'label'), [chunk(x=[1.0, np.inf])])
    with pytest.raises(UserError, match=r"row 3: label 'y': expected 0 or 1, found 2"):
        columns.labels(chunk(y=['1', '2']), Schema((), 'y'))
    with pytest.raises(UserError, match='found an empty field'):
        columns.labels(chunk(y=['1', None]), Schema((), 'y'))
    with pytest.raises(UserError, match='no rows'):
        fitted(SCHEMA, [])


def test_impossible_fields_are_refused():
    with pytest.raises(ValueError, match='kind'):
        Field('x', 'text')
    with pytest.raises(ValueError, match='treatment'):
        Field('x', 'numeric', 'cubic')
    with pytest.raises(ValueError, match='cannot have'):
        Field('x', 'categorical', 'standard')


def test_an_encoder_of_before_values_had_one_text(tmp_path):
    """Its vocabulary may hold floats as they were printed, and its missing numbers were 0 under `none`."""
    schema = Schema((text_field('user'), number_field('price', 'none')), 'label')
    users = ['7.0', '7.0', '7.0', 'x', 'x', '8']
    fitted(schema, [chunk(user=users, price=[1.0, 2.0, 3.0, None, 2.0, 2.0])]).save(tmp_path)
    path = tmp_path / 'encoder.json'
    saved = json.loads(path.read_text())
    for key in ('families', 'expected_unknown'):
        del saved[key]
    for field in saved['schema']['fields']:
        for key in ('missing', 'verbatim', 'out_of_range'):
            del field[key]
    path.write_text(json.dumps({**saved, 'version': 2}))
    vocabulary = pl.read_parquet(tmp_path / 'vocabulary.parquet')
    vocabulary.with_columns(pl.col('value').replace('7', '7.0')).write_parquet(
        tmp_path / 'vocabulary.parquet'
    )
    encoder = encoders.Encoder.load(tmp_path)
    rows, unknown = encoder.transform(chunk(user=['7', '7.0', '7.00', 'x', '8'], price=[None] * 4 + [1.5]))
    assert rows['categorical'][:, 0].tolist() == [2, 2, 2, 3, 4]
    assert rows['numeric'][:, 0].tolist() == [0, 0, 0, 0, 1.5]
    assert counts(unknown) == {'user': [0, 5]}


CURVES = [
    ('quantile', {}),
    ('piecewise', {'buckets': 5}),
    ('periodic', {'frequencies': 2}),
    ('auto', {'buckets': 5}),
]


@pytest.mark.parametrize(('treatment', 'options'), CURVES, ids=[name for name, _ in CURVES])
def test_curves_survive_saving_and_clip(treatment, options, tmp_path):
    draw = np.random.default_rng(0)
    prices = [None if i % 7 == 0 else float(x) for i, x in enumerate(draw.lognormal(size=500))]
    train = chunk(price=prices)
    encoder = fitted(Schema((number_field('price', treatment, options),), 'label'), [train])
    encoder.save(tmp_path)
    again = encoders.Encoder.load(tmp_path)
    rows = encoder.transform(train)[0]['numeric']
    np.testing.assert_array_equal(again.transform(train)[0]['numeric'], rows)
    assert again.schema == encoder.schema
    assert np.isnan(rows[:, 0]).tolist() == [price is None for price in prices]
    there = [price for price in prices if price is not None]
    order = np.argsort(there, kind='stable')
    assert (np.diff(rows[~np.isnan(rows)][order]) >= 0).all()
    beyond = encoder.transform(chunk(price=[-1e100, 1e100, None]))[0]['numeric'][:, 0]
    assert beyond[0] == np.nanmin(rows)
    assert beyond[1] == np.nanmax(rows)
    assert np.isnan(beyond[2])


@pytest.mark.parametrize('treatment', ['standard', 'quantile', 'piecewise'])
@pytest.mark.parametrize('fill', ['own', 'mean'])
def test_a_missing_number(treatment, fill):
    options = {'buckets': 2, 'fill': fill}
    schema = Schema((number_field('price', treatment, options),), 'label')
    never = fitted(schema, [chunk(price=[1.0, 2.0, 3.0, 6.0])])
    lacking = chunk(price=pl.Series([None], dtype=pl.Float64))
    some = fitted(schema, [chunk(price=[1.0, 2.0, 3.0, 6.0]), lacking])
    # What no training row lacked has no value that was learnt.
    mean = never.transform(chunk(price=[3.0]))[0]['numeric'][0, 0]
    assert never.transform(lacking)[0]['numeric'][0, 0] == mean
    found = some.transform(lacking)[0]['numeric'][0, 0]
    assert np.isnan(found) if fill == 'own' else found == mean


def test_an_unknown_fill_is_refused():
    with pytest.raises(ValueError, match=r"fill 'median' is none of"):
        number_field('x', 'standard', {'fill': 'median'})
