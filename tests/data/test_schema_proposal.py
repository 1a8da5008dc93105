"""The proposal of a schema for a table."""

import numpy as np
import polars as pl
import pytest

from dlf_jax.data import schema_files, schema_proposal
from dlf_jax.data.readers import tables
from dlf_jax.errors import UserError

DEFAULTS = {'min_count': 2, 'max_size': 0, 'hash_buckets': 0, 'buckets': 10, 'treatment': 'standard'}


def test_a_proposal_can_be_used_as_it_is(tmp_path):
    draw = np.random.default_rng(0)
    rows = 3000
    frame = pl.DataFrame(
        {
            'row': [f'r{i}' for i in range(rows)],
            'clicked': draw.integers(0, 2, rows),
            'user_id': draw.integers(0, 500, rows),
            'hour': draw.integers(0, 24, rows),
            'price "USD"': draw.lognormal(size=rows),
            'tags': [[f't{j}' for j in draw.integers(0, 9, i % 4)] for i in range(rows)],
            'words': ['|'.join(f'w{j}' for j in draw.integers(0, 30, 1 + i % 5)) for i in range(rows)],
            'constant': ['same'] * rows,
        }
    )
    frame.write_parquet(tmp_path / 't.parquet')
    table = tables.open_table((str(tmp_path / 't.parquet'),))
    path = tmp_path / 'schema.toml'
    told = schema_proposal.propose(table, str(path))
    assert told['label'] == 'clicked'
    schema = schema_files.load(str(path), DEFAULTS)
    kinds = {field.name: field.kind for field in schema.fields}
    assert kinds == {
        'user_id': 'categorical',
        'hour': 'categorical',
        'price "USD"': 'numeric',
        'tags': 'multi-valued',
        'words': 'multi-valued',
    }
    lengths = {field.name: (field.separator, field.length) for field in schema.bags}
    assert lengths == {'tags': ('', 3), 'words': ('|', 5)}
    users = frame['user_id'].n_unique()
    assert f'[columns.user_id]  # {users} values, 0.0 % missing' in path.read_text()
    with pytest.raises(UserError, match='is there already'):
        schema_proposal.propose(table, str(path))
