"""Metrics against scikit-learn, and the list of them: what a config names is what an evaluation computes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from dlf_jax import config as configs
from dlf_jax import config_checks
from dlf_jax.data.schema import NO_GROUP
from dlf_jax.errors import UsageError
from dlf_jax.training import metrics, probability_metrics, ranking_metrics
from dlf_jax.training.evaluation import summary, tell_rows_without_group
from tests.conftest import run, table_flags, write_table


@pytest.mark.parametrize('levels', [2, 5, 1000, 10**9])
@pytest.mark.parametrize('seed', range(3))
def test_auc_equals_scikit_learn_ties_and_all(levels, seed):
    draw = np.random.default_rng(seed)
    labels = (draw.random(5000) < 0.3).astype(np.float32)
    scores = (draw.integers(0, levels, 5000) + labels * levels * 0.1).astype(np.float32)
    assert ranking_metrics.auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


def test_weighted_auc_equals_scikit_learn_and_weight_0_does_not_count():
    draw = np.random.default_rng(0)
    labels, scores = draw.integers(0, 2, 999), draw.integers(0, 30, 999)
    weights = draw.integers(0, 3, 999)
    expected = roc_auc_score(labels, scores, sample_weight=weights)
    assert ranking_metrics.auc(labels, scores, weights) == pytest.approx(expected, abs=1e-9)
    kept = weights > 0
    assert ranking_metrics.auc(labels, scores, kept) == ranking_metrics.auc(labels[kept], scores[kept])


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_order(rows):
    positive = [s for label, s in rows if label]
    negative = [s for label, s in rows if not label]
    found = ranking_metrics.auc(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]))
    if not positive or not negative:
        assert np.isnan(found)
        return
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert found == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auc_of_nothing_is_nan():
    assert np.isnan(ranking_metrics.auc(np.array([]), np.array([])))


def test_logloss_equals_scikit_learn():
    draw = np.random.default_rng(1)
    labels, logits = draw.integers(0, 2, 2000), draw.normal(size=2000) * 3
    expected = log_loss(labels, probability_metrics.sigmoid(logits))
    assert probability_metrics.logloss(labels, logits) == pytest.approx(expected, abs=1e-9)


def test_row_losses_are_what_logloss_is_the_mean_of():
    labels, logits = np.array([1.0, 0.0, 0.25]), np.array([-1000.0, 1.0, 0.0])
    found = probability_metrics.row_losses(labels, logits)
    assert found == pytest.approx([-np.log(1e-7), np.log1p(np.e), np.log(2)], abs=1e-12)
    weights = np.array([0.5, 2.0, 1.0])
    mean = np.average(found, weights=weights)
    assert probability_metrics.logloss(labels, logits, weights) == pytest.approx(mean, abs=1e-15)


def test_logloss_is_clipped_at_1e_7():
    assert probability_metrics.logloss(np.array([1.0]), np.array([-1000.0])) == pytest.approx(-np.log(1e-7))
    assert probability_metrics.logloss(np.array([0.0]), np.array([1000.0])) == pytest.approx(-np.log(1e-7))


def test_soft_labels_are_rows_of_both_kinds_with_their_shares():
    """Logloss and normalized entropy of a label of 0.3: three rows of clicks and seven without."""
    draw = np.random.default_rng(5)
    labels, logits, weights = draw.random(300), draw.normal(size=300) * 3, draw.random(300)
    both = np.r_[np.ones(300), np.zeros(300)]
    shares = np.r_[weights * labels, weights * (1 - labels)]
    expected = log_loss(both, np.tile(probability_metrics.sigmoid(logits), 2), sample_weight=shares)
    assert probability_metrics.logloss(labels, logits, weights) == pytest.approx(expected, abs=1e-9)
    mean = np.average(labels, weights=weights)
    entropy = -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean))
    found = probability_metrics.normalized_entropy(labels, logits, weights)
    assert found == pytest.approx(expected / entropy, abs=1e-9)


def test_soft_labels_in_the_other_metrics():
    labels, scores = np.array([0.2, 0.9, 0.5, 0.6]), np.array([0.0, 2.0, 1.0, -1.0])
    hard = np.array([0, 1, 0, 1])
    assert ranking_metrics.auc(labels, scores) == roc_auc_score(hard, scores)
    groups = np.array([1, 1, 2, 2])
    assert ranking_metrics.grouped_auc(labels, scores, groups=groups) == 0.5
    squares = [(0.5 - 0.2) ** 2, (1 / (1 + np.exp(-2.0)) - 0.9) ** 2]
    assert probability_metrics.brier(labels[:2], scores[:2]) == pytest.approx(np.mean(squares), abs=1e-12)


def test_rows_without_weight_or_without_group_are_not_counted():
    labels, logits = np.array([0.0, 1.0]), np.array([-1.0, 1.0])
    with np.errstate(all='raise'):
        for metric in metrics.METRICS.values():
            if metric.grouped:
                continue
            function = metric.function
            assert np.isnan(function(labels, logits, np.zeros(2)))
            assert np.isnan(function(np.array([]), np.array([])))
        assert np.isnan(ranking_metrics.grouped_auc(labels, logits, np.zeros(2), groups=np.ones(2)))
    groups = np.array([7, 7, 8, 8, NO_GROUP, NO_GROUP])
    labels, scores = np.array([0, 1, 1, 0, 1, 0]), np.array([0.0, 1.0, 2.0, 3.0, 0.0, 1.0])
    assert ranking_metrics.grouped_auc(labels, scores, groups=groups) == 0.5
    assert np.isnan(ranking_metrics.grouped_auc(labels[4:], scores[4:], groups=groups[4:]))


def test_sigmoid_does_not_overflow():
    with np.errstate(all='raise', under='ignore'):
        assert probability_metrics.sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


def test_brier_equals_scikit_learn():
    draw = np.random.default_rng(2)
    labels, logits, weights = draw.integers(0, 2, 500), draw.normal(size=500) * 3, draw.random(500)
    expected = brier_score_loss(labels, probability_metrics.sigmoid(logits), sample_weight=weights)
    assert probability_metrics.brier(labels, logits, weights) == pytest.approx(expected, abs=1e-12)


def test_normalized_entropy_is_relative_to_the_constant_prediction():
    labels, weights = np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 2.0, 1.0, 1.0])
    constant = np.full(4, np.log(0.4 / 0.6))
    assert probability_metrics.normalized_entropy(labels, constant, weights) == pytest.approx(1.0, abs=1e-12)
    logits = np.array([-3.0, 0.5, 2.0, 0.1])
    entropy = log_loss(labels, np.full(4, 0.4), sample_weight=weights)
    expected = log_loss(labels, probability_metrics.sigmoid(logits), sample_weight=weights) / entropy
    assert probability_metrics.normalized_entropy(labels, logits, weights) == pytest.approx(
        expected, abs=1e-9
    )
    assert np.isnan(probability_metrics.normalized_entropy(np.ones(3), np.zeros(3)))


def tied(seed, rows=3000, levels=40):
    """Labels, logits with ties, and weights of which some are 0."""
    draw = np.random.default_rng(seed)
    logits = (draw.integers(0, levels, rows) / levels * 6 - 4).astype(np.float32)
    labels = (draw.random(rows) < probability_metrics.sigmoid(logits)).astype(np.float32)
    return labels, logits, draw.integers(0, 4, rows).astype(np.float64)


@pytest.mark.parametrize(('seed', 'levels'), [(0, 2), (1, 40), (2, 10**7)])
def test_average_precision_equals_scikit_learn(seed, levels):
    labels, logits, weights = tied(seed, levels=levels)
    found = ranking_metrics.average_precision(labels, logits, weights)
    assert found == pytest.approx(average_precision_score(labels, logits, sample_weight=weights), abs=1e-12)
    found = ranking_metrics.average_precision(labels, logits)
    assert found == pytest.approx(average_precision_score(labels, logits), abs=1e-12)
    one = ranking_metrics.average_precision(np.ones(3), np.arange(3))
    assert (one, ranking_metrics.average_precision(np.ones(1), np.zeros(1))) == (1.0, 1.0)
    assert np.isnan(ranking_metrics.average_precision(np.zeros(3), np.arange(3)))


def test_relative_gain_and_calibration_ratio_in_closed_form():
    labels, logits, weights = tied(3)
    gain = probability_metrics.relative_information_gain(labels, logits, weights)
    assert gain == 1 - probability_metrics.normalized_entropy(labels, logits, weights)
    expected = (weights * probability_metrics.sigmoid(logits)).sum() / (weights * labels).sum()
    found = probability_metrics.calibration_ratio(labels, logits, weights)
    assert found == pytest.approx(expected, abs=1e-12)
    shifted = probability_metrics.calibration_ratio(np.array([1.0, 0.0]), np.zeros(2))
    assert shifted == pytest.approx(1.0, abs=1e-15)
    assert np.isnan(probability_metrics.calibration_ratio(np.zeros(3), np.zeros(3)))


def by_hand(labels, logits, weights, bins):
    """ECE as it is written down: a loop over the rows of each score, in rising order."""
    gaps, total, below = np.zeros(bins), weights.sum(), 0.0
    for score in np.unique(logits):
        rows = logits == score
        own = weights[rows].sum()
        if own == 0:
            continue
        place = min(int(bins * (below + own / 2) / total), bins - 1)
        gaps[place] += (weights[rows] * (1 / (1 + np.exp(-float(score))) - labels[rows])).sum()
        below += own
    return np.abs(gaps).sum() / total


@pytest.mark.parametrize('levels', [3, 40, 10**7])
@pytest.mark.parametrize('bins', [1, 15])
def test_calibration_error_is_that_of_bins_of_equal_mass(levels, bins):
    labels, logits, weights = tied(4, 600, levels)
    found = probability_metrics.expected_calibration_error(labels, logits, weights, bins)
    assert found == pytest.approx(by_hand(labels, logits, weights, bins), abs=1e-12)
    found = probability_metrics.expected_calibration_error(labels, logits, bins=bins)
    assert found == pytest.approx(by_hand(labels, logits, np.ones(600), bins), abs=1e-12)


def test_calibration_error_of_equal_bins_is_that_of_quantiles_in_scikit_learn():
    """Without ties or weights the bins are those of `calibration_curve(strategy='quantile')`."""
    draw = np.random.default_rng(6)
    logits = draw.normal(-1, 1.5, 1500)
    labels = draw.integers(0, 2, 1500)
    observed, expected = calibration_curve(
        labels, probability_metrics.sigmoid(logits), n_bins=15, strategy='quantile'
    )
    found = probability_metrics.expected_calibration_error(labels, logits)
    assert found == pytest.approx(np.abs(observed - expected).mean(), abs=1e-12)


def test_calibration_error_of_few_rows_and_of_one_class():
    error = probability_metrics.expected_calibration_error
    assert error(np.array([1.0]), np.array([0.0])) == 0.5
    assert error(np.zeros(4), np.full(4, -50.0)) == pytest.approx(0.0, abs=1e-12)
    assert error(np.ones(2), np.array([0.0, -1000.0])) == pytest.approx(0.75)
    # Soft labels that are the probabilities themselves.
    logits = np.linspace(-3, 3, 100)
    assert error(probability_metrics.sigmoid(logits), logits) == pytest.approx(0.0, abs=1e-15)


def test_monitored_values_are_better_the_higher():
    found = {'auc': 0.9, 'logloss': 0.2, 'brier': 0.1, 'gauc': None}
    assert metrics.monitored('auc', found) == 0.9
    assert metrics.monitored('auc-logloss', found) == pytest.approx(0.7)
    assert metrics.monitored('logloss', found) == -0.2
    assert metrics.monitored('brier', found) == -0.1
    assert np.isnan(metrics.monitored('gauc', found))


@pytest.mark.parametrize('weighted', [False, True])
def test_grouped_auc_is_the_weighted_mean_of_the_groups(weighted):
    draw = np.random.default_rng(4)
    groups, labels = draw.integers(0, 40, 600), draw.integers(0, 2, 600)
    scores = draw.integers(0, 9, 600).astype(np.float32)
    weights = draw.integers(0, 4, 600).astype(float) if weighted else None
    labels[groups == 7] = 1
    found, sizes = [], []
    for group in np.unique(groups):
        rows = groups == group
        own = weights[rows] if weighted else np.ones(rows.sum())
        there = own > 0
        if len(set(labels[rows][there])) == 2:
            found.append(roc_auc_score(labels[rows], scores[rows], sample_weight=own))
            sizes.append(own.sum())
    expected = np.average(found, weights=sizes)
    assert ranking_metrics.grouped_auc(labels, scores, weights, groups=groups) == pytest.approx(
        expected, abs=1e-9
    )
    assert ranking_metrics.grouped_auc(labels, scores, weights, groups=np.zeros(600)) == pytest.approx(
        ranking_metrics.auc(labels, scores, weights), abs=1e-12
    )
    assert np.isnan(ranking_metrics.grouped_auc(np.array([0, 1, 1]), np.zeros(3), groups=np.arange(3)))
    assert np.isnan(ranking_metrics.grouped_auc(np.array([]), np.array([]), groups=np.array([])))


# A metric as someone outside of the package writes it: higher is better, and undefined without rows.
OWN = """
import numpy as np

