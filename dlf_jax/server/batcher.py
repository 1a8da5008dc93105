"""Requests as batches: one thread scores what is waiting, while the event loop reads and answers."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable

from dlf_jax.data.preprocess.joined_encoder import TypedRows
from dlf_jax.errors import UserError
from dlf_jax.server.rows import BadRequest
from dlf_jax.server.scorer import Scorer, Scores

_log = logging.getLogger(__name__)


class Overloaded(Exception):
    """There is no room for a request, or no time: it was not scored."""


@dataclasses.dataclass(eq=False)
class Waiting:
    """A request that waits for its scores.

    Attributes:
      scorer: the version that has read the rows, and scores them.
      rows: the rows.
      future: of the event loop.
      since: time at which it came, in seconds.
    """

    scorer: Scorer
    rows: TypedRows
    future: asyncio.Future[Scores]
    since: float


class Batcher:
    """Queue of requests in front of one thread that scores them.

    A batch holds whole requests, of one version of the model. A request that fails does so alone: where a
    batch cannot be scored, its halves are.
    """

    def __init__(
        self,
        max_batch: int,
        max_queue: int,
        max_delay: float = 0.0,
        observe: Callable[[Scorer, Scores, float], None] = lambda scorer, scores, seconds: None,
        loop: asyncio.AbstractEventLoop | None = None,
    ):
        """Starts the thread.

        Args:
          max_batch: number of rows after which a batch takes no further request.
          max_queue: maximum number of rows that wait.
          max_delay: seconds to wait for further requests before a batch that is not full is scored.
          observe: called in the thread with each batch: who scored it, its scores, and the seconds they took.
          loop: event loop of the futures; None: the running one.
        """
        self._max_batch, self._max_queue, self._max_delay = max_batch, max_queue, max_delay
        self._observe, self._loop = observe, loop or asyncio.get_running_loop()
        self._queue: collections.deque[Waiting] = collections.deque()
        self._changed = threading.Condition()
        self.waiting_rows = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name='scoring', daemon=True)
        self._thread.start()

    def submit(self, scorer: Scorer, rows: TypedRows) -> asyncio.Future[Scores]:
        """Queues rows; called by the event loop.

        Args:
          scorer: the version that has read them.
          rows: the rows.

        Returns:
          Their scores; or a `BadRequest`. Where it is cancelled before its turn, the rows are not scored.

        Raises:
          Overloaded: so many rows are waiting that these would be too many.
        """
        with self._changed:
            # A request alone always finds room: its rows are bounded elsewhere.
            if self._closed or (self._queue and self.waiting_rows + rows.rows > self._max_queue):
                raise Overloaded
            future: asyncio.Future[Scores] = self._loop.create_future()
            one = Waiting(scorer, rows, future, time.perf_counter())
            self._queue.append(one)
            self.waiting_rows += rows.rows
            future.add_done_callback(lambda done: self._forget(one) if done.cancelled() else None)
            self._changed.notify()
        return future

    def _forget(self, one: Waiting) -> None:
        """Makes room where a request is given up before its turn."""
        with self._changed, contextlib.suppress(ValueError):
            self._queue.remove(one)
            self.waiting_rows -= one.rows.rows

    @property
    def alive(self) -> bool:
        """Whether the thread scores what is waiting."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Scores what is waiting, and ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._take():
            try:
                results = self._score(batch)
            except BaseException as error:
                # A mistake of ours, in what is counted; the thread must go on.
                results = [_explained(error)] * len(batch)
            self._loop.call_soon_threadsafe(_deliver, batch, results)
            # A version that was replaced must not live on in here.
            del batch, results

    def _take(self) -> list[Waiting]:
        """Waits for requests and takes a batch; empty where there will be none."""
        with self._changed:
            while True:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if self._queue and self._max_delay and not self._closed:
                    self._wait_for_more()
                batch = self._whole_requests()
                # All that waited may have been cancelled.
                if batch or (self._closed and not self._queue):
                    return batch

    def _whole_requests(self) -> list[Waiting]:
        """Takes requests of one version off the queue, as many as a batch holds."""
        batch: list[Waiting] = []
        rows = 0
        while self._queue:
            first = self._queue[0]
            if batch and (rows + first.rows.rows > self._max_batch or first.scorer is not batch[0].scorer):
                break
            self._queue.popleft()
            self.waiting_rows -= first.rows.rows
            if not first.future.cancelled():
                batch.append(first)
                rows += first.rows.rows
        return batch

    def _wait_for_more(self) -> None:
        end = self._queue[0].since + self._max_delay
        while self.waiting_rows < self._max_batch and not self._closed:
            left = end - time.perf_counter()
            if left <= 0 or not self._changed.wait(left):
                return

    def _score(self, batch: list[Waiting]) -> list[Scores | Exception]:
        """The scores of each request, or its error."""
        start, scorer = time.perf_counter(), batch[0].scorer
        try:
            scores = scorer.score(TypedRows.joined([one.rows for one in batch]))
        except BaseException as error:
            # Polars' panics are no `Exception`.
            if len(batch) == 1:
                return [_explained(error)]
            # Whatever one request causes, the others have their scores; by halves, so that it costs little.
            half = len(batch) // 2
            return self._score(batch[:half]) + self._score(batch[half:])
        self._observe(scorer, scores, time.perf_counter() - start)
        found: list[Scores | Exception] = []
        first = 0
        for one in batch:
            found.append(scores.part(slice(first, first + one.rows.rows)))
            first += one.rows.rows
        return found


def _explained(error: BaseException) -> Exception:
    """What a request is answered that cannot be scored."""
    if isinstance(error, BadRequest):
        return error
    if isinstance(error, UserError):
        return BadRequest(str(error))
    _log.error('a request cannot be scored', exc_info=error)
    return BadRequest('the rows cannot be scored; the log of the server says why', 500)


def _deliver(batch: list[Waiting], results: list[Scores | Exception]) -> None:
    """Hands results to those who wait; in the event loop."""
    for one, result in zip(batch, results, strict=True):
        if one.future.done():
            continue
        if isinstance(result, Exception):
            one.future.set_exception(result)
        else:
            one.future.set_result(result)
