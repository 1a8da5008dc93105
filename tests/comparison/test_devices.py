"""Which devices a run may see. (No GPU is asked.)"""

import importlib.util

import pytest

from dlf_jax.comparison import devices
from dlf_jax.comparison.devices import Slot


def test_one_gpu_each():
    assert devices.slots(0, ['0', '1'], [0, 1]) == [
        Slot({'CUDA_VISIBLE_DEVICES': '0'}),
        Slot({'CUDA_VISIBLE_DEVICES': '1'}),
    ]
    found = devices.slots(2, ['4', '5', '6'], [0, 1])
    assert found == [Slot({'CUDA_VISIBLE_DEVICES': name}) for name in ('4', '5')]
    # One at a time has all of them.
    assert devices.slots(1, ['0', '1'], [0, 1]) == [Slot()]


def test_more_runs_than_gpus_share_memory():
    found = [slot.environment for slot in devices.slots(3, ['0', '1'], [0, 1])]
    assert [variables['CUDA_VISIBLE_DEVICES'] for variables in found] == ['0', '1', '0']
    assert {variables['XLA_PYTHON_CLIENT_PREALLOCATE'] for variables in found} == {'false'}


def test_without_gpus_each_has_cores_of_its_own():
    assert devices.slots(0, [], [0, 1]) == [Slot()]
    assert devices.slots(2, [], [0, 1]) == [Slot(cores=(0,)), Slot(cores=(1,))]
    assert [slot.cores for slot in devices.slots(2, [], [1, 2, 5, 6, 7])] == [(1, 2), (5, 6, 7)]
    assert [slot.cores for slot in devices.slots(3, [], [4, 6])] == [(4,), (6,), (4,)]
    # Where the system does not tell.
    assert devices.slots(2, [], []) == [Slot(), Slot()]


@pytest.mark.parametrize(
    ('platforms', 'chosen', 'expected'),
    [('cpu', '0,1', []), ('', '0, 3', ['0', '3']), ('cuda,cpu', '1', ['1']), ('', '', []), ('', '-1', [])],
)
def test_visible_gpus(monkeypatch, platforms, chosen, expected):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name == 'jax_cuda13_plugin')
    monkeypatch.setenv('JAX_PLATFORMS', platforms)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', chosen)
    assert devices.visible_gpus() == expected


def test_gpus_that_jax_cannot_use_do_not_count(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    monkeypatch.delenv('JAX_PLATFORMS', raising=False)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
    assert devices.visible_gpus() == []
