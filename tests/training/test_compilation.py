"""Compiler options: those that an XLA lacks do not end a run."""

import logging

import jax.numpy as jnp

from dlf_jax.training import compilation


def test_an_option_that_xla_lacks_is_left_out_and_told(caplog):
    caplog.set_level(logging.WARNING, 'dlf_jax')
    found = compilation.known(
        {'xla_option_of_another_age': 1, 'xla_multiheap_size_constraint_per_heap': 1 << 28}
    )
    assert found == {'xla_multiheap_size_constraint_per_heap': 1 << 28}
    assert 'no option xla_option_of_another_age' in caplog.text
    assert compilation.known({'xla_option_of_another_age': 1}) is None


def test_options_by_platform():
    state = {'table': jnp.zeros((10, 4))}
    assert compilation.step_options('cpu', state, False) == {
        'xla_multiheap_size_constraint_per_heap': compilation._PIECE
    }
    # This machine's XLA for CPUs may or may not know the option of GPUs; nothing else may come.
    assert compilation.step_options('gpu', state, True) in (None, {'xla_gpu_deterministic_ops': True})
    assert compilation.step_options('gpu', state, False) is None
    assert compilation.step_options('tpu', state, True) is None
