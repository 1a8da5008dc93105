"""A model of every kind of field, and a server of it in a thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import httpx
import numpy as np
import polars as pl
import pytest

import dlf_jax
from dlf_jax.server.app import Service
from dlf_jax.server.process import Server, bound_socket
from dlf_jax.server.scorer import load
from dlf_jax.server.settings import Settings
from tests.conftest import SMALL_RUN

SCHEMA = """
label = "click"
[columns.user]
kind = "categorical"
min_count = 2
[columns.item]
kind = "categorical"
missing = ["NA", "-1"]
[columns.version]
kind = "categorical"
verbatim = true
[columns.url]
kind = "categorical"
hash_buckets = 50
[columns.tags]
kind = "multi-valued"
pooling = "mean"
length = 3
[columns.history]
kind = "multi-valued"
separator = "|"
shares = "item"
missing = ["NA", "-1"]
pooling = "sum"
length = 4
[columns.links]
kind = "multi-valued"
separator = " "
hash_buckets = 20
pooling = "max"
length = 2
[columns.zip]
kind = "categorical"
[columns.flag]
kind = "categorical"
[columns.price]
kind = "numeric"
treatment = "quantile"
fill = "own"
[columns.amount]
kind = "numeric"
treatment = "none"
missing = ["-1", "NA"]
out_of_range = "missing"
[columns.weight]
kind = "numeric"
treatment = "standard"
[columns.age]
kind = "categorical"
treatment = "bucket"
buckets = 8
[columns.count]
kind = "categorical"
treatment = "log2"
"""


def table(rows: int, seed: int) -> pl.DataFrame:
    """Rows of every kind of value, with missing ones; click depends on the user."""
    draw = np.random.default_rng(seed)

    def text(prefix, count):
        return [None if draw.random() < 0.05 else f'{prefix}{draw.integers(count)}' for _ in range(rows)]

    def several(prefix, count, most):
        return [
            [f'{prefix}{draw.integers(count)}' for _ in range(draw.integers(0, most))] for _ in range(rows)
        ]

    def number(values):
        return [None if draw.random() < 0.1 else v for v in values]

    user = text('u', 40)
    return pl.DataFrame(
        {
            'click': [int(draw.random() < (0.8 if u and int(u[1:]) % 2 else 0.2)) for u in user],
            'user': user,
            'item': text('i', 30),
            'version': [['1.1', '1.10', '2.0', 'True'][draw.integers(4)] for _ in range(rows)],
            'url': text('http://a.example/', 300),
            'tags': several('t', 10, 5),
            'history': ['|'.join(values) for values in several('i', 30, 6)],
            'links': [' '.join(values) for values in several('l', 60, 4)],
            'zip': draw.integers(10_000, 10_020, rows),
            'flag': draw.random(rows) < 0.5,
            'price': number(draw.lognormal(size=rows).round(2).tolist()),
            'amount': number(draw.normal(size=rows).round(3).tolist()),
            'weight': number(draw.normal(50, 9, size=rows).tolist()),
            'age': number(draw.integers(10, 90, rows).tolist()),
            'count': number(draw.integers(0, 5000, rows).tolist()),
        },
        schema_overrides={'tags': pl.List(pl.String)},
    )


def train(folder, data_dir) -> None:
    """Trains on `table` into `folder / 'run'`."""
    (folder / 'schema.toml').write_text(SCHEMA)
    table(3000, 0).write_parquet(folder / 'train.parquet')
    keys = {
        **SMALL_RUN, 'dataset.name': 'table', 'dataset.train': str(folder / 'train.parquet'),
        'dataset.schema': str(folder / 'schema.toml'), 'optimizer.learning_rate': 0.02,
    }  # fmt: skip
    dlf_jax.train(dlf_jax.load_config(model='dcnv2', overrides=keys), folder / 'run', data_dir)


@pytest.fixture(scope='session')
def workdir(tmp_path_factory, data_dir):
    """A finished run. Not to be written to."""
    folder = tmp_path_factory.mktemp('served')
    train(folder, data_dir)
    return folder / 'run'


@pytest.fixture(scope='session')
def saved(tmp_path_factory, model):
    """Folder of two saved models, `first` and `second`, that score otherwise."""
    folder = tmp_path_factory.mktemp('saved')
    for name in ('first', 'second'):
        model.save(folder / name)
    file = folder / 'second' / 'weights.npz'
    with np.load(file) as held:
        arrays = dict(held)
    for name, values in arrays.items():
        if name.startswith('params.dense'):
            arrays[name] = values * np.float32(1.5)
    np.savez(file, **arrays)
    return folder


@pytest.fixture(scope='session')
def model(workdir):
    """The same in Python, by which the server's answers are judged."""
    return dlf_jax.load(workdir)


@pytest.fixture(scope='session')
def scorer(workdir):
    """The same for the server, with few programs."""
    return load(workdir, (1, 8, 32))


@pytest.fixture(scope='session')
def frame():
    """Rows that training did not have; some of their values neither."""
    found = table(300, 1)
    return found.with_columns(user=pl.when(pl.int_range(300) % 17 == 0).then(pl.lit('new')).otherwise('user'))


@contextlib.contextmanager
def serving(scorer, **settings) -> Iterator[tuple[str, Service]]:
    """A server in a thread; yields its address and what its routes share."""
    service = Service(Settings('', port=0, max_batch=scorer.sizes[-1], **settings), scorer)
    bound = bound_socket(service.settings)
    server = Server(service)
    thread = threading.Thread(target=server.run, kwargs={'sockets': [bound]}, daemon=True)
    thread.start()
    address = f'http://127.0.0.1:{bound.getsockname()[1]}'
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield address, service
    finally:
        server.should_exit = True
        thread.join(20)
        bound.close()
        assert not thread.is_alive()


@pytest.fixture(scope='module')
def server(scorer):
    """A server, as address and service."""
    with serving(scorer) as found:
        yield found


@pytest.fixture(scope='module')
def client(server):
    """A client of the server."""
    with httpx.Client(base_url=server[0], timeout=20) as found:
        yield found