from dlf_jax.training.metrics import Metric


def _accuracy(labels, logits, weights):
    return np.average((logits > 0) == (labels > 0.5), weights=weights) if len(labels) else float('nan')


accuracy = Metric(_accuracy, higher_is_better=True, title='Accuracy')
rows = Metric(_accuracy, higher_is_better=True, title='A name that results have')
function = _accuracy
"""
STANDARD = [name for name, metric in metrics.METRICS.items() if metric.standard and not metric.grouped]
SCORES = {
    'label': np.array([0.0, 1.0, 1.0, 0.0]),
    'logit': np.array([-1.0, 2.0, -0.5, 0.5]),
    'weight': np.array([1.0, 1.0, 1.0, 3.0]),
}


@pytest.fixture
def own(tmp_path):
    (tmp_path / 'mine.py').write_text(OWN)
    return tmp_path / 'mine.py'


def config_of(monitor='auc', names=()):
    config = configs.get_config('lr')
    config.training.monitor, config.training.metrics = monitor, names
    return config


def test_summary_has_the_standard_metrics_in_order():
    found = summary(SCORES, metrics.selected(config_of()))
    labels, logits, weights = SCORES['label'], SCORES['logit'], SCORES['weight']
    assert found == {
        'auc': ranking_metrics.auc(labels, logits, weights),
        'logloss': pytest.approx(probability_metrics.logloss(labels, logits, weights), abs=1e-15),
        'normalized_entropy': pytest.approx(probability_metrics.normalized_entropy(labels, logits, weights)),
        'rig': pytest.approx(1 - probability_metrics.normalized_entropy(labels, logits, weights)),
        'calibration_ratio': pytest.approx(probability_metrics.calibration_ratio(labels, logits, weights)),
        'ece': pytest.approx(probability_metrics.expected_calibration_error(labels, logits, weights)),
        'brier': pytest.approx(probability_metrics.brier(labels, logits, weights)),
        'pr_auc': ranking_metrics.average_precision(labels, logits, weights),
        'rows': 4,
    }
    assert list(found) == [*STANDARD, 'rows']
    grouped = summary({**SCORES, 'group': np.array([1, 1, 2, 2])}, metrics.selected(config_of()))
    assert list(grouped) == ['auc', 'gauc', *STANDARD[1:], 'rows']
    # One group of both kinds in order, one in the wrong order, of twice the weight.
    assert grouped['gauc'] == pytest.approx(1 / 3)


def test_undefined_metrics_are_none():
    scores = {**SCORES, 'label': np.ones(4), 'group': np.zeros(4, np.int64)}
    found = summary(scores, metrics.selected(config_of(names=('normalized_entropy',))))
    assert (found['auc'], found['gauc'], found['normalized_entropy']) == (None, None, None)
    assert found['logloss'] > 0
    shown = metrics.shown(config_of(names=('normalized_entropy',)))
    told = metrics.describe(found, shown, 2)
    assert told.startswith('auc undefined, gauc undefined, logloss ')
    assert told.endswith(', normalized_entropy undefined')


def test_summary_counts_rows_without_a_group(caplog):
    groups = np.array([1, 1, NO_GROUP, NO_GROUP])
    found = summary({**SCORES, 'group': groups}, metrics.selected(config_of()))
    assert (found['gauc'], found['rows'], found['rows_without_group']) == (1.0, 4, 2)
    shown = metrics.shown(config_of())
    assert list(shown) == ['auc', 'gauc', 'logloss']
    assert metrics.describe(found, shown, 1, 0.5).endswith('(base rate 0.5)')
    tell_rows_without_group(found, 'the valid part')
    tell_rows_without_group({'rows': 4}, 'the test part')
    assert [record.getMessage() for record in caplog.records] == [
        'the valid part: 2 of 4 rows have no group; gauc leaves them out'
    ]


def test_a_metric_that_is_infinite_is_undefined():
    endless = metrics.Metric(lambda *_: float('inf'), True, 'Endless')
    assert summary(SCORES, {'endless': endless}) == {'endless': None, 'rows': 4}


@pytest.mark.parametrize(
    ('monitor', 'labels', 'expected'),
    [
        ('auc', (0, 0, 0, 0), True), ('auc-logloss', (1, 1, 1, 1), True), ('logloss', (1, 1, 1, 1), False),
        ('brier', (0, 0, 0, 0), False), ('gauc', (0, 0, 1, 1), True), ('gauc', (0, 1, 1, 1), False),
        ('auc', (0, 0, 1, 1), False), ('normalized_entropy', (1, 1, 1, 1), True),
        ('normalized_entropy', (0.1, 0.1, 0.1, 0.1), False), ('auc', (0.1, 0.3, 0.2, 0.5), True),
        ('mine.py:own', (0, 0, 0, 0), False),
    ],
)  # fmt: skip
def test_what_labels_leave_undefined(monitor, labels, expected):
    rows = {'label': np.array(labels), 'weight': np.ones(4), 'group': np.array([1, 1, 2, 2])}
    assert metrics.undefined(monitor, rows) == expected
    assert metrics.undefined(monitor, {**rows, 'weight': np.zeros(4)}) == (monitor != 'mine.py:own')


def test_a_metric_of_one_s_own(own, monkeypatch):
    monkeypatch.chdir(own.parent)
    config = config_of('mine.py:accuracy', ('brier',))
    config_checks.validate(config)
    # From any folder.
    assert config.training.monitor == f'{own}:accuracy'
    monkeypatch.chdir('/')
    found = summary(SCORES, metrics.selected(config))
    assert list(found) == [*STANDARD, 'accuracy', 'rows']
    assert list(metrics.shown(config)) == ['auc', 'gauc', 'logloss', 'brier', 'accuracy']
    assert found['accuracy'] == pytest.approx(1 / 3)
    assert metrics.monitored(config.training.monitor, found) == found['accuracy']
    assert metrics.selected(config)['accuracy'].label == 'Accuracy ↑'
    assert metrics.selected(config)['brier'].label == 'Brier score ↓'


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'monitor': 'aucc'}, r"config.training.monitor='aucc'.*did you mean 'auc'"),
        ({'monitor': 'calibration_ratio'}, 'neither more nor less of it is better'),
        ({'monitor': 'auc-loglos'}, r"did you mean 'auc-logloss'"),
        ({'names': ('auc-logloss',)}, r"config.training.metrics='auc-logloss'.*no such entry"),
        ({'names': ('{own}:function',)}, r'expected a dlf_jax.training.metrics.Metric, found function'),
        ({'names': ('{own}:rows',)}, r"results have another 'rows'; rename it"),
        ({'names': ('{own}:accurcy',)}, r"has no 'accurcy'; did you mean 'accuracy'"),
        ({'monitor': 'nowhere.py:brier'}, r'config.training.monitor=.*there is no file .*nowhere.py'),
    ],
)
def test_errors_name_the_key(own, changes, message):
    names = tuple(name.format(own=own) for name in changes.get('names', ()))
    with pytest.raises(UsageError, match=message):
        config_checks.validate(config_of(changes.get('monitor', 'auc'), names))


def test_two_metrics_of_one_name_are_refused(own):
    other = own.with_name('other.py')
    other.write_text(OWN)
    with pytest.raises(UsageError, match=f"'{other}:accuracy': results have another 'accuracy'"):
        config_checks.validate(config_of(names=(f'{own}:accuracy', f'{other}:accuracy')))
    # The same twice is one.
    config_checks.validate(config_of(f'{own}:accuracy', (f'{own}:accuracy',)))


def test_a_metric_of_groups_needs_a_group_column():
    metrics.check_groups(config_of(), '')
    metrics.check_groups(config_of('gauc'), 'user')
    with pytest.raises(UsageError, match=r"config.training.monitor: 'gauc' is a metric of groups"):
        metrics.check_groups(config_of('gauc'), '')
    with pytest.raises(UsageError, match=r"config.training.metrics: 'gauc'"):
        metrics.check_groups(config_of(names=('gauc',)), '')


@pytest.mark.slow
def test_a_run_computes_its_metrics_wherever_it_evaluates(own, tmp_path, data_dir):
    """Two seeds, the best step by a metric of one's own; the workdir remembers it."""
    table = write_table(tmp_path / 'train.csv', 2000)
    folders = f'--workdir={tmp_path / "run"}', f'--data_dir={data_dir}'
    trained = run(
        *table_flags(table), *folders, f'--config.training.monitor={own}:accuracy', '--config.seeds=2',
        "--config.training.metrics=('brier',)", '--config.dataset.group=user',
    )  # fmt: skip
    names = ['auc', 'gauc', 'logloss', 'brier', 'accuracy']
    assert list(trained['mean']['test']) == list(trained['std']['valid']) == names
    lines = [json.loads(line) for line in (tmp_path / 'run/metrics.jsonl').read_text().splitlines()]
    for one in trained['runs']:
        assert list(one['test']) == list(one['valid']) == [*names, 'rows']
        courses = [line for line in lines if line['kind'] == 'valid' and line['seed'] == one['seed']]
        assert max(line['accuracy'] for line in courses) == one['valid']['accuracy']
    assert trained['mean']['test']['brier'] == np.mean([one['test']['brier'] for one in trained['runs']])
    found = run('--mode=evaluate', folders[0], f'--input={table}')
    assert list(found) == [*names, 'rows', 'out_of_vocabulary']
