"""Seconds from the command to a first result: what is counted, with a model that is mostly start-up."""

import argparse

import pytest

from benchmarks import first_result


@pytest.mark.slow
def test_the_second_start_takes_all_programs_from_the_first(tmp_path, monkeypatch):
    for name in ('JAX_COMPILATION_CACHE_DIR', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'):
        monkeypatch.delenv(name, raising=False)
    first_result.write_table(tmp_path / 'table.csv')
    options = argparse.Namespace(model='lr', batch_size=128, epochs=1)
    first, second = (first_result.start(tmp_path, name, options) for name in ('first', 'second'))
    assert first['compiled'] == second['taken'] > 2
    assert first['taken'] == second['compiled'] == 0
    assert second['processor_seconds'] > 0.5


def test_least_and_median_of_the_repeats():
    found = [{'seconds': 3.0}, {'seconds': 1.0}, {'seconds': 1.5}]
    assert first_result.summary(found) == {'seconds': {'least': 1.0, 'median': pytest.approx(1.5)}}
