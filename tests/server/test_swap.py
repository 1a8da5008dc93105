"""A new model takes the old one's place while requests come, and a bad one does not."""

import asyncio
import logging
import os
import shutil

import httpx
import numpy as np
import pytest

import dlf_jax
from dlf_jax.server.scorer import load
from dlf_jax.server.watcher import Watcher
from tests.server.conftest import serving


def watched(folder, service):
    watcher = Watcher(
        folder, lambda: service.scorer, service.swap, lambda: service.metrics.swap('refused'), 0.05
    )
    watcher.note()
    return watcher


def replace(source, target):
    """As one replaces a model: beside it, and then at once."""
    temporary = target.with_name('temporary')
    shutil.copytree(source, temporary)
    shutil.rmtree(target)
    os.replace(temporary, target)


def test_swaps_under_load(saved, tmp_path, frame):
    """Every request is answered, each by one version, whose scores it has."""
    live = tmp_path / 'live'
    shutil.copytree(saved / 'first', live)
    scorer = load(live, (1, 8))
    versions = {'first': scorer.version, 'second': load(saved / 'second', (1,)).version}
    expected = {version: dlf_jax.load(saved / name).predict(frame) for name, version in versions.items()}
    assert len(expected) == 2
    assert np.abs(np.subtract(*expected.values())).max() > 0.01
    rows, seen = frame.to_dicts(), []

    async def ask(address, service):
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            end = asyncio.Event()

            async def client_of(i):
                while not end.is_set():
                    at = (i * 37 + len(seen)) % 290
                    answer = await client.post('/v1/score', json={'rows': rows[at : at + 3]})
                    assert answer.status_code == 200, answer.text
                    told = answer.json()
                    found = np.array(told['probabilities'], np.float32)
                    np.testing.assert_allclose(
                        found, expected[told['version']][at : at + 3], rtol=0, atol=1e-7
                    )
                    seen.append(told['version'])

            clients = [asyncio.create_task(client_of(i)) for i in range(6)]
            for name in ('second', 'first'):
                old = service.scorer.version
                await asyncio.sleep(0.3)
                await asyncio.to_thread(replace, saved / name, live)
                async with asyncio.timeout(60):
                    while service.scorer.version == old:
                        await asyncio.sleep(0.05)
                        assert not any(task.done() for task in clients), await asyncio.gather(*clients)
                await asyncio.sleep(0.3)
            end.set()
            await asyncio.gather(*clients)

    with serving(scorer) as (address, service):
        watcher = watched(live, service)
        watcher.start()
        try:
            asyncio.run(ask(address, service))
        finally:
            watcher.close()
        text = service.metrics.text().decode()
    assert set(seen) == set(expected)
    assert 'dlf_swaps_total{result="swapped"} 2.0' in text
    assert 'dlf_swaps_total{result="refused"} 0.0' in text


@pytest.fixture
def lines(caplog):
    """Lines that the watcher logs."""
    log = logging.getLogger('dlf_jax')
    log.propagate = True
    caplog.set_level(logging.INFO, 'dlf_jax')
    return lambda: [r.getMessage() for r in caplog.records if r.name.endswith('watcher')]


class Service:
    """What a watcher asks of one."""

    def __init__(self, scorer):
        self.scorer, self.results = scorer, []
        self.metrics = self

    def swap(self, what):
        if what != 'refused':
            self.scorer, what = what, 'swapped'
        self.results.append(what)


@pytest.mark.parametrize('part', ['params.tables', 'params.dense'])
def test_other_weights_are_another_version(saved, tmp_path, part):
    """Whichever of them: answers name the version."""
    shutil.copytree(saved / 'first', tmp_path / 'model')
    before = load(tmp_path / 'model', (1,))
    service = Service(before)
    watcher = Watcher(tmp_path / 'model', lambda: service.scorer, service.swap)
    watcher.note()
    file = tmp_path / 'model' / 'weights.npz'
    with np.load(file) as held:
        arrays = {name: values * 0 if name.startswith(part) else values for name, values in held.items()}
    np.savez(tmp_path / 'other.npz', **arrays)
    os.replace(tmp_path / 'other.npz', file)
    watcher.look()
    assert service.results == ['swapped']
    assert service.scorer.version != before.version


