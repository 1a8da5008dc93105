"""The folder of compiled programs: bounded, mended, and no more than a line where it cannot be used."""

import logging

import jax
import pytest

from dlf_jax import program_cache

SETTINGS = (
    'jax_compilation_cache_dir',
    'jax_compilation_cache_max_size',
    'jax_persistent_cache_min_compile_time_secs',
)


def settings() -> list:
    return [jax.config.values[name] for name in SETTINGS]


@pytest.fixture(autouse=True)
def unset():
    before = settings()
    jax.config.update('jax_compilation_cache_dir', None)
    yield
    for name, value in zip(SETTINGS, before, strict=True):
        jax.config.update(name, value)


def test_all_programs_are_kept_up_to_a_size(tmp_path):
    program_cache.keep_programs(tmp_path / 'compiled')
    assert settings() == [str(tmp_path / 'compiled'), program_cache._MAX_BYTES, 0.0]


def test_programs_whose_writing_was_cut_short_are_removed(tmp_path):
    for name in ('jit_whole-1-cache', 'jit_whole-1-atime', 'jit_cut-2-cache', 'other'):
        (tmp_path / name).write_bytes(b'12345678')
    program_cache.keep_programs(tmp_path)
    left = {path.name for path in tmp_path.iterdir()} - {'.lockfile'}
    assert left == {'jit_whole-1-cache', 'jit_whole-1-atime', 'other'}


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path, caplog):
    caplog.set_level(logging.INFO, 'dlf_jax')
    (tmp_path / 'file').touch()
    program_cache.keep_programs(tmp_path / 'file' / 'compiled')
    (line,) = caplog.messages
    assert line.startswith('what is compiled is not kept for the next run')
    assert str(tmp_path / 'file' / 'compiled') in line
    assert settings()[0] is None


def test_the_setting_of_jax_goes_first(tmp_path):
    jax.config.update('jax_compilation_cache_dir', str(tmp_path / 'own'))
    before = settings()
    program_cache.keep_programs(tmp_path / 'compiled')
    assert settings() == before
    assert not (tmp_path / 'compiled').exists()
