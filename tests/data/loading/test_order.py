"""Quality of the shuffle on the worst input: rows sorted by label and by number.

A batch takes the same number of rows from each of `W` blocks, and the turn of `W` blocks that it comes from
(its window, `W * block_rows` rows) is drawn at random from all blocks. So two things can be tested:

- Within a window, a batch should look like a uniform draw of the window's rows without replacement. The
  variance of its label rate is then hypergeometric, the distance of its row numbers from the window's is that
  of Kolmogorov and Smirnov, and the positions of its rows in their blocks are multinomial. The same number of
  rows from every block is a stratified draw: less variance than that of a uniform draw is right, more is not.
- Over an epoch, the label rate of a batch cannot vary less than that of `W` blocks drawn at random, which is
  sqrt(B / W) times the spread of a uniform permutation, and should not vary more.

Every number below is measured / expected, so 1 is right. A uniform permutation of all rows and bad orders are
measured, too, which shows that the numbers discriminate.
"""

import numpy as np
import pytest

from dlf_jax.data.loading.batches import TrainingBatches
from dlf_jax.data.loading.order import Order

ROWS, BLOCK_ROWS, BATCH = 600_000, 500, 1000
POSITIVES = 0.25
ORDER = Order(ROWS, BLOCK_ROWS, BATCH, seed=5)
WINDOW = ORDER.lanes * BLOCK_ROWS // BATCH  # batches


class SortedBlocks:
    """Rows that know their number."""

    rows, block_rows = ROWS, BLOCK_ROWS

    def __len__(self):
        return ROWS // BLOCK_ROWS

    def read(self, block):
        number = np.arange(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS)
        return {'label': (number >= (1 - POSITIVES) * ROWS).astype(np.float32), 'number': number}


def second_epoch():
    batches = TrainingBatches(SortedBlocks(), ORDER, epochs=2)
    return np.stack([batches[ORDER.steps + k]['number'] for k in range(ORDER.steps)])


def unshuffled():
    return np.arange(ROWS).reshape(-1, BATCH)


def blocks_only():
    blocks = np.arange(ROWS).reshape(-1, BLOCK_ROWS)
    return np.random.default_rng(0).permutation(blocks).reshape(-1, BATCH)


def rows_in_order():
    """Batches of the right blocks, without the permutation of the rows inside them."""
    blocks = np.random.default_rng(0).permutation(np.arange(ROWS).reshape(-1, BLOCK_ROWS))
    turns = blocks.reshape(-1, ORDER.lanes, WINDOW, ORDER.lane_rows)
    return turns.transpose(0, 2, 1, 3).reshape(-1, BATCH)


def uniform():
    return np.random.default_rng(0).permutation(ROWS).reshape(-1, BATCH)


def ratios(numbers):
    """Measured / expected statistics of the row numbers of an epoch's batches, [steps, BATCH]."""
    windows = numbers.reshape(-1, WINDOW, BATCH)
    size = WINDOW * BATCH
    rest = (size - BATCH) / (size - 1)  # of the spread, since draws are without replacement

    # Spread of the label rate inside windows, as the hypergeometric distribution has it.
    rates = (windows >= (1 - POSITIVES) * ROWS).mean(-1)
    center = rates.mean(1, keepdims=True)
    expected = (center * (1 - center) / BATCH * rest).sum() * WINDOW
    rate_in_window = ((rates - center) ** 2).sum() / max(expected, 1e-12)

    # Spread of the label rate over the epoch, as for batches of `W` blocks drawn at random.
    blocks = ROWS // BLOCK_ROWS
    expected = POSITIVES * (1 - POSITIVES) / ORDER.lanes * (blocks - ORDER.lanes) / (blocks - 1)
    rate_in_epoch = ((rates - POSITIVES) ** 2).mean() / expected

    # Largest distance of the distribution of a batch's row numbers from the window's.
    ranks = windows.reshape(len(windows), size).argsort(1).argsort(1).reshape(windows.shape)
    ranks = np.sort(ranks, -1)
    steps = np.arange(BATCH)
    above = ((steps + 1) / BATCH - ranks / size).max(-1)
    below = (ranks / size - steps / BATCH).max(-1)
    # The mean of Kolmogorov's distribution is sqrt(pi / 2) * log(2) = 0.8687.
    numbers_in_window = np.maximum(above, below).mean() / (0.8687 * np.sqrt(rest / BATCH))

    # Chi-square of the places in their blocks that a batch's rows come from, in ten parts.
    parts = windows.reshape(-1, BATCH) % BLOCK_ROWS * 10 // BLOCK_ROWS
    counts = (parts[:, :, None] == np.arange(10)).sum(1)
    chi_square = ((counts - BATCH / 10) ** 2 / (BATCH / 10)).sum(1).mean()
    places_in_block = chi_square / (9 * rest)
    return {
        'rate_in_window': rate_in_window,
        'rate_in_epoch': rate_in_epoch,
        'numbers_in_window': numbers_in_window,
        'places_in_block': places_in_block,
    }


# With 570 degrees of freedom the standard error is 0.06, with 30 (one for each window) 0.26; of the mean of
# 600 distances 0.012, and of 600 chi-squares of 9 degrees of freedom 0.02 (about 1.05 for the uniform
# permutation, whose rows come from all blocks and not from a window's).
LIMITS = {'rate_in_window': 1.2, 'rate_in_epoch': 1.8, 'numbers_in_window': 1.05, 'places_in_block': 1.12}


@pytest.mark.parametrize('order', [second_epoch, uniform])
def test_batches_of_sorted_rows_look_like_uniform_draws(order):
    numbers = order()
    assert np.array_equal(np.sort(numbers.ravel()), np.arange(ROWS))
    found = ratios(numbers)
    for name, limit in LIMITS.items():
        assert found[name] < limit, found
    # Rows inside blocks are drawn, not dealt: their places spread as much as they should.
    assert found['places_in_block'] > 0.92, found


@pytest.mark.parametrize('order', [unshuffled, blocks_only])
def test_a_bad_shuffle_fails_the_same_statistics(order):
    found = ratios(order())
    for name in ('rate_in_window', 'rate_in_epoch', 'numbers_in_window'):
        assert found[name] > 5 * LIMITS[name], found
    # A batch is two whole blocks: every tenth of a block comes exactly as often.
    assert found['places_in_block'] < 0.1, found


def test_rows_dealt_in_file_order_fail_the_places():
    found = ratios(rows_in_order())
    assert found['places_in_block'] > 5 * LIMITS['places_in_block'], found


def test_another_epoch_is_another_draw():
    batches = TrainingBatches(SortedBlocks(), ORDER, epochs=2)
    first, second = (batches[epoch * ORDER.steps]['number'] for epoch in range(2))
    assert len(np.intersect1d(first, second)) < 20
