"""Connection to a Dask scheduler, or to one of this process with workers beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

from dlf_jax.data.preprocess.cluster.options import KEY, RUNNER, Options
from dlf_jax.errors import UserError
from dlf_jax.file_writing import to_json

_log = logging.getLogger(__name__)


def require() -> None:
    """Raises UserError where Dask is not installed."""
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"config.dataset.beam_runner={RUNNER!r}: needs Dask: pip install 'dlf_jax[dask]'"
        ) from error


@contextlib.contextmanager
def connected(options: Options) -> Iterator[Any]:
    """Yields a `distributed.Client` that has a worker at least; what was started for it ends with the block.

    Raises:
      UserError: no scheduler answers, or it has no workers.
    """
    import dask
    import distributed

    quiet = {
        # Of this process and, by their environment, of the local workers.
        'logging': {'distributed': 'critical', 'tornado': 'critical', 'asyncio': 'critical'},
        'distributed.comm.timeouts.connect': f'{options.timeout}s',
    }
    with dask.config.set(quiet), _silent(), contextlib.ExitStack() as stack:
        try:
            address = options.address or stack.enter_context(_local_cluster(options))
            client = distributed.Client(address, timeout=options.timeout, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise UserError(
                f'{KEY}: no Dask scheduler answers at {options.address or "this machine"} within '
                f'{options.timeout:g} seconds ({error}); start one with `dask scheduler`, or mend --address'
            ) from error
        stack.callback(_close, client)
        wanted = 1 if options.address else options.workers
        try:
            client.wait_for_workers(wanted, timeout=options.timeout)
        except TimeoutError as error:
            raise UserError(
                f'{KEY}: fewer than {wanted} worker{"s" * (wanted > 1)} of Dask within {options.timeout:g} '
                f'seconds; start them with `dask worker {options.address or "ADDRESS"}`, or raise --timeout'
            ) from error
        yield client


@contextlib.contextmanager
def _local_cluster(options: Options) -> Iterator[Any]:
    """A scheduler in this process, and worker processes that end with it, however it ends.

    The workers are commands of their own: those that Dask's LocalCluster makes would run the user's script
    again, up to its `__main__` guard.
    """
    import distributed
    from distributed.deploy.spec import SpecCluster
    from distributed.deploy.subprocess import SubprocessWorker

    class Worker(SubprocessWorker):
        """Without what Python prints about a lost worker; errors of the work come back as exceptions."""

        async def _start(self) -> None:
            spec = to_json({'cls': self.worker_class, 'opts': self.worker_kwargs})
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, '-W', 'ignore', '-m', 'dask', 'spec', self.scheduler, '--spec', spec,
                env={**os.environ, **environment}, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip

    environment = {
        # As many processes as cores: more threads in each would only wait for each other.
        'POLARS_MAX_THREADS': '1',
        'JAX_PLATFORMS': 'cpu',
        # Memory of freed arrays is kept for the next ones; Dask would have it given back at once.
        # One arena: what one thread frees another one needs, see `dlf_jax.allocator`.
        'MALLOC_ARENA_MAX': '1',
        'MALLOC_TRIM_THRESHOLD_': str(64 << 20),
        'MALLOC_MMAP_THRESHOLD_': str(32 << 20),
        'MALLOC_TOP_PAD_': str(16 << 20),
        # One that comes near its limit goes on, and is ended at 95 %: Dask would have it wait for ever.
        'DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE': 'False',
        'DASK_DISTRIBUTED__WORKER__MEMORY__SPILL': 'False',
        'DASK_DISTRIBUTED__WORKER__MEMORY__TARGET': 'False',
        'DASK_LOGGING__DISTRIBUTED': 'critical',
        'DASK_LOGGING__TORNADO': 'critical',
    }
    settings: dict[str, Any] = {
        'host': '127.0.0.1',
        'nthreads': 1,
        'silence_logs': logging.CRITICAL,
        'dashboard': False,
        'env': environment,
        'memory_limit': options.memory or _share_of_memory(options.workers),
    }
    worker = {'cls': Worker, 'options': {'worker_kwargs': settings}}
    cluster = SpecCluster(
        workers=dict.fromkeys(range(options.workers), worker),
        scheduler={
            'cls': distributed.Scheduler,
            'options': {'host': '127.0.0.1', 'port': 0, 'dashboard': False, 'dashboard_address': None},
        },
        worker=worker,
        silence_logs=logging.CRITICAL,
        name='dlf_jax',
    )
    try:
        yield cluster
    finally:
        with contextlib.suppress(Exception):
            cluster.close(timeout=10)


def _share_of_memory(workers: int) -> int:
    """Bytes of one of several workers, of nine tenths of what the machine, or its container, has."""
    from distributed.system import MEMORY_LIMIT

    return int(0.9 * MEMORY_LIMIT / workers)


def _close(client: Any) -> None:
    # The work is done, or has failed with an error of its own.
    with contextlib.suppress(Exception):
        client.close(timeout=10)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Leaves out what Dask logs: what matters comes back as an exception, or is said by `jobs`."""
    logs = [logging.getLogger(name) for name in ('distributed', 'tornado', 'asyncio')]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
