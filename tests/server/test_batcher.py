"""Requests share batches, do not mix, and are refused where there is no room or no time."""

import asyncio
import threading
import time

import httpx
import numpy as np
import pytest

from dlf_jax.server.batcher import Batcher, Overloaded
from dlf_jax.server.rows import BadRequest
from dlf_jax.server.scorer import Scores
from tests.server.conftest import serving


class Fake:
    """A scorer whose scores are the rows' numbers; waits for `go`, and fails where one is below 0."""

    def __init__(self):
        self.go, self.batches = threading.Event(), []

    def score(self, rows):
        assert self.go.wait(20)
        self.batches.append(rows.rows)
        if (rows.numbers < 0).any():
            raise RuntimeError('a mistake')
        flags = np.zeros((rows.rows, 1), bool)
        return Scores(rows.numbers[:, 0].astype(np.float32), flags, flags)


def typed(*values):
    from dlf_jax.data.preprocess.joined_encoder import TypedRows

    return TypedRows(len(values), [], [], [], np.array(values, float)[:, None])


def run(act, **options):
    """Runs `act(batcher, scorer)` in an event loop."""

    async def whole():
        scorer = Fake()
        batcher = Batcher(**{'max_batch': 8, 'max_queue': 20, **options})
        try:
            return await asyncio.wait_for(act(batcher, scorer), 20)
        finally:
            scorer.go.set()
            await asyncio.to_thread(batcher.close)

    return asyncio.run(whole())


async def busy(batcher, scorer):
    """Has the thread hold a batch of one row."""
    first = batcher.submit(scorer, typed(0))
    while batcher.waiting_rows:
        await asyncio.sleep(0.001)
    return first


def test_what_is_waiting_becomes_one_batch_of_whole_requests():
    async def act(batcher, scorer):
        waiting = [await busy(batcher, scorer)]
        waiting += [
            batcher.submit(scorer, typed(*values)) for values in ((1, 2, 3), (4, 5), (6, 7, 8, 9), (10,))
        ]
        scorer.go.set()
        found = [scores.probabilities.tolist() for scores in await asyncio.gather(*waiting)]
        assert found == [[0], [1, 2, 3], [4, 5], [6, 7, 8, 9], [10]]
        # The third would not have fitted in.
        assert scorer.batches == [1, 5, 5]

    run(act)


def test_a_request_that_fails_does_so_alone():
    async def act(batcher, scorer):
        waiting = [await busy(batcher, scorer)]
        waiting += [batcher.submit(scorer, typed(value)) for value in (1, -1, 2, 3, -2, 4)]
        scorer.go.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        for value, result in zip((0, 1, -1, 2, 3, -2, 4), found, strict=True):
            if value < 0:
                assert isinstance(result, BadRequest)
                assert result.status == 500
                assert 'a mistake' not in str(result)
            else:
                assert result.probabilities.tolist() == [value]

    run(act)


def test_requests_of_two_versions_are_not_scored_together():
    async def act(batcher, scorer):
        other = Fake()
        other.go.set()
        waiting = [await busy(batcher, scorer)]
        waiting += [batcher.submit(which, typed(i)) for i, which in enumerate([scorer, other, other, scorer])]
        scorer.go.set()
        await asyncio.gather(*waiting)
        assert (scorer.batches, other.batches) == ([1, 1, 1], [2])

    run(act)


def test_a_mistake_in_what_is_counted_costs_its_request_alone():
    asked = []

    def observe(*arguments):
        asked.append(arguments)
        if len(asked) == 1:
            raise MemoryError

    async def act(batcher, scorer):
        scorer.go.set()
        with pytest.raises(BadRequest, match='cannot be scored'):
            await batcher.submit(scorer, typed(1))
        await batcher.submit(scorer, typed(2))
        return batcher.alive

    assert run(act, observe=observe)
    assert len(asked) == 2


def test_there_is_no_room():
    async def act(batcher, scorer):
        waiting = [await busy(batcher, scorer), batcher.submit(scorer, typed(*range(15)))]
        with pytest.raises(Overloaded):
            batcher.submit(scorer, typed(*range(6)))
        waiting.append(batcher.submit(scorer, typed(*range(5))))
        assert batcher.waiting_rows == 20
        scorer.go.set()
        await asyncio.gather(*waiting)
        # A request that is larger than all room finds an empty queue.
        await batcher.submit(scorer, typed(*range(40)))

    run(act)


def test_who_has_left_is_not_scored():
    async def act(batcher, scorer):
        first = await busy(batcher, scorer)
        gone, kept = batcher.submit(scorer, typed(1, 2)), batcher.submit(scorer, typed(3))
        gone.cancel()
        scorer.go.set()
        await asyncio.gather(first, kept)
        assert scorer.batches == [1, 1]

    run(act)


def test_a_delay_lets_a_batch_fill():
    async def act(batcher, scorer):
        scorer.go.set()
        start = time.perf_counter()
        waiting = [batcher.submit(scorer, typed(1))]
        await asyncio.sleep(0.05)
        waiting.append(batcher.submit(scorer, typed(2)))
        await asyncio.gather(*waiting)
        assert scorer.batches == [2]
        assert time.perf_counter() - start >= 0.3
        # A full one does not wait.
        start = time.perf_counter()
        await batcher.submit(scorer, typed(*range(8)))
        assert time.perf_counter() - start < 0.25

    run(act, max_delay=0.3)


def test_what_waits_at_the_end_is_scored():
    async def act(batcher, scorer):
        waiting = [
            await busy(batcher, scorer),
            batcher.submit(scorer, typed(1)),
            batcher.submit(scorer, typed(2)),
        ]
        scorer.go.set()
        await asyncio.to_thread(batcher.close)
        assert [scores.probabilities[0] for scores in await asyncio.gather(*waiting)] == [0, 1, 2]
        with pytest.raises(Overloaded):
            batcher.submit(scorer, typed(1))

    run(act)


class Held:
    """A scorer that waits before it scores."""

    def __init__(self, scorer, go):
        self._scorer, self._go = scorer, go

    def __getattr__(self, name):
        return getattr(self._scorer, name)

    def score(self, rows):
        assert self._go.wait(20)
        return self._scorer.score(rows)


def test_a_full_queue_and_a_slow_answer(scorer, frame):
    """503 with Retry-After at once, 504 after a while, and the server goes on."""
    rows = frame[:4].to_dicts()
    go = threading.Event()

    async def ask(address):
        async with httpx.AsyncClient(base_url=address, timeout=20) as client:

            async def post():
                return await client.post('/v1/score', json={'rows': rows})

            async def waiting(count):
                while f'dlf_queue_rows {count}.0' not in (await client.get('/metrics')).text:
                    await asyncio.sleep(0.01)

            first = [asyncio.create_task(post())]
            await asyncio.sleep(0.1)
            first += [asyncio.create_task(post()) for _ in range(2)]
            await asyncio.wait_for(waiting(8), 10)
            refused = await post()
            slow = await asyncio.gather(*first)
            go.set()
            good = await post()
        return refused, slow, good

    with serving(scorer, max_queue=8, timeout_seconds=1) as (address, service):
        service.scorer = Held(scorer, go)
        refused, slow, good = asyncio.run(ask(address))
    assert refused.status_code == 503
    assert refused.headers['retry-after'] == '1'
    assert [answer.status_code for answer in slow] == [504] * 3
    assert good.status_code == 200
