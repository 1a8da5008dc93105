"""The bytes that a program's collectives move, read from its text."""

import pytest

from benchmarks.scaling import least_bytes, sent_bytes

PROGRAM = """
  %all-reduce.1 = (f32[100]{0}, f32[10,20]{1,0}) all-reduce(%a, %b), replica_groups={{0,1,2,3}}
  ROOT %all-gather.2 = s32[40,2]{1,0} all-gather(%ids), dimensions={0}
  %reduce-scatter.3 = bf16[5,8]{1,0} reduce-scatter(%rows), dimensions={0}
  %fusion = f32[1000]{0} fusion(%all-reduce.1), kind=kLoop
  %count = f32[] all-reduce(%c), replica_groups={{0,1,2,3}}
"""


def test_bytes_of_collectives():
    reduced = 2 * 3 / 4 * 4 * (100 + 200 + 1)
    gathered = 3 / 4 * 4 * 80
    scattered = 3 * 2 * 40
    assert sent_bytes(PROGRAM, 4) == pytest.approx(reduced + gathered + scattered)
    assert sent_bytes(PROGRAM, 1) == 0


def test_least_falls_with_the_devices_where_tables_are_cut():
    assert least_bytes(100, 1000, 1, 'replicated') == 0
    assert least_bytes(100, 1000, 2, 'replicated') == 4 * 1100
    assert least_bytes(0, 1000, 8, 'rows') < least_bytes(0, 1000, 2, 'rows')
