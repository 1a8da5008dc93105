"""Which devices a run may see. (No GPU is asked.)"""

import importlib.util

import pytest

from dlf_jax.comparison import devices


def test_one_gpu_each():
    assert devices.slots(0, ['0', '1']) == [{'CUDA_VISIBLE_DEVICES': '0'}, {'CUDA_VISIBLE_DEVICES': '1'}]
    assert devices.slots(2, ['4', '5', '6']) == [{'CUDA_VISIBLE_DEVICES': name} for name in ('4', '5')]
    # One at a time has all of them.
    assert devices.slots(1, ['0', '1']) == [{}]


def test_more_runs_than_gpus_share_memory():
    found = devices.slots(3, ['0', '1'])
    assert [slot['CUDA_VISIBLE_DEVICES'] for slot in found] == ['0', '1', '0']
    assert {slot['XLA_PYTHON_CLIENT_PREALLOCATE'] for slot in found} == {'false'}


def test_without_gpus():
    assert devices.slots(0, []) == [{}]
    assert devices.slots(2, []) == [{}, {}]


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
