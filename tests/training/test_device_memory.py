"""Memory of devices, in branches that only accelerators and several hosts take."""

import types

import jax
import pytest

from dlf_jax.training.device_memory import GIB, device_memory


def device(platform='gpu', process=0, stats=None, kind='NVIDIA H100 80GB HBM3'):
    def memory_stats():
        if isinstance(stats, Exception):
            raise stats
        return stats

    return types.SimpleNamespace(
        platform=platform, process_index=process, memory_stats=memory_stats, device_kind=kind
    )


ABSENT = jax.errors.JaxRuntimeError('INVALID_ARGUMENT: MemoryStats is only supported for addressable devices')


def test_a_device_of_this_process_is_asked():
    """The first of all devices may be another host's, which raises."""
    devices = [device(process=1, stats=ABSENT), device(process=0, stats={'bytes_limit': 7})]
    assert device_memory(devices) == 7


@pytest.mark.parametrize(
    ('platform', 'kind', 'size'),
    [
        ('gpu', 'NVIDIA H100 80GB HBM3', 60 * GIB),
        ('gpu', 'NVIDIA A100-SXM4-40GB', 30 * GIB),
        ('tpu', 'TPU v5 lite', 16 * GIB),
        ('tpu', 'TPU v5', 95 * GIB),
        ('gpu', 'Some new thing', float('inf')),
    ],
)
def test_a_device_that_only_describes_itself_has_what_its_kind_is_known_for(platform, kind, size):
    assert device_memory([device(platform, stats=ABSENT, kind=kind)]) == size
    assert device_memory([device(platform, stats=None, kind=kind)]) == size


def test_the_share_of_a_gpu_that_jax_takes_can_be_set(monkeypatch):
    monkeypatch.setenv('XLA_PYTHON_CLIENT_MEM_FRACTION', '.9')
    assert device_memory([device(stats=ABSENT)]) == pytest.approx(72 * GIB)


def test_cpus_share_the_machine():
    one, four = (device_memory([device('cpu')] * count) for count in (1, 4))
    assert one == pytest.approx(4 * four)
    # Those of other hosts have machines of their own.
    assert device_memory([device('cpu'), device('cpu', process=1)]) == one
