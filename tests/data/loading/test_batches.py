"""Batches: every row once, the same global batches for every number of hosts, resumable anywhere."""

import chex
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dlf_jax.data.loading.batches import EvaluationBatches, TrainingBatches, iterate
from dlf_jax.data.loading.order import MAX_LANES, Order, even_batch, lanes_for
from dlf_jax.errors import UserError


class Blocks:
    """Rows that know their number, with the arrays of every kind of field."""

    def __init__(self, rows, block_rows):
        self.rows, self.block_rows = rows, block_rows
        self.read_blocks = []

    def __len__(self):
        return -(-self.rows // self.block_rows)

    def read(self, block):
        self.read_blocks.append(block)
        index = np.arange(block * self.block_rows, min(self.rows, (block + 1) * self.block_rows))
        return {
            'label': index.astype(np.float32),
            'categorical': index[:, None].astype(np.int32),
            'numeric': np.stack([index, -index], axis=1).astype(np.float32),
            'bags': np.stack([index, index + 1, index * 0 - 1], axis=1).astype(np.int32),
            'weight': (1 + index % 3).astype(np.float32),
            'group': index // 5,
        }


def rows_of(batch):
    return batch['categorical'][batch['weight'] > 0, 0]


def joined(parts):
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


SIZES = {
    'rows': st.integers(1, 700),
    'block_rows': st.integers(1, 40),
    'batch_size': st.sampled_from([1, 5, 8, 16, 40, 48, 64]),
    'seed': st.integers(0, 2**31 - 1),
}


@settings(max_examples=150, deadline=None)
@given(**SIZES)
def test_every_row_once_an_epoch(rows, block_rows, batch_size, seed):
    order = Order(rows, block_rows, batch_size, seed)
    blocks = Blocks(rows, block_rows)
    batches = TrainingBatches(blocks, order, epochs=2)
    whole = joined([blocks.read(block) for block in range(len(blocks))])
    for epoch in range(2):
        epoch_batches = [batches[epoch * order.steps + k] for k in range(order.steps)]
        for batch in epoch_batches:
            chex.assert_shape(batch['categorical'], (batch_size, 1))
            chex.assert_shape(batch['bags'], (batch_size, 3))
            chex.assert_shape([batch['label'], batch['weight'], batch['group']], (batch_size,))
        # Only the last batch is padded.
        assert all((b['weight'] >= 1).all() for b in epoch_batches[:-1])
        found = joined(epoch_batches)
        order_of_rows = rows_of(found)
        assert np.array_equal(np.sort(order_of_rows), np.arange(rows))
        # All arrays are in the same order.
        kept = {name: values[found['weight'] > 0] for name, values in found.items()}
        chex.assert_trees_all_equal(kept, {name: v[order_of_rows] for name, v in whole.items()})


@settings(max_examples=60, deadline=None)
@given(**SIZES, hosts=st.sampled_from([2, 4, 8]))
def test_global_batches_are_the_same_for_every_number_of_hosts(rows, block_rows, batch_size, seed, hosts):
    order = Order(rows, block_rows, batch_size, seed)
    blocks = Blocks(rows, block_rows)
    if order.lanes % hosts:
        with pytest.raises(UserError, match='cannot share evenly'):
            TrainingBatches(blocks, order, 1, 0, hosts)
        return
    alone = TrainingBatches(blocks, order, 1)
    shared = [TrainingBatches(blocks, order, 1, host, hosts) for host in range(hosts)]
    for k in range(order.steps):
        chex.assert_trees_all_equal(joined([part[k] for part in shared]), alone[k])


@pytest.mark.parametrize('hosts', [2, 3, 5, 6, 7, 16, 48, MAX_LANES])
@pytest.mark.parametrize('batch_size', [1, 100, 120, 1001, 4096])
def test_the_advised_training_batch_size_can_be_shared(batch_size, hosts):
    order = Order(1000, 10, batch_size, 0)
    if order.lanes % hosts == 0:
        assert TrainingBatches(Blocks(1000, 10), order, 1, 0, hosts)
        return
    with pytest.raises(UserError, match=rf'^config.training.batch_size={batch_size} ') as error:
        TrainingBatches(Blocks(1000, 10), order, 1, 0, hosts)
    advised = int(str(error.value).rsplit('take ')[-1])
    assert batch_size < advised < 2 * batch_size + 64 * hosts
    assert TrainingBatches(Blocks(1000, 10), Order(1000, 10, advised, 0), 1, 0, hosts)


def test_more_hosts_than_lanes_are_refused():
    with pytest.raises(UserError, match='take at most 64 hosts'):
        TrainingBatches(Blocks(1000, 10), Order(1000, 10, 4096, 0), 1, 0, 128)


@settings(max_examples=200, deadline=None)
@given(
    rows=SIZES['rows'],
    block_rows=SIZES['block_rows'],
    batch_size=st.integers(1, 130),
    hosts=st.integers(1, 9),
)
@example(rows=3003, block_rows=100, batch_size=1001, hosts=2)
@example(rows=1, block_rows=1, batch_size=1, hosts=9)
def test_hosts_evaluate_every_row_once_in_file_order(rows, block_rows, batch_size, hosts):
    """A batch size that the hosts cannot share is refused with one that they can share."""
    blocks, even = Blocks(rows, block_rows), even_batch(batch_size, hosts)
    assert batch_size <= even < batch_size + hosts
    if batch_size % hosts:
        for host in range(hosts):
            with pytest.raises(UserError, match=rf'config.predict.batch_size={batch_size}: .*; take {even}$'):
                EvaluationBatches(blocks, batch_size, host, hosts)
    else:
        assert even == batch_size
    shared = [EvaluationBatches(blocks, even, host, hosts) for host in range(hosts)]
    batches = [joined([part[k] for part in shared]) for k in range(len(shared[0]))]
    for batch in batches:
        chex.assert_shape(batch['label'], (even,))
    found = joined(batches)
    whole = joined([blocks.read(block) for block in range(len(blocks))])
    chex.assert_trees_all_equal({name: values[found['weight'] > 0] for name, values in found.items()}, whole)
    # What pads the last batch is zeros.
    assert not any(values[found['weight'] == 0].any() for values in found.values())


def test_a_host_reads_its_own_blocks_only():
    order = Order(rows=64 * 40, block_rows=10, batch_size=64, seed=1)
    read = []
    for host in range(4):
        blocks = Blocks(order.rows, order.block_rows)
        part = TrainingBatches(blocks, order, 1, host, 4)
        for k in range(order.lane_steps):
            part[k]
        # Each block once: what a lane still needs is kept.
        assert len(blocks.read_blocks) == len(set(blocks.read_blocks))
        read.append(set(blocks.read_blocks))
    assert sum(map(len, read)) == len(set.union(*read)) == 256


def test_order_depends_on_seed_and_epoch():
    def first(seed, epoch):
        order = Order(1000, 10, 40, seed)
        return rows_of(TrainingBatches(Blocks(1000, 10), order, 3)[epoch * order.steps]).tolist()

    assert first(0, 0) == first(0, 0)
    assert first(0, 0) != first(1, 0)
    assert first(0, 0) != first(0, 1)


@pytest.mark.parametrize('start', [0, 1, 7, 60])
def test_grain_iterator_goes_on_anywhere(start):
    order = Order(1003, 7, 16, 3)
    batches = TrainingBatches(Blocks(1003, 7), order, 2)
    with iterate(batches, start) as iterator:
        found = list(iterator)
    assert len(found) == len(batches) - start
    for k, batch in enumerate(found):
        chex.assert_trees_all_equal(batch, batches[start + k])


def test_batches_of_sorted_rows_look_uniform():
    # Sorted input is the worst case: a block holds neighbouring rows.
    rows, block_rows, batch_size = 400_000, 500, 1000
    order = Order(rows, block_rows, batch_size, 5)
    batches = TrainingBatches(Blocks(rows, block_rows), order, 2)
    assert order.lane_steps > 300
    means = [rows_of(batches[order.steps + k]).mean() / rows for k in range(0, order.lane_steps, 4)]
    # The mean of a batch spreads as the mean of `lanes` uniform draws, no more: a batch draws
    # its blocks at random, and rows inside a block differ by 1/800 of the range.
    spread = np.sqrt(1 / 12 / order.lanes)
    assert abs(np.mean(means) - 0.5) < 4 * spread / np.sqrt(len(means) / 10)
    assert np.std(means) < 1.3 * spread


@pytest.mark.parametrize(('batch_size', 'lanes'), [(10_000, 40), (4096, 64), (2000, 40), (7, 7)])
def test_lanes(batch_size, lanes):
    assert lanes_for(batch_size) == lanes
