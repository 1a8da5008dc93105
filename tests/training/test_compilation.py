"""Programs that are compiled in a thread or by an earlier run; options that an XLA lacks do not end a run."""

import logging
import threading

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

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
    without_triton = {'xla_gpu_enable_triton_gemm': False}
    for platform in ('gpu', 'cuda', 'rocm'):
        assert compilation.step_options(platform, state, False) == without_triton
        assert compilation.common_options(platform) == compilation.once_options(platform) == without_triton
        found = compilation.step_options(platform, state, True)
        assert found == without_triton | {'xla_gpu_deterministic_ops': True}
    assert compilation.step_options('tpu', state, True) is None
    assert compilation.common_options('tpu') is compilation.common_options('cpu') is None


def test_an_option_of_the_environment_wins(monkeypatch):
    monkeypatch.setenv('XLA_FLAGS', '--xla_dump_to=/tmp --xla_gpu_enable_triton_gemm=true')
    assert compilation.common_options('gpu') is None
    found = compilation.step_options('gpu', {'table': jnp.zeros(1)}, True)
    assert found == {'xla_gpu_deterministic_ops': True}


def test_a_program_is_compiled_once_in_a_thread_beside_what_needs_none():
    threads = []

    def double(x):
        threads.append(threading.current_thread())
        return 2 * x

    program = compilation.Compiled('double', lambda *_: jax.jit(double))
    program.begin(jax.ShapeDtypeStruct((3,), jnp.float32))
    assert program(jnp.ones(3)).tolist() == [2, 2, 2]
    assert program(jnp.zeros(3)).tolist() == [0, 0, 0]
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


def test_an_error_of_that_thread_comes_where_the_program_is_needed():
    def broken(x):
        raise ValueError('no such model')

    program = compilation.Compiled('broken', lambda *_: jax.jit(broken))
    program.begin(jnp.ones(3))
    with pytest.raises(ValueError, match='no such model'):
        program(jnp.ones(3))


@pytest.fixture
def cache(tmp_path):
    """JAX's cache of programs, on from the first millisecond of compiling."""
    before = {
        name: jax.config.values[name]
        for name in ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')
    }
    for name, value in zip(before, (str(tmp_path), 0.0), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_the_log_tells_what_an_earlier_run_compiled(cache, caplog):
    caplog.set_level(logging.INFO, 'dlf_jax')
    for _ in range(2):
        compilation.Compiled('cube', lambda *_: jax.jit(lambda x: x**3)).compile(jnp.ones(17))
    first, second = (record.message for record in caplog.records)
    assert first.startswith('cube compiled in')
    assert second.startswith('cube compiled by an earlier run, read in')


def test_what_runs_once_is_compiled_faster_to_the_same_bits():
    def draw(seed):
        return jax.random.normal(jax.random.key(seed), (1000, 8))

    options = compilation.once_options('cpu')
    assert options == {'xla_backend_optimization_level': 1}
    assert (jax.jit(draw, compiler_options=options)(3) == jax.jit(draw)(3)).all()
