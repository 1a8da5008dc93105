"""Iterators that run ahead in threads."""

import threading

import pytest

from dlf_jax.data.prefetch import parallel_map, prefetch


def failing():
    yield 1
    yield 2
    raise OSError('the disk is gone')


def test_prefetched_items_come_in_order_and_errors_in_their_place():
    with prefetch(iter(range(100)), depth=3) as items:
        assert list(items) == list(range(100))
    with prefetch(failing()) as items:
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(OSError, match='the disk is gone'):
            next(items)


def test_the_thread_ends_with_the_block():
    before = threading.active_count()
    with prefetch(iter(int, 1)) as items:
        next(items)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_parallel_map_keeps_the_order():
    first_waits = threading.Event()

    def square(number):
        # The first item is finished after the second.
        if number == 0:
            assert first_waits.wait(60)
        first_waits.set()
        return number * number

    assert list(parallel_map(square, range(20))) == [n * n for n in range(20)]
