"""Tables from codes to ids, negative codes included."""

import numpy as np

from dlf_jax.data.preprocess.dictionary import NULL, PAD, UNKNOWN
from dlf_jax.data.preprocess.id_tables import IdTables, id_table
from dlf_jax.data.schema import Field, Schema


def test_id_table_knows_the_negative_codes():
    table, zero = id_table(10, np.array([3, 0]), 0, 1)
    codes = np.array([0, 1, UNKNOWN, NULL, PAD])
    assert table[zero + codes].tolist() == [13, 10, 10, 11, -1]


def test_tables_of_all_fields_are_looked_up_in_one_operation():
    """Fields with a vocabulary, with hash buckets, and one that shares another's ids."""
    fields = (
        Field('user', 'categorical', size=5),
        Field('url', 'categorical', hash_buckets=3, size=5),
        Field('history', 'multi-valued', pooling='sum', length=1, shares='user'),
    )
    tables = IdTables.of(Schema(fields, 'y'), {'user': np.array([4, 0, 2, 3], np.int32)})
    codes = np.array([[0, 1, NULL, UNKNOWN], [0, 2, NULL, 1], [3, PAD, NULL, 2]])
    found = tables.lookup(codes, [field.owner for field in fields])
    # The offset of `url` is 5, the size of `user`.
    assert found.tolist() == [[4, 0, 1, 0], [7, 9, 6, 8], [3, -1, 1, 2]]
    assert found.dtype == np.int32
