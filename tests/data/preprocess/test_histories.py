"""Histories: which values are kept, where they lie, and that they are the target field's."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from dlf_jax.data import schema_files
from dlf_jax.data.preprocess import growing
from dlf_jax.data.preprocess.joined_encoder import JoinedEncoder
from dlf_jax.data.readers import columns
from dlf_jax.data.readers.frames import FrameTable
from dlf_jax.data.schema import History
from dlf_jax.errors import UserError
from dlf_jax.server.rows import RowReader
from tests.data.preprocess.test_encoder import fitted
from tests.data.preprocess.test_growing import grown
from tests.data.preprocess.test_local import prepared
from tests.data.test_builders import rows_of
from tests.data.test_schema_files import DEFAULTS

LENGTH = 3
TOML = """
label = "click"
[columns.item]
kind = "categorical"
min_count = 2
missing = ["?"]
[columns.kind]
kind = "categorical"
[columns.seen]
kind = "multi-valued"
ordered = true
shares = "item"
separator = " "
length = 3
[columns.kinds]
kind = "multi-valued"
ordered = true
shares = "kind"
separator = " "
length = 3
beside = "seen"
[columns.tags]
kind = "multi-valued"
separator = " "
"""
# Of each row: item, items seen before with their kinds, tags.
ROWS = [
    ('a', 'b c', 'k l', 'x'),
    ('b', 'a b c a b', 'm k l m k', ''),
    # Values that are missing keep their places, or a row of them alone is an empty history.
    ('c', 'a  ?', 'm  k', 'x y'),
    ('a', '? ', ' ', 'y'),
    ('a', None, None, None),
    # Seen once in each column is twice; seen once in all is too rare.
    ('d', 'd rare', 'k other', 'x'),
    (None, 'c', 'l', 'x'),
]


def frame(lists):
    made = pl.DataFrame(ROWS, schema=['item', 'seen', 'kinds', 'tags'], orient='row')
    made = made.with_columns(kind=pl.lit('k'), click=pl.Series([0, 1, 0, 1, 0, 1, 1]))
    split = pl.col('seen', 'kinds').str.split(' ')
    return made.with_columns(split) if lists else made


def schema_of(folder, text=TOML, **defaults):
    (folder / 's.toml').write_text(text)
    return schema_files.load(str(folder / 's.toml'), {**DEFAULTS, 'min_count': 1, **defaults})


def chunk_of(schema, data):
    (chunk,) = FrameTable(data).chunks(columns.columns_of(schema, labelled=False))
    return chunk


def expected(encoder, field, owner):
    """The latest values of each row by plain Python, at the end."""
    ids = {value: 2 + i for i, value in enumerate(encoder.vocabularies[owner]['value'])}
    found = []
    for row in frame(lists=True)[field].to_list():
        values = [None if value in ('', '?') else value for value in row or []]
        kept = values[-LENGTH:] if any(values) else []
        offset = encoder.schema.offsets[owner]
        told = [offset + (1 if value is None else ids.get(value, 0)) for value in kept]
        found.append([-1] * (LENGTH - len(told)) + told)
    return found


@pytest.mark.parametrize('lists', [False, True])
def test_the_latest_values_are_kept_in_their_places(tmp_path, lists):
    schema = schema_of(tmp_path)
    data = frame(lists)
    encoder = fitted(schema, [chunk_of(schema, data)])
    assert set(encoder.vocabularies['item']['value']) == {'a', 'b', 'c', 'd'}
    features, unknown = encoder.transform(chunk_of(schema, data))
    histories = features['bags'][:, : 2 * LENGTH]
    wanted = [
        [*seen, *kinds]
        for seen, kinds in zip(
            expected(encoder, 'seen', 'item'), expected(encoder, 'kinds', 'kind'), strict=True
        )
    ]
    assert histories.tolist() == wanted
    # Row 1: of five the latest three; a kind stands where its item does.
    assert (histories[1, :3] == features['categorical'][[2, 0, 1], 0]).all()
    assert (histories[3:5] == -1).all()
    assert unknown['seen'].tolist() == [1, 3 + 3 + 3 + 2 + 1 - 1]
    # Tags are not ordered: they begin with the first column, and a row without any says so.
    tag = encoder.schema.offsets['tags']
    assert features['bags'][1, 6:8].tolist() == [tag + 1, -1]
    # The encoder of requests makes the same.
    rows = RowReader(encoder.schema, {}).rows(data.drop('click').to_dicts())
    found = JoinedEncoder(encoder).encode(rows)
    np.testing.assert_array_equal(found.features['bags'], features['bags'])
    place = [field.name for field in encoder.schema.fields].index('seen')
    assert found.missing[:, place].tolist() == [False, False, False, True, True, False, False]
    assert found.unknown[:, place].tolist() == [False] * 5 + [True, False]


def test_values_that_training_did_not_have_are_unknown_in_both_fields(tmp_path):
    schema = schema_of(tmp_path)
    encoder = fitted(schema, [chunk_of(schema, frame(False))])
    new = frame(False)[:1].with_columns(item=pl.lit('new'), seen=pl.lit('new a'))
    features, _ = encoder.transform(chunk_of(schema, new))
    assert features['categorical'][0, 0] == features['bags'][0, 1] == 0


def test_hashed_histories_have_the_ids_of_hashed_targets(tmp_path):
    schema = schema_of(tmp_path, TOML.replace('min_count = 2', 'hash_buckets = 50'))
    encoder = fitted(schema, [chunk_of(schema, frame(False))])
    assert [field.hash_buckets for field in encoder.schema.fields] == [50, 0, 50, 0, 0]
    features, _ = encoder.transform(chunk_of(schema, frame(False)))
    a, b, c = features['categorical'][:3, 0]
    assert features['bags'][:3, :3].tolist() == [[-1, b, c], [c, a, b], [a, 1, 1]]
    rows = RowReader(encoder.schema, {}).rows(frame(False).drop('click').to_dicts())
    found = JoinedEncoder(encoder).encode(rows).features
    np.testing.assert_array_equal(found['bags'], features['bags'])


@pytest.mark.parametrize('kind', ['csv', 'parquet'])
def test_records_hold_histories(tmp_path, kind):
    path = tmp_path / f'own.{kind}'
    data = pl.concat([frame(kind == 'parquet')] * 10)
    if kind == 'csv':
        data.write_csv(path)
    else:
        data.write_parquet(path)
    (tmp_path / 's.toml').write_text(TOML)
    builder = prepared(path)
    found = rows_of(builder, 'train')['bags'][:7, :LENGTH]
    assert found.tolist() == expected(builder.encoder(), 'seen', 'item')


def test_a_schema_knows_its_histories(tmp_path):
    schema = schema_of(tmp_path)
    assert schema.histories == (History(('seen', 'kinds'), ('item', 'kind')),)
    assert type(schema).from_json(schema.to_json()) == schema
    apart = schema_of(tmp_path, TOML.replace('beside = "seen"\n', ''))
    assert apart.histories == (History(('seen',), ('item',)), History(('kinds',), ('kind',)))
    # Without a target it is a sequence of its own, and no history.
    alone = schema_of(tmp_path, TOML.replace('shares = "kind"\n', '').replace('beside = "seen"\n', ''))
    assert alone.histories == (History(('seen',), ('item',)),)
    long = schema_of(tmp_path, TOML.replace('length = 3\n', ''))
    assert [field.length for field in long.bags] == [50, 50, 20]


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('ordered = true', 'ordered = "yes"', "field 'seen': ordered='yes': true or false"),
        (
            'kind = "categorical"',
            'kind = "categorical"\nordered = true',
            "'item': ordered=true is for multi-v",
        ),
        ('beside = "seen"', 'beside = "tags"', "field 'kinds' is beside 'tags': both must be ordered"),
        ('beside = "seen"', 'beside = "nothing"', "field 'kinds' is beside 'nothing'"),
        ('shares = "kind"', '', "field 'kinds' is beside 'seen': both must be ordered, and each must share"),
        ('length = 3', 'length = 4', "fields 'kinds' and 'seen' are beside each other, so length .* 3 and 4"),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, message):
    assert old in TOML
    with pytest.raises(UserError, match=message):
        schema_of(tmp_path, TOML.replace(old, new, 1))


def test_a_trained_model_goes_on_with_histories_of_the_same_places(tmp_path):
    schema = schema_of(tmp_path)
    before = fitted(schema, [chunk_of(schema, frame(False))]).schema
    growing.check_fits(before, schema, 'run')
    fields = tuple(
        dataclasses.replace(field, length=4) if field.ordered else field for field in schema.fields
    )
    with pytest.raises(UserError, match="field 'seen': length 3 before, 4 now"):
        growing.check_fits(before, dataclasses.replace(schema, fields=fields), 'run')


def test_new_values_follow_in_both_fields(tmp_path):
    schema = schema_of(tmp_path)
    before = fitted(schema, [chunk_of(schema, frame(False))])
    later = frame(False).with_columns(item=pl.lit('new'), seen=pl.lit('a new'))
    after = grown(before, chunk_of(schema, later), schema)
    old, new = before.vocabularies['item']['value'], after.vocabularies['item']['value']
    assert new.to_list() == [*old, 'new']
    features, _ = after.transform(chunk_of(schema, later))
    assert (features['bags'][:, LENGTH - 1] == features['categorical'][:, 0]).all()
    assert features['categorical'][0, 0] == 2 + len(old)
