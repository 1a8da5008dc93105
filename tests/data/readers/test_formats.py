"""libFM lines and Avazu's hour, from files to the fields of builders."""

import pytest

from dlf_jax.config import get_config
from dlf_jax.data import builders
from dlf_jax.data.readers.formats import is_libfm
from dlf_jax.errors import UserError
from tests.data.test_builders import rows_of

LIBFM = '1 3:1 20:1 31:1\n-1 4:1 20:1 32:1 \n-1 3:1 21:1 31:1.0\n'


def movielens(tmp_path, text):
    (tmp_path / 'm.libfm').write_text(text)
    config = get_config('mlp').dataset
    config.name, config.train, config.valid = 'movielens', *[str(tmp_path / 'm.libfm')] * 2
    builder = builders.build(config, str(tmp_path / 'data'))
    builder.prepare()
    return builder


def test_libfm_lines_are_categories(tmp_path):
    builder = movielens(tmp_path, LIBFM)
    assert is_libfm(str(tmp_path / 'm.libfm'))
    encoder, rows = builder.encoder(), rows_of(builder, 'train')
    assert rows['label'].tolist() == [1, 0, 0]
    assert encoder.vocabularies['user_id']['value'].to_list() == ['3', '4']
    ids = [[2, 2, 2], [3, 2, 3], [2, 3, 2]]
    offsets = [encoder.schema.offsets[f.name] for f in encoder.schema.fields]
    assert (rows['categorical'] - offsets).tolist() == ids


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('1 3:1 20:1', 'line 4: expected 4 fields separated by a space, found 3'),
        ('1 3:1 20:0.5 31:1', "line 4: field 'item_id': expected an index and a 1.*'20:0.5'"),
        ('1 3:1 20 31:1', "line 4: field 'item_id'"),
        ('2 3:1 20:1 31:1', "line 4: label 'label': expected 0 or 1, found 2"),
        ('x 3:1 20:1 31:1', "line 4: label 'label': expected 0 or 1, found x"),
    ],
)
def test_bad_libfm_lines_are_named(tmp_path, line, message):
    with pytest.raises(UserError, match=message):
        movielens(tmp_path, LIBFM + line + '\n')


def avazu(tmp_path, hours):
    names = ('id', 'click', *builders.avazu.RAW_FIELDS)
    lines = [','.join(names)]
    lines += [','.join([str(i), str(i % 2), hour, *['x'] * 21]) for i, hour in enumerate(hours)]
    (tmp_path / 'train.csv').write_text('\n'.join(lines) + '\n')
    config = get_config('mlp').dataset
    config.name, config.hour, config.allow_modified = 'avazu', 'parts', True
    config.train = config.valid = str(tmp_path / 'train.csv')
    builder = builders.build(config, str(tmp_path / 'data'))
    builder.prepare()
    return builder.encoder()


def test_hours_become_three_categories(tmp_path):
    # 2014-10-21 was a Tuesday, 2014-10-25 a Saturday.
    encoder = avazu(tmp_path, ['14102100', '14102113', '14102513', '14102523'])
    names = [field.name for field in encoder.schema.fields]
    assert names[:4] == ['hour_of_day', 'weekday', 'is_weekend', 'C1']
    assert 'hour' not in names
    values = {name: set(encoder.vocabularies[name]['value']) for name in names[:3]}
    assert values == {'hour_of_day': {'0', '13', '23'}, 'weekday': {'2', '6'}, 'is_weekend': {'0', '1'}}


@pytest.mark.parametrize('hour', ['14102124', '1410210', '2014-10-21', ''])
def test_an_hour_that_is_none_is_named(tmp_path, hour):
    with pytest.raises(UserError, match="line 3: column 'hour': expected YYMMDDHH"):
        avazu(tmp_path, ['14102100', hour])