def test_whatever_goes_wrong_in_loading_is_told_once(saved, tmp_path, lines, monkeypatch):
    shutil.copytree(saved / 'first', tmp_path / 'model')
    service, loads = Service(load(tmp_path / 'model', (1,))), []
    watcher = Watcher(
        tmp_path / 'model', lambda: service.scorer, service.swap, lambda: service.swap('refused')
    )
    watcher.note()

    def fail(*arguments):
        loads.append(arguments)
        raise RuntimeError('RESOURCE_EXHAUSTED')

    monkeypatch.setattr('dlf_jax.server.watcher.load', fail)
    os.utime(tmp_path / 'model' / 'weights.npz', (1, 1))
    for _ in range(3):
        watcher.look()
    assert (len(loads), service.results) == (1, ['refused'])
    assert sum('RESOURCE_EXHAUSTED' in line for line in lines()) == 1


@pytest.mark.parametrize('damage', ['cut', 'schema', 'empty'])
def test_a_bad_model_is_named_once_and_the_old_one_stays(saved, tmp_path, lines, damage):
    live = tmp_path / 'live'
    shutil.copytree(saved / 'first', live)
    service = Service(load(live, (1,)))
    old, watcher = service.scorer, watched(live, service)
    watcher.look()
    assert not lines()
    bad = tmp_path / 'bad'
    shutil.copytree(saved / 'second', bad)
    if damage == 'cut':
        (bad / 'weights.npz').write_bytes((bad / 'weights.npz').read_bytes()[:-2000])
    elif damage == 'schema':
        (bad / 'encoder' / 'encoder.json').write_text('{"version": 4}')
    else:
        (bad / 'weights.npz').write_bytes(b'')
    replace(bad, live)
    for _ in range(3):
        watcher.look()
    assert service.scorer is old
    assert service.results == ['refused']
    (line,) = lines()
    assert old.version in line
    assert str(live) in line
    # And a good one after it is taken.
    replace(saved / 'second', live)
    watcher.look()
    assert service.results == ['refused', 'swapped']
    assert service.scorer.version != old.version


def test_a_folder_that_is_gone_for_a_while(saved, tmp_path):
    live = tmp_path / 'live'
    shutil.copytree(saved / 'first', live)
    service = Service(load(live, (1,)))
    watcher = watched(live, service)
    live.rename(tmp_path / 'away')
    watcher.look()
    assert service.results == []
    (tmp_path / 'away').rename(live)
    watcher.look()
    assert service.results == []
    # The same model written again is the same version.
    replace(saved / 'first', live)
    watcher.look()
    assert service.results == []


def test_a_better_checkpoint(tmp_path, data_dir, frame):
    """A run that goes on serves its new best step; a step that is no better changes nothing."""
    from tests.server.conftest import SCHEMA, table

    (tmp_path / 'schema.toml').write_text(SCHEMA)
    table(900, 0).write_parquet(tmp_path / 'train.parquet')

    def go_on(epochs):
        from tests.conftest import SMALL_RUN

        keys = {
            **SMALL_RUN, 'dataset.name': 'table', 'dataset.train': str(tmp_path / 'train.parquet'),
            'dataset.schema': str(tmp_path / 'schema.toml'), 'optimizer.learning_rate': 0.01,
            'training.epochs': epochs, 'optimizer.schedule': 'constant', 'plateau.patience': 0,
        }  # fmt: skip
        return dlf_jax.train(dlf_jax.load_config(model='mlp', overrides=keys), tmp_path / 'run', data_dir)

    go_on(1)
    service = Service(load(tmp_path / 'run', (1,)))
    first, watcher = service.scorer, watched(tmp_path / 'run', service)
    result = go_on(3)
    watcher.look()
    assert service.results == ['swapped']
    assert service.scorer.version != first.version
    assert service.scorer.version.startswith(f'{result["best_step"]}-')
    row = frame[:1]
    found = service.scorer.score(service.scorer.reader.rows(row.to_dicts())).probabilities
    np.testing.assert_allclose(found, dlf_jax.load(tmp_path / 'run').predict(row), rtol=0, atol=1e-7)
    watcher.look()
    assert service.results == ['swapped']
