"""Liveness of several processes, with a store and a clock of the test's own."""

import threading
import time

import jax
import pytest

from dlf_jax.training.heartbeat import Heartbeat, Loss

UNREACHED = 'UNAVAILABLE: recvmsg:Connection reset by peer'


class FakeStore:
    """A dict that answers, fails or blocks, as the coordination service's client does."""

    def __init__(self):
        self.values = {}
        self.reachable = True
        self.answering = threading.Event()
        self.answering.set()

    def _answer(self):
        assert self.answering.wait(timeout=30)
        if not self.reachable:
            raise jax.errors.JaxRuntimeError(UNREACHED)

    def key_value_set(self, key, value, allow_overwrite=False):
        self._answer()
        assert allow_overwrite
        self.values[key] = value

    def key_value_dir_get(self, key):
        self._answer()
        return [(name, value) for name, value in self.values.items() if name.startswith(f'{key}/')]


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Pair:
    """Two processes whose heartbeats a test advances second by second, without threads."""

    def __init__(self, timeout=15.0):
        self.store, self.clock = FakeStore(), Clock()
        self.beats = [Heartbeat(self.store, i, 2, timeout, self.fail, clock=self.clock) for i in range(2)]

    def fail(self, loss):
        raise AssertionError(loss)

    def seconds(self, count, alive=(0, 1), watching=1):
        """Advances; returns the first loss that process `watching` sees, and after how many seconds."""
        for second in range(1, count + 1):
            self.clock.now += 1
            # The one that watches comes last, so that it reads what the other has just written.
            for process in sorted(alive, key=lambda process: process == watching):
                self.beats[process].exchange()
            loss = self.beats[watching].look()
            if loss is not None:
                return loss, second
        return None, count


def test_two_that_live_are_not_lost():
    assert Pair().seconds(100) == (None, 100)


@pytest.mark.parametrize('seconds', [6, 14])
def test_a_store_that_is_unreachable_for_a_while_is_no_loss(seconds):
    """For less than the timeout; it used to be for less than 5 seconds."""
    pair = Pair()
    pair.seconds(20)
    pair.store.reachable = False
    assert pair.seconds(seconds) == (None, seconds)
    pair.store.reachable = True
    assert pair.seconds(100) == (None, 100)


def test_a_store_that_stays_unreachable_is_a_loss_after_the_timeout():
    pair = Pair()
    pair.seconds(20)
    pair.store.reachable = False
    loss, seconds = pair.seconds(100)
    assert loss == Loss('process 0 has not been reached for 15 seconds', store=True)
    assert seconds == 16


@pytest.mark.parametrize('watching', [0, 1])
def test_a_process_without_a_sign_of_life_is_lost_after_the_timeout(watching):
    pair = Pair()
    pair.seconds(20, watching=watching)
    loss, seconds = pair.seconds(100, alive=(watching,), watching=watching)
    assert loss == Loss(f'process {1 - watching} has given no sign of life for 15 seconds')
    assert seconds == 16


def test_a_process_that_never_began_is_lost_after_the_timeout():
    loss, seconds = Pair().seconds(100, alive=(0,), watching=0)
    assert loss == Loss('process 1 has given no sign of life for 15 seconds')
    assert seconds == 16


def test_a_process_that_is_done_is_never_lost():
    pair = Pair()
    pair.seconds(20)
    pair.beats[1].announce_end()
    assert pair.seconds(100, alive=(0,), watching=0) == (None, 100)


def test_a_process_that_failed_is_lost_at_once():
    pair = Pair()
    pair.seconds(20)
    pair.beats[1].announce_end('no room in /tmp', 3)
    assert pair.seconds(100, alive=(0,), watching=0) == (Loss('process 1 stopped: no room in /tmp', 3), 1)


def test_all_have_ended_when_each_has_said_so():
    pair = Pair()
    pair.seconds(1)
    assert not pair.beats[0].all_ended()
    pair.beats[1].announce_end('broken')
    assert not pair.beats[0].all_ended()
    pair.beats[0].announce_end()
    assert pair.beats[0].all_ended()


def test_a_process_that_was_suspended_takes_no_other_for_lost():
    pair = Pair()
    pair.seconds(20)
    pair.clock.now += 1000
    assert pair.beats[1].look() is None
    assert pair.seconds(100) == (None, 100)


def test_a_store_that_blocks_is_a_loss_after_the_timeout():
    """The watch does not wait for the call of the store that never returns."""
    store, losses, told = FakeStore(), [], threading.Event()

    def on_loss(loss):
        losses.append(loss)
        told.set()

    heartbeat = Heartbeat(store, 1, 2, 0.5, on_loss, period=0.05)
    heartbeat.start()
    try:
        store.key_value_set('dlf_jax/alive/0', 'done', allow_overwrite=True)
        assert not told.wait(timeout=1)
        store.answering.clear()
        start = time.monotonic()
        assert told.wait(timeout=30)
        assert time.monotonic() - start > 0.4
        assert losses == [Loss('process 0 has not been reached for 0.5 seconds', store=True)]
        start = time.monotonic()
        heartbeat.stop(patience=0.2)
        assert time.monotonic() - start < 10
    finally:
        store.answering.set()
        heartbeat.stop(patience=5)


def test_stopped_it_tells_no_loss():
    store, losses = FakeStore(), []
    heartbeat = Heartbeat(store, 0, 2, 0.1, losses.append, period=0.02)
    store.key_value_set('dlf_jax/alive/1', 'done', allow_overwrite=True)
    heartbeat.start()
    heartbeat.stop(patience=5)
    store.values['dlf_jax/alive/1'] = 'failed: 1 broken'
    time.sleep(0.3)
    assert losses == []
