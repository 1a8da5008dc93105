"""Memory that is kept from one large array to the next: in processes of their own, for it is for good."""

import platform
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax import allocator
from dlf_jax.training.sharding import Partitioner

# Faults of the second of two arrays that threads allocate one after another; the first one's are many.
SECOND = """
import ctypes, resource, sys
# PR_SET_THP_DISABLE: small pages, of which there are enough to tell.
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)
from concurrent.futures import ThreadPoolExecutor
from dlf_jax import allocator
if 'keep' in sys.argv:
    allocator.take_over()
import numpy as np
if 'keep' in sys.argv:
    allocator.keep_freed_memory()
def faults(thread):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread.submit(lambda: np.ones(100 << 17).sum()).result()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first, second = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
faults(first)
print(faults(second))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason="the allocator's settings are glibc's")
@pytest.mark.parametrize(('arguments', 'kept'), [(['keep'], True), ([], False)])
def test_a_thread_takes_what_another_one_freed(arguments, kept):
    command = [sys.executable, '-c', SECOND, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert (int(done.stdout) < 1000) == kept


@pytest.mark.parametrize(('name', 'told'), [('__main__', '[False]'), ('dlf_jax.main', '[]')])
def test_the_command_sets_it_before_threads_start_and_an_import_never(name, told):
    code = (
        'import runpy, sys; from dlf_jax import allocator; loaded = []\n'
        "allocator.take_over = lambda: loaded.append('jax' in sys.modules or 'numpy' in sys.modules)\n"
        "sys.argv = ['main', '--nonsense']\n"
        f"try: runpy.run_module('dlf_jax.main', run_name={name!r})\n"
        'except SystemExit: pass\n'
        'print(loaded)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == told


def test_a_library_call_leaves_the_allocator_alone(monkeypatch):
    monkeypatch.setattr(allocator, '_taken_over', False)
    monkeypatch.setattr(allocator, '_set', lambda *_: pytest.fail('mallopt was called'))
    allocator.keep_freed_memory()


@pytest.mark.parametrize('parallel', ['jit', 'pmap'])
def test_steps_on_a_cpu_keep_it(monkeypatch, parallel):
    calls = []
    monkeypatch.setattr(allocator, 'keep_freed_memory', lambda: calls.append(1))
    partitioner = Partitioner(8, jax.devices()[:1], parallel)
    step = partitioner.train(lambda state, batch: (state, {}))
    for _ in range(2):
        step({'table': jnp.zeros((4, 2))}, partitioner.put({'label': np.zeros(8, np.float32)}))
    assert calls == [1]


def test_the_memory_of_the_initial_state_is_not_kept(monkeypatch):
    """Its arrays come once, and it is made while the step is compiled."""
    monkeypatch.setattr(allocator, 'keep_freed_memory', lambda: pytest.fail('before the first step'))
    state, batch = {'table': jnp.zeros((4, 2))}, {'label': jnp.zeros(8)}
    step = Partitioner(8, jax.devices()[:1]).train(lambda state, batch: (state, {}))
    step.begin(state, batch)
    step.compile(state, batch)


# Faults of the last of some steps with more temporary arrays at a time than one piece may have.
STEPS = """
import ctypes, resource, time
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)
from dlf_jax import allocator
allocator.take_over()
import jax, jax.numpy as jnp
from dlf_jax.training.sharding import Partitioner
def step(state, batch):
    # Loops, which are not fused: their results are in memory at the same time.
    a, b, c = (jax.lax.map(lambda factor: factor * batch['x'], part) for part in jnp.split(state, 3))
    return state + jnp.mean(a * b * c), {}
train = Partitioner(25 << 20, jax.devices()[:1]).train(step)
state, batch = jnp.ones((6,)), {'x': jnp.ones((25 << 20,))}
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    state, _ = jax.block_until_ready(train(state, batch))
    # What a step took is free a moment after its results are ready.
    time.sleep(0.2)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
assert train.executable.memory_analysis().temp_size_in_bytes > allocator.LARGEST
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason="the allocator's settings are glibc's")
def test_large_steps_keep_their_memory():
    done = subprocess.run(
        [sys.executable, '-c', STEPS], capture_output=True, text=True, check=True, timeout=120
    )
    first, *_, last = map(int, done.stdout.split())
    assert first > 100_000 > 10_000 > last


def test_an_older_glibc_takes_less(monkeypatch):
    """There a threshold above 32 MiB is refused, and the settings after it would freeze the small default."""
    taken = {}

    def mallopt(option, value):
        if option == allocator._MMAP_THRESHOLD and value > 32 << 20:
            return False
        taken[option] = value
        return True

    monkeypatch.setattr(allocator, '_set', mallopt)
    monkeypatch.setattr(allocator, '_taken_over', True)
    allocator.keep_freed_memory()
    assert taken[allocator._MMAP_THRESHOLD] == 32 << 20
    assert allocator._TRIM_THRESHOLD in taken
