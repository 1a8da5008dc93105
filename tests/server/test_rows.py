"""A request's rows have the ids and numbers of the encoder that trained; columns made of others."""

import itertools
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dlf_jax
from dlf_jax.data.builders.avazu import RAW_FIELDS
from dlf_jax.data.preprocess.dictionary import Dictionary, keys_of
from dlf_jax.data.preprocess.joined_dictionaries import JoinedDictionaries
from dlf_jax.data.preprocess.joined_encoder import JoinedEncoder, TypedRows
from dlf_jax.data.readers import columns
from dlf_jax.data.readers.frames import FrameTable
from dlf_jax.data.values import _PERHAPS, PARTS, canonical, perhaps_rewritten
from dlf_jax.server.rows import BadRequest, RowReader
from dlf_jax.server.scorer import load, plan
from dlf_jax.workdir import Workdir
from tests.conftest import SMALL_RUN
from tests.server.conftest import table

TEXTS = [
    'u1', 'new', '', 'NaN', 'nan', 'NA', '-1', '-1.0', '-0', '-0\n', '1.0', '1e5', '1.5e+3', 'True', 'FALSE',
    'x\n1.0', '2026-01-31 00:00', '2026-02-31T00:00', '0x1e-5', 'ä', 'a' * 40, '1.1', '1.10',
    'True\n', '\0', None,
]  # fmt: skip


@pytest.fixture(scope='module')
def encoder(workdir):
    return Workdir(workdir).encoder()


@pytest.fixture(scope='module')
def read(encoder):
    return RowReader(encoder.schema, encoder.families).rows


def same(encoder, frame, rows):
    (chunk,) = FrameTable(frame).chunks(columns.columns_of(encoder.schema, labelled=False))
    expected, _ = encoder.transform(chunk)
    found = JoinedEncoder(encoder).encode(rows).features
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
    return found


@pytest.mark.parametrize('count', [1, 2, 100])
def test_features_are_the_encoders(encoder, read, count):
    rows = table(count, 3)
    same(encoder, rows, read(rows.to_dicts()))


def test_texts_of_all_forms(encoder, read):
    """In every text column, so that each field's own rules are tried."""
    rows = table(len(TEXTS), 4)
    for name in ('user', 'item', 'version', 'url', 'history', 'links'):
        rows = rows.with_columns(pl.Series(name, TEXTS, pl.String))
    rows = rows.with_columns(
        tags=pl.Series([[text, 't1'] for text in TEXTS]), zip=pl.Series(TEXTS, dtype=pl.String)
    )
    found = same(encoder, rows, read(rows.to_dicts()))
    assert len(np.unique(found['categorical'][:, 0])) > 2


def test_floats_are_the_encoders(encoder, read):
    """In columns of text and in lists, also beside texts; those with a separator hold one a row."""
    draw = np.random.default_rng(5)
    floats = [1.0, -0.0, 1.5, 1e-7, 1e15, 0.1, *draw.normal(size=14)]
    rows = table(20, 5)
    for name in ('user', 'item', 'version', 'url', 'history', 'links', 'zip'):
        rows = rows.with_columns(pl.Series(name, floats, pl.Float64))
    rows = rows.with_columns(tags=pl.Series([[value, 2.5] for value in floats], dtype=pl.List(pl.Float64)))
    same(encoder, rows, read(rows.to_dicts()))
    mixed = table(2, 5).to_dicts()
    texts = [{**row, 'tags': ['t1', '1.5', None, '7']} for row in mixed]
    values = [{**row, 'tags': ['t1', 1.5, None, 7]} for row in mixed]
    found, expected = read(values), read(texts)
    assert found.lists == expected.lists
    assert values[0]['tags'] == ['t1', 1.5, None, 7]


def seconds(function, *arguments):
    """Time of a call, the shortest of three."""
    found = []
    for _ in range(3):
        start = time.perf_counter()
        function(*arguments)
        found.append(time.perf_counter() - start)
    return min(found)


def test_many_values_of_another_type_are_read_at_once(read):
    """Else one small request keeps the server from all others, probes too."""
    (row,) = table(1, 3).to_dicts()
    assert seconds(read, [{**row, 'tags': [1.5] * 100_000}]) < 2
    # One by one they would take 60 times as long.
    plain = seconds(read, [row] * 1024)
    assert seconds(read, [{**row, 'user': 1.5, 'url': 2.5}] * 1024) < 20 * plain
    assert seconds(read, [{**row, 'price': '1.5', 'weight': '50'}] * 1024) < 20 * plain


@pytest.mark.parametrize(
    ('column', 'good', 'bad', 'part'),
    [
        ('tags', [1.5] * 50, [*[1.5] * 20, 2.0**53, 2.0**54], 'category 9007199254740992 is rounded'),
        ('history', 1.5, 2.0**53, 'category 9007199254740992 is rounded'),
        ('user', 1.5, 2.0**53, 'category 9007199254740992 is rounded'),
        ('user', 1.5, [2.0**53], 'category 9007199254740992 is rounded'),
        ('price', '1.5', 'cheap', "expected a number, found 'cheap'"),
        ('price', '1.5', [1], 'expected a number, found a list'),
    ],
)
@pytest.mark.parametrize('at', [0, 1, 600, 999])
def test_one_of_many_values_that_cannot_be(read, column, good, bad, part, at):
    """The first of two is named, soon, however many good ones are before it."""
    (row,) = table(1, 3).to_dicts()
    rows = [{**row, column: good} for _ in range(1000)]
    rows[at] = {**row, column: bad}
    rows[-1] = {**row, column: bad}
    start = time.perf_counter()
    with pytest.raises(BadRequest, match=f'row {at + 1}: column {column!r}: .*{part}'):
        read(rows)
    assert time.perf_counter() - start < 1


