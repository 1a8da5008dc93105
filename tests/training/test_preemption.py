"""Stopping on request: by a call, by SIGTERM, at the same step in all processes."""

import itertools
import os
import signal
import threading
import time

import jax
import pytest

from dlf_jax import config as configs
from dlf_jax import config_checks
from dlf_jax.data import builders
from dlf_jax.training import multihost, preemption, trainer
from dlf_jax.training.preemption import Preempted, Preemption
from dlf_jax.workdir import Workdir
from tests.test_resume import course


def test_it_is_never_due_without_a_request():
    stop = Preemption()
    with stop.watched():
        assert not any(stop.due() for _ in range(100))
    assert stop.reason == ''


def test_it_is_due_after_a_request_from_any_thread():
    stop = Preemption()
    thread = threading.Thread(target=stop.request_stop, args=('a button',))
    thread.start()
    thread.join(timeout=30)
    assert stop.due()
    assert stop.reason == 'a button'


def test_it_sets_no_handler_unless_it_listens():
    before = signal.getsignal(signal.SIGTERM), threading.active_count()
    with Preemption().watched():
        assert (signal.getsignal(signal.SIGTERM), threading.active_count()) == before


def test_listening_takes_sigterm_as_a_request_and_ends_with_the_block():
    before, stop = signal.getsignal(signal.SIGTERM), Preemption(listen=True)
    with stop.watched():
        assert not stop.due()
        os.kill(os.getpid(), signal.SIGTERM)
        until = time.monotonic() + 30
        while not stop.due():
            assert time.monotonic() < until
            time.sleep(0.01)
        assert stop.reason == 'SIGTERM'
    assert signal.getsignal(signal.SIGTERM) is before
    assert not [thread for thread in threading.enumerate() if thread.name == 'SIGTERM']


@pytest.fixture
def three(monkeypatch):
    """The objects of three processes that share a store, and a function that calls `due` in all of them."""
    store, current = {}, [0]
    monkeypatch.setattr(jax, 'process_count', lambda: 3)
    monkeypatch.setattr(jax, 'process_index', lambda: current[0])
    monkeypatch.setattr(multihost, 'store_set', store.__setitem__)
    monkeypatch.setattr(multihost, 'store_get', store.__getitem__)
    monkeypatch.setattr(multihost, 'store_delete', store.pop)
    monkeypatch.setattr(
        multihost, 'store_list', lambda prefix: [v for k, v in store.items() if k.startswith(f'{prefix}/')]
    )

    def make():
        number = next(numbers)
        monkeypatch.setattr(preemption, '_instances', itertools.repeat(number))
        return [Preemption() for _ in range(3)]

    def due(objects):
        found = []
        for current[0], one in enumerate(objects):
            found.append(one.due())
        return found

    def request(objects, process):
        current[0] = process
        objects[process].request_stop('a test')

    numbers = itertools.count()
    return make, due, request


@pytest.mark.parametrize('process', range(3))
def test_a_request_in_one_process_stops_all_at_the_same_call(process, three):
    make, due, request = three
    objects = make()
    for _ in range(50):
        assert due(objects) == [False] * 3
    request(objects, process)
    found = [due(objects) for _ in range(17)]
    assert all(len(set(call)) == 1 for call in found)
    assert [True] * 3 in found


def test_the_next_run_of_the_same_processes_begins_without_a_request(three):
    make, due, request = three
    first = make()
    request(first, 1)
    assert due(first) == [True] * 3
    assert [one.reason for one in first] == ['a test'] * 3
    second = make()
    assert not any(any(due(second)) for _ in range(50))


def test_training_stops_after_the_step_of_the_request_and_goes_on(tmp_path, data_dir):
    config = configs.get_config('mlp')
    config.update_from_flattened_dict(
        {
            'dataset.rows': 3000, 'dataset.block_rows': 256, 'model.hidden': (8,), 'model.embedding_size': 4,
            'training.batch_size': 256, 'training.epochs': 1, 'training.log_every': 1,
        }
    )  # fmt: skip
    config_checks.validate(config)
    builder = builders.build(config.dataset, str(data_dir))
    builder.prepare()
    workdir = Workdir(tmp_path)
    workdir.create()
    stop = Preemption()
    stop.request_stop('a test')
    with pytest.raises(Preempted, match='stopped by a test after step 1, which is saved'):
        trainer.train(config, builder, workdir, stop)
    assert [line['step'] for line in course(tmp_path)] == [1]
    assert trainer.train(config, builder, workdir)['steps'] == -(-2100 // 256)
