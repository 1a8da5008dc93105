"""Jobs on the workers of a cluster: with progress, and with the error that one machine would find first."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from dlf_jax.data.preprocess.cluster.work import Work, do
from dlf_jax.data.progress import Progress
from dlf_jax.errors import UserError

T = TypeVar('T')
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
        import distributed

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
                for future in distributed.as_completed(futures, loop=self._client.loop):
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
