"""Memory that is kept from one large array to the next, in processes of its own: it cannot be given up."""

import platform
import subprocess
import sys

import pytest

# Faults of the second of two arrays that threads allocate one after another; the first one's are many.
SECOND = """
import ctypes, resource, sys
# PR_SET_THP_DISABLE: small pages, of which there are enough to tell.
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)
from concurrent.futures import ThreadPoolExecutor
from dlf_jax import allocator
if 'keep' in sys.argv:
    allocator.one_arena()
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
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (int(done.stdout) < 1000) == kept
