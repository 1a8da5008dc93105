"""Scores of a part: what padding, weights and groups do to them, and scores that are no numbers."""

import types

import numpy as np
import pytest

from dlf_jax.data.loading.batches import EvaluationBatches
from dlf_jax.data.schema import NO_GROUP
from dlf_jax.errors import UserError
from dlf_jax.training import evaluation

STATE = types.SimpleNamespace(step=np.int32(40), weights=lambda: None)
# Hands arrays on as they are.
PARTITIONER = types.SimpleNamespace(
    put=lambda batch: batch, begin_to_fetch=lambda logits: None, local_rows=lambda logits: logits
)


class Blocks:
    """Blocks of three rows in memory."""

    block_rows = 3

    def __init__(self, **columns):
        self.columns, self.rows = columns, len(columns['label'])

    def __len__(self):
        return -(-self.rows // 3)

    def read(self, block):
        return {name: values[3 * block : 3 * block + 3] for name, values in self.columns.items()}


def score(logits, **columns):
    """Scores rows in batches of four, by a model that gives the row's own logit."""
    blocks = Blocks(label=np.arange(len(logits), dtype=np.float32) % 2, logit=logits, **columns)
    source = EvaluationBatches(blocks, 4)
    batches = (source[step] for step in range(len(source)))
    return evaluation.score(lambda _, batch: batch['logit'], PARTITIONER, STATE, batches, of='the valid part')


def test_padding_belongs_to_no_group_of_rows():
    """Groups are 64-bit, and -1 is not the 0 of padding."""
    groups = np.array([2**62 + 1, NO_GROUP, 0, 5, NO_GROUP, 2**62 + 2], np.int64)
    found = score(np.arange(6, dtype=np.float32), group=groups)
    assert found['group'].dtype == np.int64
    assert found['group'].tolist() == groups.tolist()
    assert found['logit'].tolist() == [0, 1, 2, 3, 4, 5]


def test_scores_are_on_their_way_before_the_first_are_waited_for(monkeypatch):
    told = []
    monkeypatch.setattr(PARTITIONER, 'begin_to_fetch', lambda logits: told.append('begin'))
    monkeypatch.setattr(PARTITIONER, 'local_rows', lambda logits: told.append('wait') or logits)
    # Eleven batches of four.
    assert score(np.arange(44, dtype=np.float32))['logit'].tolist() == list(range(44))
    assert told == ['begin'] * 9 + ['wait', 'begin'] * 2 + ['wait'] * 9


def test_rows_that_weigh_nothing_are_left_out():
    logits = np.array([1, np.nan, 3, 4, 5], np.float32)
    found = score(logits, weight=np.array([1, 0, 2, 1, 0], np.float32))
    assert found['logit'].tolist() == [1, 3, 4]
    with pytest.raises(UserError, match='the weights of the valid part are all 0, so there is nothing'):
        score(logits, weight=np.zeros(5, np.float32))


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers(bad):
    logits = np.array([1, 2, 3, 4, bad, bad], np.float32)
    message = r'^step 40: the model gives no finite score of row 5 of the valid part \(2 in all\)'
    with pytest.raises(UserError, match=message):
        score(logits)


def test_the_rows_of_prediction_are_counted_over_batches_and_runs():
    stack = np.array([[1, 2, 3], [1, np.nan, 3]])
    state = types.SimpleNamespace(step=np.array([7, 7]))
    with pytest.raises(UserError, match=r'^step 7: the model gives no finite score of row 4,098 of t\.csv'):
        evaluation.check_finite(stack, state, 4096, 't.csv')
    evaluation.check_finite(stack[:1], state, 4096)
