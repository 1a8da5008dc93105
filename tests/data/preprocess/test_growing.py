"""Growth of an encoder: which ids stay, which come and go, what is kept of numbers."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dlf_jax.data.preprocess import growing, statistics
from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.preprocess.task import Ancestor, Task
from dlf_jax.data.schema import Schema, number_field, text_field
from dlf_jax.errors import UserError
from tests.data.preprocess.test_encoder import chunk, fitted

HISTORY = {'kind': 'multi-valued', 'pooling': 'mean', 'length': 3, 'separator': '|'}
SCHEMA = Schema(
    (
        text_field('user', embedding_size=2),
        text_field('ad', min_count=2),
        text_field('site', hash_buckets=5),
        number_field('age', 'bucket', {'buckets': 3}),
        number_field('price', 'standard'),
        dataclasses.replace(text_field('seen', shares='ad'), **HISTORY),
    ),
    'label',
)


def rows(user, ad, seen=None, age=None, price=None):
    count = len(user)
    return chunk(
        label=[0.0] * count, user=user, ad=ad, site=['s'] * count,
        age=age or [float(i) for i in range(count)], price=price or [float(i) for i in range(count)],
        seen=seen or [''] * count,
    )  # fmt: skip


FIRST = fitted(SCHEMA, [rows(['b', 'b', 'a', 'c'], ['x', 'x', 'y', 'z'], ['y', '', 'y|z', ''])])


def grown(before, data, schema=SCHEMA, **options):
    found = statistics.measure_chunk(schema, 0, data, np.arange(data.frame.height), 0)
    ancestor = Ancestor(Path('before/encoder'), '', **options)
    return growing.grow(before, Task('made', schema, {}, None, '', 256, ancestor=ancestor), found)


def values(encoder, name):
    return encoder.vocabularies[name]['value'].to_list()


def test_old_values_keep_their_ids_and_new_ones_follow():
    # w is seen twice, once in each column that shares the vocabulary; v once, which is too rare.
    after = grown(FIRST, rows(['d', 'd', 'a', 'e'], ['w', 'z', 'v', 'x'], ['w', '', '', '']))
    assert values(FIRST, 'user') == ['b', 'a', 'c']
    assert values(after, 'user') == ['b', 'a', 'c', 'd', 'e']
    assert (values(FIRST, 'ad'), values(after, 'ad')) == (['y', 'x', 'z'], ['y', 'x', 'z', 'w'])
    assert after.growth['ad'] == {'kept': 3, 'new': 1, 'forgotten': 0}
    assert after.vocabularies['user']['count'].to_list() == [2, 2, 1, 2, 1]
    assert after.vocabularies['user']['unseen'].to_list() == [1, 0, 1, 0, 0]
    # The same rows, fields that others share among them, have the ids of before, within their field.
    data = rows(['b', 'a', 'c'], ['x', 'y', 'z'], ['x|y', 'z', ''])
    (old, _), (new, _) = FIRST.transform(data), after.transform(data)
    assert old['numeric'].tolist() == new['numeric'].tolist()
    shift = after.schema.offsets['site'] - FIRST.schema.offsets['site']
    assert shift == 1
    assert (new['categorical'] - old['categorical']).tolist() == [[0, 0, 1, 1]] * 3
    assert new['bags'].tolist() == old['bags'].tolist()


def test_rows_move_with_their_values():
    after = grown(FIRST, rows(['d', 'd', 'a', 'e'], ['w', 'w', 'v', 'x']))
    found = growing.row_sources(FIRST, after)
    # The table of width 2 holds `user` alone: reserved ids, b, a, c, then two of row 0.
    assert found[2].tolist() == [0, 1, 2, 3, 4, -1, -1]
    # ad: 2 + 3 rows and one more; then 2 + 5 hash buckets and 2 + 3 ranges, which move by one.
    assert found[0].tolist() == [0, 1, 2, 3, 4, -1, *range(5, 5 + 7 + 5)]


def test_forgotten_after_so_many_generations_in_a_row():
    second = grown(FIRST, rows(['a', 'b'], ['x', 'y']), forget_after=2)
    assert values(second, 'user') == ['b', 'a', 'c']
    # Seen again: the count begins anew.
    assert values(grown(second, rows(['c', 'c'], ['x', 'x']), forget_after=2), 'user') == ['b', 'a', 'c']
    third = grown(second, rows(['a', 'd'], ['x', 'x']), forget_after=2)
    assert values(third, 'user') == ['b', 'a', 'd']
    assert third.growth['user'] == {'kept': 2, 'new': 1, 'forgotten': 1}
    assert growing.row_sources(second, third)[2].tolist() == [0, 1, 2, 3, -1]
    told = growing.changes(second, third).filter(pl.col('field') == 'user').rows()
    assert told == [('user', 'd', 'new', 1, None, 4), ('user', 'c', 'forgotten', 1, 4, None)]
    # Two generations without them: x, y and z of `ad` are counted in bags, too.
    assert values(third, 'ad') == ['y', 'x']


def test_max_size_leaves_old_values_their_place():
    schema = Schema((text_field('user', max_size=4),), 'label')
    before = fitted(schema, [chunk(label=[0.0] * 3, user=['a', 'b', 'c'])])
    data = chunk(label=[0.0] * 5, user=['d', 'e', 'e', 'f', 'f'])
    assert values(grown(before, data, schema), 'user') == ['a', 'b', 'c', 'e']


@pytest.mark.parametrize('refit', [False, True])
def test_numbers_are_kept_or_refitted(refit):
    data = rows(['a'] * 4, ['x'] * 4, age=[10.0, 20.0, 30.0, 40.0], price=[5.0, 5.0, 7.0, 7.0])
    after = grown(FIRST, data, refit_numbers=refit)
    assert after.moments['price'].mean == (6.0 if refit else 1.5)
    assert after.boundaries['age'].tolist() == ([20.0, 30.0] if refit else [1.0, 2.0])


def test_ranges_stay_where_refitting_makes_fewer():
    after = grown(FIRST, rows(['a'] * 4, ['x'] * 4, age=[1.0, 1.0, 1.0, 2.0]), refit_numbers=True)
    assert after.boundaries['age'].tolist() == FIRST.boundaries['age'].tolist()
    assert after.schema.vocabulary_of(0) == FIRST.schema.vocabulary_of(0)


def test_categories_of_numbers_grow():
    schema = Schema((number_field('n', 'log2', vocabulary={'min_count': 1}),), 'label')
    before = fitted(schema, [chunk(label=[0.0] * 3, n=[1.0, 1.0, 2.0])])
    after = grown(before, chunk(label=[0.0] * 3, n=[2.0, 900.0, 900.0]), schema)
    assert values(after, 'n')[: len(values(before, 'n'))] == values(before, 'n')
    assert growing.row_sources(before, after)[0].tolist() == [0, 1, 2, 3, -1]


def test_saved_and_read(tmp_path):
    after = grown(FIRST, rows(['d', 'd', 'a', 'e'], ['w', 'w', 'v', 'x']))
    after.save(tmp_path)
    found = Encoder.load(tmp_path)
    assert found.growth == after.growth
    assert found.schema == after.schema
    assert all(found.vocabularies[name].equals(frame) for name, frame in after.vocabularies.items())
    # An encoder that grew goes on growing.
    assert grown(found, rows(['a'], ['x'])).vocabularies['user']['unseen'].to_list() == [2, 0, 2, 1, 1]


def field(name, **changes):
    return Schema(
        tuple(dataclasses.replace(f, **changes) if f.name == name else f for f in SCHEMA.fields), 'label'
    )


@pytest.mark.parametrize(
    ('schema', 'told'),
    [
        (Schema(SCHEMA.fields[1:], 'label'), "field 'user' is there only before"),
        (Schema((*SCHEMA.fields, text_field('day')), 'label'), "field 'day' is there only now"),
        (Schema(SCHEMA.fields[::-1], 'label'), 'the fields are in another order'),
        (field('user', embedding_size=4), "field 'user': embedding_size 2 before, 4 now"),
        (field('site', hash_buckets=6), "field 'site': hash_buckets 5 before, 6 now"),
        (field('seen', shares=''), "field 'seen': shares 'ad' before, '' now"),
        (field('seen', pooling='max'), "field 'seen': pooling 'mean' before, 'max' now"),
        (field('price', treatment='minmax'), "field 'price': treatment 'standard' before, 'minmax' now"),
    ],
)
def test_a_schema_that_does_not_fit_is_told(schema, told):
    with pytest.raises(UserError, match=told):
        growing.check_fits(FIRST.schema, schema, 'before')


def test_a_schema_that_fits():
    growing.check_fits(FIRST.schema, field('user', min_count=3, max_size=7), 'before')
    before = dataclasses.replace(SCHEMA.fields[4], treatment='piecewise', buckets=9)
    now = dataclasses.replace(before, treatment='auto', buckets=50, fill='own')
    growing.check_fits(Schema((before,), 'label'), Schema((now,), 'label'), 'before')