def test_what_was_unknown_is_marked(encoder, read):
    rows = table(50, 6).with_columns(user=pl.Series((['u1', 'nobody', None, 'NaN', '']) * 10))
    found = JoinedEncoder(encoder).encode(read(rows.to_dicts()))
    assert found.unknown[:5, 0].tolist() == [False, True, False, False, False]
    assert found.missing[:5, 0].tolist() == [False, False, True, True, True]
    price = [field.name for field in encoder.schema.fields].index('price')
    assert found.missing[:, price].tolist() == rows['price'].is_null().to_list()


def test_joined_rows_are_those_of_each(encoder, read):
    parts = [table(n, n) for n in (1, 5, 2)]
    same(encoder, pl.concat(parts), TypedRows.joined([read(part.to_dicts()) for part in parts]))


def test_joined_dictionaries_find_what_each_finds():
    draw = np.random.default_rng(0)
    sizes = [0, 1, 3, 700, 5000]
    held = [[f'{i}-{n}' for n in draw.permutation(10_000)[:size]] for i, size in enumerate(sizes)]
    dictionaries = [Dictionary(pl.Series(values, dtype=pl.String)) for values in held]
    joined = JoinedDictionaries(dictionaries)
    asked = pl.Series([f'{i}-{n}' for n, i in itertools.product(range(2000), range(len(sizes)))])
    found = joined.find(keys_of(asked).reshape(-1, len(sizes)), np.arange(len(sizes)))
    for i, dictionary in enumerate(dictionaries):
        column = asked.gather_every(len(sizes), i)
        np.testing.assert_array_equal(found[:, i], dictionary.find(column))
    assert (found[:, 3] >= 0).sum() > 100
    assert JoinedDictionaries([]).find(np.zeros((2, 0), np.uint64), np.zeros(0, np.int64)).shape == (2, 0)


def test_texts_that_are_left_alone_certainly_are():
    texts = [text or '' for text in TEXTS]
    left = set(range(len(texts))) - set(perhaps_rewritten(texts))
    assert 0 in left
    for text in {texts[i] for i in left} - {'', 'NaN', 'nan'}:
        assert canonical(pl.Series([text])).to_list() == [text]
    assert perhaps_rewritten(['a', 'b']) == []


@given(st.from_regex(_PERHAPS))
def test_what_might_be_rewritten_has_one_of_the_parts(text):
    assert any(part in text for part in PARTS)
    assert perhaps_rewritten(['a', text, 'b']) == [1]


def test_batches_are_those_that_take_the_least_time():
    # A row more costs 1, a batch 10: 9 rows are cheaper filled up, 17 in two.
    first = plan({size: 10 + size for size in (1, 8, 32)})
    assert len(first) == 33
    assert first[1] == 1
    assert first[8] == 8
    assert first[32] == 32
    assert first[7] == 8
    assert first[9] == 8
    assert first[25] == 32
    # Where rows cost next to nothing, one batch for all.
    assert plan({1: 1.0, 4: 1.1})[1:] == [1, 4, 4, 4]
    # Where only rows do, nothing is filled up.
    first = plan({1: 1.0, 8: 8.0})
    assert [first[n] for n in (3, 8)] == [1, 8]


def test_a_column_that_the_dataset_makes_of_others(tmp_path, data_dir):
    """Avazu's hour, in a request as in a frame."""
    draw = np.random.default_rng(0)
    values = {'click': draw.integers(0, 2, 600), **{name: draw.integers(0, 5, 600) for name in RAW_FIELDS}}
    values['hour'] = 14102100 + draw.integers(0, 24, 600)
    rows = pl.DataFrame(values)
    rows.write_csv(tmp_path / 'train.csv')
    keys = {
        **SMALL_RUN, 'dataset.name': 'avazu', 'dataset.train': str(tmp_path / 'train.csv'),
        'dataset.hour': 'parts', 'dataset.allow_modified': True, 'optimizer.learning_rate': 0.02,
    }  # fmt: skip
    dlf_jax.train(dlf_jax.load_config(model='mlp', overrides=keys), tmp_path / 'run', data_dir)
    scorer = load(tmp_path / 'run', (8,))
    found = scorer.score(scorer.reader.rows(rows[:20].to_dicts())).probabilities
    np.testing.assert_allclose(found, dlf_jax.load(tmp_path / 'run').predict(rows[:20]), rtol=0, atol=1e-7)
    # Further columns are left alone, whatever they hold.
    for one, other in ((1, 'a'), (2**63 + 5, -1), ([1], {})):
        added = [{**row, 'id': value} for row, value in zip(rows[:2].to_dicts(), (one, other), strict=True)]
        np.testing.assert_array_equal(scorer.score(scorer.reader.rows(added)).probabilities, found[:2])
    with pytest.raises(BadRequest, match='hour'):
        scorer.reader.rows([{**row, 'hour': ['14102100']} for row in rows[:2].to_dicts()])
    with pytest.raises(BadRequest, match="no column 'hour"):
        scorer.reader.rows(rows[:2].drop('hour').to_dicts())
    with pytest.raises(BadRequest, match="no column 'C1'"):
        scorer.reader.rows(rows[:2].drop('C1').to_dicts())
    with pytest.raises(BadRequest, match='hour'):
        scorer.reader.rows(rows[:2].with_columns(hour=pl.lit('noon')).to_dicts())
