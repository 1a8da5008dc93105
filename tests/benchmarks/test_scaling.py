"""The least bytes that devices must send."""

from benchmarks.scaling import least_bytes


def test_least_falls_with_the_devices_where_tables_are_cut():
    assert least_bytes(100, 1000, 1, 'replicated') == 0
    assert least_bytes(100, 1000, 2, 'replicated') == 4 * 1100
    assert least_bytes(0, 1000, 8, 'rows') < least_bytes(0, 1000, 2, 'rows')
