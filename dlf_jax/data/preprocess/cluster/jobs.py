"""Jobs on the workers of a cluster: with progress, and with the error that one machine would find first."""

from __future__ import annotations

import contextlib
import logging
import queue
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from dlf_jax.data.preprocess.cluster.work import Work, do
from dlf_jax.data.progress import Progress
from dlf_jax.errors import UserError

T = TypeVar('T')
# Seconds without a job's end after which the workers are looked at.
_LOOK_SECONDS = 20.0
_log = logging.getLogger(__name__)


class Jobs:
    """Runs functions of a `Work` on workers."""

    def __init__(self, client: Any, work: Work):
        """Hands the work to the scheduler.

        Args:
          client: `distributed.Client`.
          work: first argument of every function.
        """
        self._client = client
        # A task of its own: sent once to every worker, and made again where a worker is lost.
        self._work = client.submit(_itself, work, pure=False)
        self._workers: set[str] = set()

    @property
    def threads(self) -> int:
        """Number of jobs that the workers do at a time."""
        return max(1, sum(self._client.nthreads().values()))

    def run(
        self,
        what: str,
        function: Callable[..., T],
        items: Sequence[tuple],
        sizes: Sequence[int] | None = None,
        unit: str = 'rows',
    ) -> list[T]:
        """Runs a function for each item.

        Args:
          what: the work, as a heading of the progress.
          function: called with the work and the parts of an item; of this package.
          items: in the order in which one machine would take them.
          sizes: what the progress counts, by item; None: the items.
          unit: what is counted, in the plural.

        Returns:
          The results, in the order of the items.

        Raises:
          UserError: that of the first item with one; or workers or the scheduler are lost.
        """
        import distributed.client

        sizes = [1] * len(items) if sizes is None else sizes
        futures = [
            self._client.submit(do, self._work, function, item, pure=False, priority=-i)
            for i, item in enumerate(items)
        ]
        numbers = {future.key: i for i, future in enumerate(futures)}
        results: list[Any] = [None] * len(items)
        failed: dict[int, BaseException] = {}
        try:
            with Progress(what, unit, sum(sizes)) as progress:
                for future in self._as_they_end(futures):
                    i = numbers[future.key]
                    self._tell_lost_workers()
                    try:
                        results[i] = future.result()
                        progress.advance(sizes[i])
                    except UserError as error:
                        failed[i] = error
                        # Those before it go on: one of them may have an error that comes first.
                        self._client.cancel(futures[i + 1 :], force=True)
                    except distributed.client.FutureCancelledError as error:
                        if not failed or i < min(failed):
                            raise _lost(error) from error
                    # What it returned need not be kept on the worker.
                    future.release()
        except Exception as error:
            explained = _explained(error)
            if explained is error:
                raise
            raise explained from error
        finally:
            with contextlib.suppress(Exception):
                self._client.cancel(futures, force=True)
        if failed:
            raise failed[min(failed)]
        return results

    def _as_they_end(self, futures: Sequence[Any]) -> Iterator[Any]:
        """Yields each future when it has a result, an error, or was cancelled.

        Raises:
          UserError: all workers wait for memory, which none of them will have.
        """
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for future in futures:
            future.add_done_callback(ended.put)
        for _ in futures:
            while True:
                try:
                    yield ended.get(timeout=_LOOK_SECONDS)
                    break
                except queue.Empty:
                    self._tell_lost_workers()
                    self._check_not_paused()

    def _check_not_paused(self) -> None:
        there = self._client.scheduler_info(n_workers=-1)['workers']
        if there and all(worker['status'] == 'paused' for worker in there.values()):
            raise UserError(
                f'all workers, such as {min(there)}, have paused because their memory is nearly full; start '
                'them with a higher --memory-limit, or fewer threads'
            )

    def everywhere(self, function: Callable[[Work], Any]) -> None:
        """Runs a function on every worker; what fails there is of no consequence."""
        with contextlib.suppress(Exception):
            self._client.run(function, self._work.result(), on_error='ignore')

    def _tell_lost_workers(self) -> None:
        there = set(self._client.nthreads())
        for lost in sorted(self._workers - there):
            _log.warning('worker %s is lost; others do again what it has not handed over', lost)
        self._workers = there


def _itself(work: Work) -> Work:
    return work


def _lost(error: BaseException) -> UserError:
    return UserError(
        f'the Dask scheduler is gone, or has dropped the work ({error}); run the same command again'
    )


def _explained(error: Exception) -> Exception:
    """The error for a person, where it is of the cluster."""
    import distributed

    if isinstance(error, UserError):
        return error
    if isinstance(error, distributed.scheduler.KilledWorker):
        return UserError(
            f'{error.allowed_failures + 1} workers were lost one after another at the same work, the last of '
            f'them {error.last_worker.address}: it takes more memory than they have (--memory, or the '
            "workers' --memory-limit), or something else kills them: see their logs"
        )
    if isinstance(error, ModuleNotFoundError):
        return UserError(f'a worker lacks a package: {error}; install the same on all machines')
    if isinstance(error, distributed.comm.core.CommClosedError | distributed.client.FutureCancelledError):
        return _lost(error)
    return error
