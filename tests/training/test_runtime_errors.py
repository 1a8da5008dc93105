"""Which errors of JAX become one line for a user, and which keep their traceback."""

import jax
import jax.numpy as jnp
import pytest

from dlf_jax import config as configs
from dlf_jax.errors import UserError
from dlf_jax.training import multihost, runtime_errors
from dlf_jax.training.multihost import LostProcess
from dlf_jax.training.runtime_errors import OutOfMemory
from tests.conftest import TINY, fail

# As XLA's allocators say it on CPUs, GPUs and TPUs.
MEMORY = [
    ('RESOURCE_EXHAUSTED: Out of memory allocating 140737488355328 bytes.', '1.41e+05 GB'),
    ('RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7406166528 bytes.', '7.41 GB'),
    (
        'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. '
        'Used 21.95G of 15.48G hbm. Exceeded hbm capacity by 6.47G.\n\nTotal hbm usage >= 22.47G:',
        'Used 21.95G of 15.48G hbm',
    ),
    (
        'INTERNAL: Failed to load in-memory CUBIN (compiled for a different GPU?).: '
        'CUDA_ERROR_OUT_OF_MEMORY: out of memory',
        'CUDA_ERROR_OUT_OF_MEMORY',
    ),
]
# As gRPC, the coordination service, Gloo and NCCL say it.
LOST = [
    'UNAVAILABLE: recvmsg:Connection reset by peer\nAdditional GRPC error information from remote target',
    'UNAVAILABLE: Socket closed',
    'UNAVAILABLE: Task /job:jax_worker/replica:0/task:1 heartbeat timeout. This indicates that the remote '
    'task has failed, got preempted, or crashed unexpectedly.',
    'DEADLINE_EXCEEDED: Barrier timed out. Id: Shutdown::294810167735297499::0.',
    'INTERNAL: Shutdown barrier has failed.',
    'ABORTED: /job:jax_worker/replica:0/task:1 unexpectedly tried to connect with a different incarnation.',
    'INTERNAL: NCCL operation ncclGroupEnd() failed: remote process exited or there was a network error.',
    'UNKNOWN: Gloo all-reduce failed: [external/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by '
    'peer [127.0.0.1]:29319',
    'INTERNAL: Gloo all-reduce failed: [external/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out '
    'waiting 30000ms for recv operation to complete',
]
# Mistakes in a program, and in its surroundings, that no other process has to do with.
OTHERS = [
    'INTERNAL: Mosaic failed to compile TPU kernel: optimization_barrier is not supported',
    'INVALID_ARGUMENT: Executable expected parameter 0 of size 64 but got buffer with incompatible size 32',
    'RESOURCE_EXHAUSTED: Received message larger than max (5242880 vs. 4194304)',
    'RESOURCE_EXHAUSTED: Error writing "/data/memory": No space left on device',
    'UNKNOWN: Gloo all-reduce failed: op.preamble.length <= op.nbytes. 64 vs 32',
    'INTERNAL: CpuCallback error calling callback: Traceback (most recent call last)',
    'no status code at all: Connection reset by peer',
]


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.setattr(jax, 'process_count', lambda: 2)


def passes_through(error):
    with pytest.raises(type(error)) as caught, runtime_errors.explained():
        raise error
    return caught.value is error


def test_memory_that_there_is_not():
    """A real failure of the CPU's allocator."""
    config = configs.get_config('mlp')
    config.training.batch_size = 12345
    with pytest.raises(OutOfMemory) as caught, runtime_errors.explained(config):
        jnp.zeros(1 << 45, jnp.float32).block_until_ready()
    message = str(caught.value)
    assert 'no memory for another 1.41e+05 GB (RESOURCE_EXHAUSTED: Out of memory' in message
    assert '--config.training.batch_size (now 12345)' in message
    for key in ('training.accumulate', 'model.embedding_size', 'sharding.tables', 'predict.batch_size'):
        assert f'--config.{key}' in message
    assert '\n' not in message
    assert isinstance(caught.value.__cause__, jax.errors.JaxRuntimeError)


def test_the_command_without_memory_has_one_line(tmp_path, data_dir):
    """400 TB of weights, and the check before training told that they fit."""
    message = fail(
        *TINY, '--config.model.hidden=(10000000,10000000)', '--config.sharding.device_memory=1' + '0' * 18,
        f'--workdir={tmp_path}', f'--data_dir={data_dir}',
    )  # fmt: skip
    assert 'no memory for another' in message
    assert '--config.training.batch_size (now 256)' in message


@pytest.mark.parametrize(('text', 'asked'), MEMORY)
def test_memory_is_never_another_process(text, asked, two_processes):
    with pytest.raises(OutOfMemory) as caught, runtime_errors.explained():
        raise jax.errors.JaxRuntimeError(text)
    assert asked in str(caught.value)
    assert 'another process' not in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('text', LOST)
def test_a_lost_process(text, two_processes):
    with pytest.raises(LostProcess) as caught, runtime_errors.explained():
        raise jax.errors.JaxRuntimeError(text)
    message = str(caught.value)
    assert message.startswith('process 0 of 2: another process is gone or cannot be reached')
    assert text.splitlines()[0] in message
    assert '\n' not in message


def test_a_collective_that_fails_while_it_is_dispatched(two_processes):
    """JAX raises ValueError there."""
    (gloo,) = [text for text in LOST if 'Connection closed by peer' in text]
    with pytest.raises(LostProcess), runtime_errors.explained():
        raise ValueError(gloo)


@pytest.mark.parametrize('exits', [False, True])
@pytest.mark.parametrize(
    'error',
    [jax.errors.JaxRuntimeError(LOST[0]), LostProcess('gone'), ValueError('ours'), KeyboardInterrupt()],
)
def test_closing_waits_for_no_lost_process(error, exits, two_processes, monkeypatch):
    monkeypatch.setattr(multihost, 'exits_on_loss', lambda: exits)
    closed = []
    with pytest.raises(type(error)), runtime_errors.closing(lambda: closed.append(True)):
        raise error
    lost = isinstance(error, jax.errors.JaxRuntimeError | LostProcess)
    assert closed == ([] if lost and not exits else [True])


def test_closing_closes_at_the_end():
    closed = []
    with runtime_errors.closing(lambda: closed.append(True)):
        assert closed == []
    assert closed == [True]


@pytest.mark.parametrize('text', OTHERS)
@pytest.mark.parametrize('kind', [jax.errors.JaxRuntimeError, ValueError])
def test_all_else_keeps_its_traceback(kind, text, two_processes):
    assert passes_through(kind(text))


def test_files_in_remote_storage_are_no_process(two_processes):
    assert passes_through(ValueError('UNAVAILABLE: CURL error: Connection reset by peer [tensorstore]'))


@pytest.mark.parametrize('text', LOST)
def test_alone_no_process_can_be_lost(text):
    assert passes_through(jax.errors.JaxRuntimeError(text))


def test_a_user_error_passes_unchanged(two_processes):
    assert passes_through(UserError('UNAVAILABLE: connection reset'))
