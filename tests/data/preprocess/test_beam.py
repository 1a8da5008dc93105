"""Apache Beam writes the same bytes as one machine; needs the extra `beam`."""

import pytest

from dlf_jax.data.preprocess import task
from dlf_jax.data.readers import parquet_table, text_blocks
from dlf_jax.errors import UserError
from tests.conftest import shared_file
from tests.data.preprocess.files import prepared
from tests.data.preprocess.test_local import SCHEMA, own_frame


def same_by_beam(tmp_path, **keys):
    alone = prepared(tmp_path / 'alone', **keys)
    by_beam = prepared(tmp_path / 'beam', beam_runner='DirectRunner', **keys)
    # Beam leaves the labels to be counted by the first run.
    del alone['labels.json']
    assert 'labels.json' not in by_beam
    assert len(alone) > 4
    assert by_beam == alone


@pytest.mark.parametrize(
    ('split', 'kind'),
    [
        ('chronological', 'csv'),
        ('random', 'parquet'),
        pytest.param('chronological', 'parquet', marks=pytest.mark.slow),
        pytest.param('random', 'csv', marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_field(tmp_path, monkeypatch, kind, split):
    pytest.importorskip('apache_beam', reason='needs the extra beam')
    monkeypatch.setattr(task, 'SHARD_BYTES', 40_000)
    monkeypatch.setattr(text_blocks, 'CHUNK_BYTES', 20_000)
    monkeypatch.setattr(parquet_table, 'CHUNK_ROWS', 300)
    frame = own_frame()
    paths = []
    for i in range(2):
        path = tmp_path / f'own{i}.{kind}'
        part = frame[i * 1500 : (i + 1) * 1500]
        part.write_csv(path) if kind == 'csv' else part.write_parquet(path, row_group_size=700)
        paths.append(str(path))
    (tmp_path / 's.toml').write_text(SCHEMA)
    same_by_beam(tmp_path, name='table', train=','.join(paths), schema=str(tmp_path / 's.toml'), split=split)


@pytest.mark.parametrize(
    ('name', 'train', 'keys'),
    [
        ('criteo', 'criteo/train_head.txt', {'treatment': 'piecewise', 'min_count': 2}),
        ('avazu', 'avazu/train_head.csv', {'hour': 'parts'}),
        ('movielens', 'movielens/rows.csv', {'split': 'random'}),
        ('frappe', 'frappe/train.csv', {'valid': 'frappe/valid.csv'}),
    ],
)
def test_real_rows(tmp_path, name, train, keys):
    pytest.importorskip('apache_beam', reason='needs the extra beam')
    keys = {k: str(shared_file(v)) if k == 'valid' else v for k, v in keys.items()}
    same_by_beam(tmp_path, name=name, train=str(shared_file(train)), **keys)


def test_a_bad_row_is_named_by_a_worker(tmp_path):
    pytest.importorskip('apache_beam', reason='needs the extra beam')
    rows = ''.join(f'{i % 2},{"many" if i == 70 else i}\n' for i in range(100))
    (tmp_path / 't.csv').write_text('y,x\n' + rows)
    keys = {'name': 'table', 'train': str(tmp_path / 't.csv'), 'label': 'y', 'numeric': ('x',)}
    with pytest.raises(UserError, match=r"line 72: column 'x': expected a number, found 'many'$"):
        prepared(tmp_path / 'd', beam_runner='DirectRunner', **keys)
    assert not list((tmp_path / 'd').glob('table/*/1.0.0'))


def test_what_beam_cannot_do_is_said(tmp_path):
    try:
        import apache_beam  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match=r"pip install 'dlf_jax\[beam\]'"):
            prepared(tmp_path, name='synthetic', rows=100, beam_runner='DirectRunner')
        return
    with pytest.raises(UserError, match="beam_runner='NoRunner': no such runner"):
        prepared(tmp_path, name='synthetic', rows=100, beam_runner='NoRunner')
    (tmp_path / 't.csv').write_text('y,x\n1,2\n')
    keys = {'name': 'table', 'train': str(tmp_path / 't.csv'), 'label': 'y', 'numeric': ('x',)}
    with pytest.raises(UserError, match="split='time' is not for"):
        prepared(tmp_path, split='time', time='x', beam_runner='DirectRunner', **keys)
