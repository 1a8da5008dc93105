"""A walk over days whose logs and workdirs are in a store, beside the same by paths."""

import csv
import io
import json
import os
import random
import shutil
import signal
import time

import boto3
import polars as pl
import pytest

import dlf_jax
from dlf_jax.days import walk
from dlf_jax.errors import UserError
from dlf_jax.storage import manifest
from dlf_jax.storage.store import Store
from dlf_jax.storage.store_lock import StoreLock
from tests.conftest import finish
from tests.days.test_walk import command, lines, logs, root, walked, write_day  # noqa: F401
from tests.storage.object_store import Faults
from tests.storage.soak import download
from tests.test_resume import assert_same

pytestmark = pytest.mark.usefixtures('compiled_once')


def put(folder, url):
    """Copies a folder to a store as it is."""
    for path in folder.rglob('*'):
        if path.is_file():
            Store.of(url).write(path, f'{url}/{path.relative_to(folder).as_posix()}')


def stored_lines(chain):
    table, _ = Store.of(chain).read(f'{chain}/daily.csv')
    return list(csv.DictReader(io.StringIO(table.decode())))


def without_seconds(found):
    return [{**line, 'seconds': ''} for line in found]


def test_a_chain_in_a_store(memory, cache, logs, root, data_dir, tmp_path):  # noqa: F811
    days, chain = f'{memory}/logs', f'{memory}/chain'
    put(logs, days)
    (tmp_path / '_SUCCESS').touch()
    Store.of(days).write(tmp_path / '_SUCCESS', f'{days}/_SUCCESS')
    result = walked(days, chain, data_dir)
    assert (result['trained'], result['table']) == (['day0', 'day1', 'day2'], f'{chain}/daily.csv')
    assert without_seconds(stored_lines(chain)) == without_seconds(lines(root))
    rows = pl.read_csv(logs / 'day2' / 'rows.csv')
    # On a fresh machine.
    shutil.rmtree(cache)
    there, here = (dlf_jax.load(f'{of}/days/day2').predict(rows) for of in (chain, root))
    assert (there == here).all()
    assert walked(days, chain, data_dir)['trained'] == []
    with pytest.raises(UserError, match=f'learning_rate.*--from={chain}/days/day2'):
        walked(days, chain, data_dir, '--config.optimizer.learning_rate=0.1')
    write_day(tmp_path, 3)
    put(tmp_path / 'day3', f'{days}/day3')
    lock = StoreLock(chain)
    lock.acquire()
    try:
        with pytest.raises(UserError, match='another process is working here'):
            walked(days, chain, data_dir)
    finally:
        lock.release()
    assert walked(days, chain, data_dir, '--keep_days=1')['trained'] == ['day3']
    assert stored_lines(chain)[-1]['day'] == 'day3'
    files = {day: manifest.read(f'{chain}/days/{day}').files for day in ('day2', 'day3')}
    kept = {day: any(name.startswith('checkpoints/') for name in found) for day, found in files.items()}
    assert kept == {'day2': False, 'day3': True}


def test_names_of_days_in_a_store(memory, tmp_path):
    (tmp_path / 'x').touch()
    for place in (
        'logs/dt=2/part-0.csv', 'logs/dt=2/part-1.csv', 'logs/dt=1/hour=3/a.csv', 'logs/_SUCCESS',
        'logs/dt=3.csv.gz', 'logs/dt=2/_SUCCESS', 'others/dt=4/a.csv',
    ):  # fmt: skip
        Store.of(memory).write(tmp_path / 'x', f'{memory}/{place}')
    found = {'dt=1': 'logs/dt=1', 'dt=2': 'logs/dt=2', 'dt=3': 'logs/dt=3.csv.gz'}
    assert walk.find(f'{memory}/logs/dt=*') == {day: f'{memory}/{place}' for day, place in found.items()}
    assert list(walk.find(f'{memory}/logs/*')) == list(found)
    assert list(walk.find(f'{memory}/*/dt=[24]/')) == ['dt=2', 'dt=4']
    with pytest.raises(UserError, match='no such folders or files'):
        walk.find(f'{memory}/logs/day*')


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_many_kills_of_a_walk_in_a_bucket(s3, logs, root, tmp_path, monkeypatch):  # noqa: F811
    """Each kill empties the cache, as on a fresh machine, and two of a hundred requests meet a fault."""
    monkeypatch.setenv('DLF_JAX_CACHE', str(tmp_path / 'commands'))
    client = boto3.client('s3', endpoint_url=f'http://127.0.0.1:{s3.port}')
    put(logs, 's3://bucket/logs')
    s3.faults = Faults(0.02, seed=3)
    draw, killed, rounds = random.Random(3), 0, 0

    def objects(prefix):
        return client.list_objects_v2(Bucket='bucket', Prefix=prefix).get('KeyCount', 0)

    while killed < int(os.environ.get('KILLS', '10')):
        prefix = f'chain{rounds}'
        while True:
            process = command('s3://bucket/logs', f's3://bucket/{prefix}', f's3://bucket/data{rounds}')
            until = time.monotonic() + 60
            wanted = objects(prefix) + draw.randint(0, 25)
            while process.poll() is None and time.monotonic() < until and objects(prefix) < wanted:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
            ended = finish(process)
            shutil.rmtree(tmp_path / 'commands', ignore_errors=True)
            if ended.returncode == 0:
                break
            assert ended.returncode == -signal.SIGKILL, ended.stderr
            killed += 1
        for day in ('day0', 'day1', 'day2'):
            download(client, f'{prefix}/days/{day}', tmp_path / prefix / day)
            assert_same(tmp_path / prefix / day, root / 'days' / day)
        rounds += 1
        print(json.dumps({'kills': killed, 'walks': rounds, 'faults': dict(s3.faults.counts)}), flush=True)
