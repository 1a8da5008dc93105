"""Prepared data is reused for the same bytes alone: what is noticed by itself, and what by reading again."""

import json
import os

import pytest

from dlf_jax.data.download import checksums
from tests.conftest import command, fail, finish, run, table_flags, write_table

VERIFY = '--config.dataset.verify=True'


def prepare(table, *flags):
    """Result and log of preparing a table."""
    arguments = (*table_flags(table), '--mode=prepare', f'--data_dir={table.parent / "data"}', *flags)
    done = finish(command(*arguments))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def flip_labels(table):
    """Other labels in the same number of bytes."""
    head, *lines = table.read_text().splitlines()
    table.write_text('\n'.join([head, *(str(1 - int(line[0])) + line[1:] for line in lines)]) + '\n')


def hide_change(table):
    """Has the memory of checksums believe that a changed file was summed as it is now."""
    memory = table.parent / 'data' / 'digests.json'
    (found,) = json.loads(memory.read_text()).values()
    memory.write_text(json.dumps({f'{table}|{checksums.stamp(str(table))}|pieces': found}))


def test_flipped_labels_with_the_times_of_before_are_noticed(tmp_path):
    table = write_table(tmp_path / 't.csv', 300)
    first, _ = prepare(table)
    assert not first['reused']
    again, log = prepare(table)
    assert (again['reused'], again['rows_per_second'], again['folder']) == (True, None, first['folder'])
    assert f'reusing {first["folder"]}: the files have the sizes and times that they had' in log
    assert VERIFY in log
    times = table.stat()
    flip_labels(table)
    os.utime(table, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (table.stat().st_size, table.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    changed, _ = prepare(table)
    assert not changed['reused']
    assert changed['folder'] != first['folder']
    # The memory holds what is there now alone.
    assert len(json.loads((tmp_path / 'data' / 'digests.json').read_text())) == 1


@pytest.mark.slow
def test_verify_reads_the_files_again(tmp_path):
    table = write_table(tmp_path / 't.csv', 300)
    first, _ = prepare(table)
    same, log = prepare(table, VERIFY)
    assert (same['reused'], same['folder']) == (True, first['folder'])
    assert 'the files, which were read for it, have the sums' in log
    flip_labels(table)
    hide_change(table)
    assert prepare(table)[0]['folder'] == first['folder']
    read, _ = prepare(table, VERIFY)
    assert not read['reused']
    assert read['folder'] != first['folder']
    assert prepare(table)[0]['folder'] == read['folder']


def test_what_is_prepared_is_of_the_bytes_that_are_there(tmp_path):
    """Other records of a file that was summed before, under other keys."""
    table = write_table(tmp_path / 't.csv', 300)
    prepare(table)
    flip_labels(table)
    hide_change(table)
    other = '--config.dataset.min_count=2'
    made, _ = prepare(table, other)
    assert prepare(table, other, VERIFY)[0]['folder'] == made['folder']


GROWING = """
from dlf_jax.data.builders.base import Builder
from dlf_jax.data.schema import Schema


class Growing(Builder):
    '''Someone writes to the file while it is prepared.'''

    def make_schema(self, table):
        return Schema((self.categorical('user'), self.number('price', 'standard')), 'click')

    def write_extras(self, folder):
        with open(self.task.tables['all'].paths[0], 'r+b') as file:
            file.seek(-4, 2)
            file.write(b'9')
"""


def test_a_file_that_changes_while_it_is_prepared(tmp_path):
    table = write_table(tmp_path / 't.csv', 300)
    (tmp_path / 'growing.py').write_text(GROWING)
    flags = (
        f'--dataset={tmp_path}/growing.py:Growing', f'--config.dataset.train={table}', '--mode=prepare',
        f'--data_dir={tmp_path / "data"}',
    )  # fmt: skip
    assert f'{table}: changed while it was prepared' in fail(*flags)
    left = [path.name for path in (tmp_path / 'data').rglob('*') if path.is_file()]
    assert sorted(left) == ['.lock', 'digests.json']
    # The second time it is written the same.
    assert not run(*flags)['reused']


@pytest.mark.slow
def test_verify_may_differ_between_the_runs_of_a_workdir(tmp_path):
    table = write_table(tmp_path / 't.csv', 300)
    flags = (*table_flags(table), f'--workdir={tmp_path / "run"}', f'--data_dir={tmp_path / "data"}')
    first = run(*flags)
    assert run(*flags, VERIFY) == first
    flip_labels(table)
    hide_change(table)
    assert f'train: {table} has other content now' in fail(*flags, VERIFY)
