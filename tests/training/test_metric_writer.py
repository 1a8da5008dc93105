"""Metrics on disk: lines, TensorBoard events, resuming, a disk that is full."""

import itertools
import json
import struct
import subprocess
import sys

import jax
import pytest
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event

from dlf_jax.training import metric_writer
from dlf_jax.training.metric_writer import MetricWriter
from tests.conftest import ROOT


def events(folder):
    """The events of all files of a folder, in the order in which TensorBoard reads them, times removed."""
    found = []
    for path in sorted(folder.glob('events.out.tfevents.*')):
        data, position = path.read_bytes(), 0
        while position < len(data):
            (length,) = struct.unpack_from('<Q', data, position)
            event = Event.FromString(data[position + 12 : position + 12 + length])
            assert event.wall_time > 1.7e9
            event.ClearField('wall_time')
            found.append(event)
            position += 12 + length + 4
    return found


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_and_events_hold_the_same_numbers(tmp_path):
    """Event by event what tensorboardX's own writer makes of them."""
    writer = MetricWriter(tmp_path / 'metrics.jsonl', tmp_path / 'ours', 0, [3], False)
    reference = SummaryWriter(str(tmp_path / 'reference'))
    for step in (1, 2):
        writer.write('train', step, 3, loss=0.5 / step, epoch=step / 10)
        reference.add_scalar('train/loss', 0.5 / step, step)
        reference.add_scalar('train/epoch', step / 10, step)
    writer.close()
    reference.close()
    assert lines(tmp_path / 'metrics.jsonl') == [
        {'kind': 'train', 'step': step, 'seed': 3, 'loss': 0.5 / step, 'epoch': step / 10} for step in (1, 2)
    ]
    assert events(tmp_path / 'ours') == events(tmp_path / 'reference')
    assert len(events(tmp_path / 'ours')) == 5


def test_a_metric_that_is_not_defined_is_a_line_and_no_event(tmp_path):
    writer = MetricWriter(tmp_path / 'metrics.jsonl', tmp_path / 'events', 0, [0], False)
    writer.write('valid', 1, 0, auc=0.75, gauc=None, own=float('nan'), other=float('-inf'))
    writer.close()
    found = lines(tmp_path / 'metrics.jsonl')[0]
    assert [found[name] for name in ('auc', 'gauc', 'own', 'other')] == [0.75, None, None, None]
    assert [event.summary.value[0].tag for event in events(tmp_path / 'events')[1:]] == ['valid/auc']


@pytest.mark.parametrize('evaluated', [False, True])
def test_resuming_removes_later_lines_and_events(tmp_path, evaluated, monkeypatch):
    # The order of names is that of the files, also of the tenth and the eleventh of a process.
    monkeypatch.setattr(metric_writer, '_files', itertools.count(9))
    path, folder = tmp_path / 'metrics.jsonl', tmp_path / 'ours'
    writer = MetricWriter(path, folder, 0, [0], False)
    for step in (1, 2, 3):
        writer.write('train', step, 0, loss=1.0)
        writer.write('valid', step, 0, auc=0.5)
    writer.close()
    with open(path, 'a') as file:
        file.write('{"kind": "train", "st')
    writer = MetricWriter(path, folder, 2, [0], evaluated)
    writer.write('train', 3, 0, loss=2.0)
    writer.close()
    kept = [('train', 1), ('valid', 1), ('train', 2), ('valid', 2), ('train', 3)]
    kept = [one for one in kept if evaluated or one != ('valid', 2)]
    assert [(line['kind'], line['step']) for line in lines(path)] == kept
    reference = SummaryWriter(str(tmp_path / 'reference'), purge_step=3)
    reference.add_scalar('train/loss', 2.0, 3)
    reference.close()
    # Two files of the same second: the second replaces nothing of the first.
    assert len(list(folder.iterdir())) == 2
    assert events(folder)[7:] == events(tmp_path / 'reference')


def test_each_of_several_runs_has_its_own_events(tmp_path):
    writer = MetricWriter(tmp_path / 'metrics.jsonl', tmp_path / 'events', 0, [4, 5], False)
    writer.write('train', 1, 5, loss=0.5)
    writer.close()
    assert [len(events(tmp_path / 'events' / f'seed-{seed}')) for seed in (4, 5)] == [1, 2]


def test_the_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, 'process_index', lambda: 1)
    writer = MetricWriter(tmp_path / 'metrics.jsonl', tmp_path / 'events', 0, [0], False)
    writer.write('train', 1, 0, loss=0.5)
    writer.close()
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, sys
from pathlib import Path
from dlf_jax.errors import UserError
from dlf_jax.training import metric_writer
from dlf_jax.training.metric_writer import MetricWriter

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
folder = Path(sys.argv[1])
try:
    writer = MetricWriter(folder / 'metrics.jsonl', folder / 'events', 0, [0], False)
    try:
        for step in range(1000):
            writer.write('train', step, 0, **{f'metric{i}': 1.0 for i in range(int(sys.argv[3]))})
    finally:
        writer.close()
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(('size', 'metrics'), [(20, 0), (5000, 0), (5000, 20)])
def test_a_file_that_cannot_grow_is_one_line(size, metrics, tmp_path):
    """From the first record of the events on, in the lines, and in the events that are still buffered: no
    traceback, not even of an object that closes its file when Python ends."""
    arguments = [sys.executable, '-X', 'dev', '-W', 'ignore', '-c', FULL, tmp_path, size, metrics]
    done = subprocess.run(
        [str(one) for one in arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'cannot write {tmp_path / "metrics.jsonl"}: no space left')
    assert done.stderr == ''
