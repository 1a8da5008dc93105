"""A Dask cluster writes the same bytes as one machine; needs the extra `dask`."""

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import pytest

from dlf_jax.config import get_config
from dlf_jax.data import builders
from dlf_jax.data.preprocess import task
from dlf_jax.data.preprocess.cluster import prepare
from dlf_jax.data.readers import parquet_table, text_blocks
from dlf_jax.errors import UsageError, UserError
from tests.conftest import ROOT, shared_file
from tests.data.preprocess.test_local import SCHEMA, own_frame

distributed = pytest.importorskip('distributed', reason='needs the extra dask')


@pytest.fixture(scope='module')
def address():
    """Workers that are threads of this process, so that they see what a test changes."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(task, 'SHARD_BYTES', 40_000)
    monkeypatch.setattr(text_blocks, 'CHUNK_BYTES', 20_000)
    monkeypatch.setattr(parquet_table, 'CHUNK_ROWS', 300)
    monkeypatch.setattr(prepare, 'GROUP_ROWS', 700)
    monkeypatch.setattr(prepare, '_JOINED_VALUES', 100)
    monkeypatch.setattr(prepare, '_JOINED_SAMPLES', 2)


def prepared(folder, **keys):
    """md5 of every file of prepared data, by name."""
    config = get_config('mlp').dataset
    config.allow_modified, config.block_rows = True, 128
    for key, value in keys.items():
        config[key] = value
    builder = builders.build(config, str(folder))
    builder.prepare()
    root = Path(builder.data_dir)
    assert not list(root.parent.parent.rglob('incomplete*'))
    files = [path for path in root.rglob('*') if path.is_file()]
    return {str(p.relative_to(root)): hashlib.md5(p.read_bytes()).hexdigest() for p in files}


def on_cluster(folder, address, **keys):
    flags = (f'--address={address}',)
    return prepared(folder, beam_runner='dask', beam_options=flags, **keys)


@pytest.mark.parametrize(
    ('kind', 'split'),
    [('csv', 'chronological'), ('csv.gz', 'time'), ('parquet', 'random'), ('parquet', 'time')],
)
def test_every_kind_of_field(tmp_path, small_pieces, address, kind, split):
    frame, paths = own_frame(), []
    for i in range(2):
        path = tmp_path / f'own{i}.{kind}'
        part = frame[i * 1500 : (i + 1) * 1500]
        if kind == 'parquet':
            part.write_parquet(path, row_group_size=700)
        else:
            text = part.write_csv().encode()
            path.write_bytes(gzip.compress(text) if kind == 'csv.gz' else text)
        paths.append(str(path))
    curved = '[columns.curve]\nkind = "numeric"\ntreatment = "piecewise"\nsource = "price"\n'
    schema = SCHEMA if True else curved
    (tmp_path / 's.toml').write_text(schema)
    keys = {
        'name': 'table', 'train': ','.join(paths), 'schema': str(tmp_path / 's.toml'), 'split': split,
        'time': 'at' if split == 'time' else '',
    }  # fmt: skip
    alone = prepared(tmp_path / 'alone', **keys)
    assert len(alone) > 8
    assert on_cluster(tmp_path / 'cluster', address, **keys) == alone
