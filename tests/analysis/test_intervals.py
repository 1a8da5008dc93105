"""Bootstrap intervals: of metrics, and of differences on the same rows."""

import numpy as np
import pytest

from dlf_jax.analysis import bootstrap, intervals
from dlf_jax.data.schema import NO_GROUP
from dlf_jax.errors import UserError
from dlf_jax.training.metrics import METRICS
from dlf_jax.training.probability_metrics import sigmoid


def drawn(seed, rows=2000, noise=0.5, groups=0):
    """Scores of a model whose logits are the truth and some noise; users differ where there are groups."""
    draw = np.random.default_rng(seed)
    truth = draw.normal(-1, 1, rows)
    scores = {}
    if groups:
        scores['group'] = draw.integers(0, groups, rows)
        truth = truth + draw.normal(0, 1.5, groups)[scores['group']]
    label = (draw.random(rows) < sigmoid(truth)).astype(np.float32)
    logit = truth + noise * draw.normal(size=rows)
    if groups:
        # The model does not know the users.
        logit = truth * 0 + draw.normal(-1, 1, rows)
    return {'logit': logit.astype(np.float32), 'label': label, 'weight': np.ones(rows, np.float32), **scores}


def test_totals_give_the_metrics():
    scores = {**drawn(0), 'weight': np.random.default_rng(1).integers(0, 3, 2000).astype(float)}
    found = bootstrap.of_sums(bootstrap.sums(scores).sum(0, keepdims=True))
    for name in bootstrap.OF_SUMS:
        assert found[name][0] == pytest.approx(METRICS[name](scores), abs=1e-9)
    units = bootstrap.units({'label': np.zeros(5), 'group': np.array([7, NO_GROUP, 7, NO_GROUP, 3])})
    assert len(set(units)) == 4
    assert units[0] == units[2]


def test_draws_are_poisson_s_and_the_same_again():
    whole = np.concatenate(list(bootstrap.draws(100_000, 60, 3)))
    assert whole.shape == (60, 100_000)
    assert whole.mean() == pytest.approx(1, abs=2e-3)
    assert whole.var() == pytest.approx(1, abs=5e-3)
    assert np.mean(whole == 0) == pytest.approx(np.exp(-1), abs=1e-3)
    again = next(bootstrap.draws(100_000, 5, 3))
    np.testing.assert_array_equal(again, whole[: len(again)])
    assert not np.array_equal(next(bootstrap.draws(100_000, 5, 4)), again)


def test_intervals_are_as_wide_as_the_metrics_of_other_samples_vary():
    found = intervals.of_metrics(drawn(2), 400)
    assert (found['unit'], found['samples'], found['level']) == ('rows', 400, 0.95)
    many = [drawn(seed) for seed in range(100, 300)]
    for name, (low, high) in found['metrics'].items():
        values = [METRICS[name](scores) for scores in many]
        assert high - low == pytest.approx(2 * 1.96 * np.std(values), rel=0.25), name
        assert low < METRICS[name](drawn(2)) < high
    assert intervals.of_metrics(drawn(2), 400) == found


def test_rows_of_a_group_are_drawn_together():
    scores = drawn(4, 3000, groups=60)
    grouped = intervals.of_metrics(scores, 300)
    alone = intervals.of_metrics({name: scores[name] for name in ('logit', 'label', 'weight')}, 300)
    assert grouped['unit'] == 'groups'
    widths = [np.ptp(found['metrics']['logloss']) for found in (grouped, alone)]
    values = [METRICS['logloss'](drawn(seed, 3000, groups=60)) for seed in range(400, 500)]
    assert widths[0] > 2 * widths[1]
    assert widths[0] == pytest.approx(2 * 1.96 * np.std(values), rel=0.35)
    assert grouped['metrics']['auc'] is not None


def test_metrics_that_are_undefined_have_no_interval():
    scores = {'logit': np.zeros(4), 'label': np.zeros(4), 'weight': np.ones(4)}
    found = intervals.of_metrics(scores, 20)['metrics']
    assert found['auc'] is found['normalized_entropy'] is found['pr_auc'] is None
    assert found['logloss'] is not None


def two(seed, rows=3000, groups=0):
    scores = drawn(seed, rows, 0.3, groups)
    draw = np.random.default_rng(seed + 10_000)
    other = scores['logit'] + 0.8 * draw.normal(size=rows)
    return scores, {**scores, 'logit': other.astype(np.float32)}


@pytest.mark.parametrize('groups', [0, 100])
def test_differences_on_the_same_rows(groups):
    scores, others = two(5, groups=groups)
    found = intervals.paired(scores, others, 400)
    assert list(found) == ['auc', 'logloss', 'normalized_entropy']
    for name, one in found.items():
        assert one['difference'] == pytest.approx(METRICS[name](scores) - METRICS[name](others), abs=1e-9)
        assert one['low'] < one['difference'] < one['high']
        # Far narrower than what each varies by itself.
        alone = intervals.of_metrics(scores, 100)['metrics'][name]
        assert one['high'] - one['low'] < alone[1] - alone[0]
    assert found['logloss']['high'] < 0
    assert ('p' in found['auc']) == (not groups)
    same = intervals.paired(scores, scores, 50)
    assert {(one['difference'], one['low'], one['high']) for one in same.values()} == {(0, 0, 0)}


def test_what_groups_do_not_need_is_not_computed(monkeypatch):
    """DeLong's errors; and rows are sorted before the samples, which need no order of their own."""
    monkeypatch.setattr(intervals.delong, 'auc_difference', None)
    auc, ordered = intervals.ranking_metrics.auc, []

    def spy(labels, logits, weights):
        ordered.append(bool(np.all(np.diff(logits) >= 0)))
        return auc(labels, logits, weights)

    monkeypatch.setattr(intervals.ranking_metrics, 'auc', spy)
    intervals.paired(*two(5, groups=100), 20)
    assert sum(ordered) == 40


def test_paired_intervals_are_as_wide_as_differences_vary():
    found = intervals.paired(*two(6), 500)
    varied = {name: [] for name in found}
    for seed in range(600, 750):
        for name in varied:
            varied[name].append(np.subtract(*(METRICS[name](one) for one in two(seed))))
    for name, one in found.items():
        assert one['high'] - one['low'] == pytest.approx(2 * 1.96 * np.std(varied[name]), rel=0.25), name


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'label': np.r_[1 - drawn(7)['label'][:1], drawn(7)['label'][1:]]}, r'the label of row 1 is'),
        ({'weight': np.full(2000, 2.0)}, r'2,000 of 2,000 rows differ'),
        (
            {name: drawn(7)[name][:-1] for name in ('logit', 'label', 'weight')},
            '2,000 of one, 1,999 of the other',
        ),
        ({'group': np.arange(2000)}, 'only one of them has a group column'),
    ],
)
def test_other_rows_are_refused(change, message):
    with pytest.raises(UserError, match=f'not scored on the same rows: .*{message}'):
        intervals.paired(drawn(7), {**drawn(7), **change})
