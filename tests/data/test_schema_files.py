"""Schema files, and the errors for mistakes in them."""

import pytest

from dlf_jax.data import schema_files
from dlf_jax.data.schema import Field
from dlf_jax.errors import UserError

DEFAULTS = {
    'min_count': 2, 'max_size': 0, 'hash_buckets': 0, 'buckets': 10, 'treatment': 'standard', 'missing': (),
    'out_of_range': 'error',
}  # fmt: skip
GOOD = """
label = "click"
weight = "w"
group = "user"
[columns.user]
kind = "categorical"
embedding_size = 4
[columns."item id"]
kind = "categorical"
[columns.history]
kind = "multi-valued"
separator = "|"
shares = "item id"
pooling = "max"
length = 7
[columns.price]
kind = "numeric"
treatment = "minmax"
[columns.age]
kind = "categorical"
treatment = "bucket"
[columns.url]
kind = "categorical"
hash_buckets = 100
[columns.note]
kind = "ignored"
"""


def load(tmp_path, text, **defaults):
    path = tmp_path / 's.toml'
    path.write_text(text)
    return schema_files.load(str(path), {**DEFAULTS, **defaults})


def test_a_schema_file(tmp_path):
    schema = load(tmp_path, GOOD)
    assert (schema.label, schema.weight, schema.group) == ('click', 'w', 'user')
    assert schema.fields == (
        Field('user', 'categorical', min_count=2, embedding_size=4),
        Field('item id', 'categorical', min_count=2),
        Field('history', 'multi-valued', separator='|', shares='item id', pooling='max', length=7),
        Field('price', 'numeric', 'minmax'),
        Field('age', 'categorical', 'bucket', buckets=10),
        Field('url', 'categorical', hash_buckets=100),
    )


def test_hashing_by_default(tmp_path):
    fields = load(tmp_path, GOOD, hash_buckets=50).fields
    # What shares a vocabulary shares its hashing; numbers are not hashed.
    assert [f.hash_buckets for f in fields] == [50, 50, 50, 0, 0, 100]


MISTAKES = {
    'kind': (
        'kind = "multi-valued"',
        'kind = "multivalued"',
        r"\[columns.history\] kind='multivalued'.*did you",
    ),
    'option': (
        'embedding_size = 4',
        'embeding_size = 4',
        r"\[columns.user\] 'embeding_size': no such.*embedding_size",
    ),
    'type': ('embedding_size = 4', 'embedding_size = "4"', "field 'user': embedding_size='4'"),
    'pooling': ('pooling = "max"', 'pooling = "median"', "field 'history': pooling 'median'"),
    'shares': ('shares = "item id"', 'shares = "note"', "field 'history' shares the vocabulary of 'note'"),
    'treatment': (
        'treatment = "minmax"',
        'treatment = "bucket"',
        "numeric field cannot have treatment 'bucket'",
    ),
    'label': ('label = "click"', '', 'label: expected the name of the column'),
    'key': ('weight = "w"', 'wieght = "w"', "'wieght': no such key.*weight"),
    'twice': ('label = "click"', 'label = "user"', "column 'user' is the label and a feature"),
    'toml': ('label = "click"', 'label = click', 'cannot be read as TOML'),
}


@pytest.mark.parametrize('case', MISTAKES)
def test_mistakes_are_named(tmp_path, case):
    old, new, message = MISTAKES[case]
    assert old in GOOD
    with pytest.raises(UserError, match=message):
        load(tmp_path, GOOD.replace(old, new, 1))


def test_no_such_file():
    with pytest.raises(UserError, match=r'config.dataset.schema: no such file: nowhere.toml'):
        schema_files.load('nowhere.toml', DEFAULTS)
