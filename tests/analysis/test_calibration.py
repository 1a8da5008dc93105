"""Calibrators: fitted as scikit-learn does, right on known probabilities, one function wherever applied."""

import json
import math

import jax
import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from dlf_jax import config as configs
from dlf_jax import config_checks
from dlf_jax.analysis import calibration
from dlf_jax.errors import UsageError, UserError
from dlf_jax.serving import calibrator as calibrators
from dlf_jax.serving.calibrator import Calibrator
from dlf_jax.training.probability_metrics import expected_calibration_error, logloss, sigmoid
from dlf_jax.training.ranking_metrics import auc
from dlf_jax.workdir import Workdir

LINES = ('temperature', 'platt')
METHODS = (*LINES, 'isotonic')


def drawn(seed, rows=20_000, distort=lambda z: z):
    """Labels drawn from known probabilities, and what an overconfident model would make of them."""
    draw = np.random.default_rng(seed)
    truth = draw.normal(-1.5, 1.2, rows)
    label = (draw.random(rows) < sigmoid(truth)).astype(np.float32)
    logit = distort(truth).astype(np.float32)
    return {'logit': logit, 'label': label, 'weight': np.ones(rows, np.float32)}, truth


def weighted(scores, seed=0):
    weights = np.random.default_rng(seed).integers(0, 4, len(scores['label']))
    return {**scores, 'weight': weights.astype(np.float32)}


def test_platt_s_line_is_scikit_learn_s():
    scores = weighted(drawn(0, 3000, lambda z: 2.5 * z + 1)[0])
    found = calibration.fit(scores, 'platt')
    other = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    other.fit(scores['logit'][:, None].astype(float), scores['label'], scores['weight'])
    assert found.slope == pytest.approx(other.coef_[0, 0], rel=1e-4)
    assert found.intercept == pytest.approx(other.intercept_[0], rel=1e-4)
    # What the drawn distortion was, within noise.
    assert (found.slope, found.intercept) == pytest.approx((0.4, -0.4), abs=0.15)


def test_temperature_has_the_least_logloss_of_all():
    scores = weighted(drawn(1, 3000, lambda z: 3 * z)[0])
    found = calibration.fit(scores, 'temperature')
    assert found.slope == pytest.approx(1 / 3, abs=0.03)
    labels, logits, weights = scores['label'], scores['logit'], scores['weight']
    least = logloss(labels, found.logits(logits), weights)
    for factor in (0.99, 1.01):
        assert logloss(labels, factor * found.slope * logits.astype(float), weights) > least


def test_isotonic_steps_are_scikit_learn_s_joined_between_their_middles():
    scores = weighted(drawn(2, 400, lambda z: np.round(z, 1))[0])
    found = calibration.fit(scores, 'isotonic')
    logits, labels, weights = (scores[name].astype(float) for name in ('logit', 'label', 'weight'))
    kept = weights > 0
    logits, labels, weights = logits[kept], labels[kept], weights[kept]
    step = IsotonicRegression().fit(logits, labels, sample_weight=weights).predict(logits)
    middles = {v: np.average(logits[step == v], weights=weights[step == v]) for v in np.unique(step)}
    # But for the rows below all clicks and above all others, as many as their weights are worth.
    bounds = [0.5 / (own.sum() ** 2 / (own**2).sum() + 1) for own in (weights[step == 0], weights[step == 1])]
    assert (min(middles), max(middles)) == (0, 1)
    expected = [bounds[0], *list(middles)[1:-1], 1 - bounds[1]]
    assert found.values == pytest.approx(expected, abs=1e-12)
    assert found.knots == pytest.approx(list(middles.values()), abs=1e-6)
    assert found.probabilities(np.array([-99.0, 99.0])) == pytest.approx([found.values[0], found.values[-1]])


def test_a_curve_of_few_clicks_is_certain_of_nothing():
    """113 clicks: it costs a model that is right already as little as their number allows."""
    scores, _ = drawn(4, 600)
    more, _ = drawn(5, 50_000)
    found = calibration.fit(scores, 'isotonic')
    assert 1e-4 < found.values[0] <= found.values[1]
    assert found.values[-2] <= found.values[-1] < 1 - 1e-2
    before, after = (logloss(more['label'], x) for x in (more['logit'], found.logits(more['logit'])))
    assert after < before + 0.01


@pytest.mark.parametrize('click', [1, 0])
def test_rows_beyond_all_others_say_no_more_than_the_step_beside_them(click):
    """One row without a click is no 1 in 4 beside a hundred with 1 in 100; nor is one click."""
    label = np.r_[0, np.eye(100)[0]]
    scores = {'label': label, 'logit': np.r_[-9, np.linspace(-8, -7, 101)[:100]], 'weight': np.ones(101)}
    scores = {name: np.r_[values, values[:1]] for name, values in scores.items()}
    scores['label'][-1], scores['logit'][-1] = 1, 0.0
    if not click:
        scores = {**scores, 'label': 1 - scores['label'], 'logit': -scores['logit']}
    found = calibration.fit(scores, 'isotonic')
    ends = (found.values[0], found.values[1]) if click else (1 - found.values[-1], 1 - found.values[-2])
    assert ends == pytest.approx((0.01, 0.01))


def test_a_curve_of_many_rows_has_few_knots():
    found = calibration.fit(drawn(3, 200_000)[0], 'isotonic')
    assert 50 < len(found.knots) <= 1000
    assert np.all(np.diff(found.values) >= 0)


@pytest.mark.parametrize('method', METHODS)
def test_calibrated_probabilities_are_as_good_as_the_truth(method):
    """On rows of its own, the error is within the noise that the true probabilities have themselves."""

    def distort(z):
        return 2.2 * z + (0.8 if method != 'temperature' else 0)

    found = calibration.fit(drawn(4, 50_000, distort)[0], method)
    before, after, true = [], [], []
    for seed in range(10, 30):
        scores, truth = drawn(seed, 20_000, distort)
        labels, logits = scores['label'], scores['logit']
        before.append(expected_calibration_error(labels, logits))
        after.append(expected_calibration_error(labels, found.logits(logits)))
        true.append(expected_calibration_error(labels, truth))
    assert np.mean(before) > 10 * np.mean(true)
    # Fitting to 50,000 rows has an error of its own beside that of the 20,000.
    assert np.mean(after) < np.mean(true) + 3 * np.std(true)


@pytest.mark.parametrize('method', [*LINES, 'none'])
@pytest.mark.parametrize('kept', [0.1, 1.0])
def test_a_line_leaves_auc_as_it_is(method, kept):
    scores, _ = drawn(5, 5000, lambda z: np.round(2 * z, 2))
    found = calibration.fit(scores, method, kept)
    labels, logits = scores['label'], scores['logit']
    assert auc(labels, found.logits(logits)) == auc(labels, logits)
    assert auc(labels, found.probabilities(logits)) == auc(labels, logits)


def test_a_curve_keeps_the_order_but_at_its_ends():
    scores, _ = drawn(6, 5000)
    found = calibration.fit(scores, 'isotonic')
    inside = (scores['logit'] > found.knots[0]) & (scores['logit'] < found.knots[-1])
    assert np.mean(inside) > 0.95
    labels, logits = scores['label'][inside], scores['logit'][inside]
    assert auc(labels, found.logits(logits)) == pytest.approx(auc(labels, logits), abs=1e-12)
    assert np.all(np.diff(found.probabilities(np.linspace(-20, 20, 999))) >= 0)


@pytest.mark.parametrize('kept', [0.05, 0.5, 1.0])
def test_the_correction_is_the_formula_and_undoes_the_sampling(kept):
    found = calibration.fit({}, 'none', kept)
    p = np.linspace(0.001, 0.999, 99)
    expected = p / (p + (1 - p) / kept)
    assert found.probabilities(np.log(p / (1 - p))) == pytest.approx(expected, abs=1e-12)
    draw = np.random.default_rng(7)
    scores, truth = drawn(7, 100_000)
    # What a model of the sampled rows would learn.
    learnt = {**scores, 'logit': truth - math.log(kept)}
    assert expected_calibration_error(scores['label'], found.logits(learnt['logit'])) < 0.006
    sampled = (scores['label'] > 0) | (draw.random(len(truth)) < kept)
    rows = {name: values[sampled] for name, values in learnt.items()}
    for method in METHODS:
        fitted = calibration.fit(calibration.restored(rows, kept), method, kept)
        assert expected_calibration_error(scores['label'], fitted.logits(learnt['logit'])) < 0.01, method


def test_soft_labels_are_rows_of_both_kinds_when_they_are_restored():
    labels, weights, kept = np.array([0.3, 1.0, 0.0]), np.array([2.0, 1.0, 3.0]), 0.25
    found = calibration.restored({'label': labels, 'weight': weights}, kept)
    assert found['weight'] * found['label'] == pytest.approx(weights * labels)
    assert found['weight'] * (1 - found['label']) == pytest.approx(weights * (1 - labels) / kept)


@pytest.mark.parametrize('method', METHODS)
def test_soft_labels_fit_as_rows_of_both_kinds(method):
    scores, truth = drawn(8, 2000, lambda z: 2 * z)
    soft = {**scores, 'label': sigmoid(truth)}
    both = {
        'logit': np.tile(soft['logit'], 2),
        'label': np.r_[np.ones(2000), np.zeros(2000)],
        'weight': np.r_[soft['label'], 1 - soft['label']],
    }
    logits = np.linspace(-6, 3, 50)
    one, other = (calibration.fit(rows, method).probabilities(logits) for rows in (soft, both))
    assert one == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize(
    ('labels', 'logits', 'message'),
    [
        ((0, 0, 0), (0.0, 1.0, 2.0), 'have none with one'), ((1, 1, 1), (0.0, 1.0, 2.0), 'have none without'),
        ((0, 1, 0), (1.0, 1.0, 1.0), 'the same score'),
        ((1, 0, 1, 0), (-2.0, 1.0, -1.0, 2.0), 'the reverse'),
    ],
)  # fmt: skip
def test_rows_that_determine_nothing_are_refused(method, labels, logits, message):
    scores = {'label': np.array(labels), 'logit': np.array(logits), 'weight': np.ones(len(labels))}
    with pytest.raises(calibration.Degenerate, match=message):
        calibration.fit(scores, method)


@pytest.mark.parametrize('method', METHODS)
def test_separable_rows_are_refused(method):
    scores = {'label': np.array([0, 0, 1]), 'logit': np.array([-1.0, 0.0, 1.0]), 'weight': np.ones(3)}
    with pytest.raises(calibration.Degenerate, match='certain of each; calibrate on more rows'):
        calibration.fit(scores, method)


def test_a_slope_beyond_the_upper_bound_is_told_with_it():
    scores, _ = drawn(1, 500, lambda z: z / 5000)
    with pytest.raises(
        calibration.Degenerate, match=r'slope is \S+, and one of at most 1000 is needed: .*close'
    ):
        calibration.fit(scores, 'platt')


@pytest.mark.parametrize('method', ['none', *METHODS])
def test_a_program_computes_what_the_host_does(method):
    scores, _ = drawn(9, 30_000, lambda z: 1.7 * z - 0.3)
    found = calibration.fit(scores, method, 0.3)
    logits = np.random.default_rng(1).normal(-1, 4, 5000).astype(np.float32)
    inside = jax.jit(found.traced)(logits)
    assert inside.dtype == np.float32
    np.testing.assert_allclose(inside, found.probabilities(logits), rtol=0, atol=1e-6)
    # Metrics see the same probabilities.
    np.testing.assert_allclose(sigmoid(found.logits(logits)), found.probabilities(logits), rtol=0, atol=1e-12)


def test_the_file_is_read_as_it_was_written(tmp_path):
    workdir = Workdir(tmp_path)
    assert calibrators.read(workdir) is None
    for method in METHODS:
        found = calibration.fit(drawn(10, 500)[0], method, 0.5)
        calibrators.save(workdir, found, 3, 70, {'fitted_to': 'rows'})
        there = calibrators.read(workdir)
        assert (there['seed'], there['step'], there['fitted']) == (3, 70, {'fitted_to': 'rows'})
        assert Calibrator.from_json(there) == found


@pytest.mark.parametrize(
    'change',
    [
        {'kind': 'another'}, {'version': 2}, {'slope': -1.0}, {'slope': 'NaN'}, {'knots': [1.0]},
        {'knots': [2.0, 1.0], 'values': [0.1, 0.2]}, {'knots': [1.0, 2.0], 'values': [0.2, 0.1]},
        {'knots': [1.0, 2.0], 'values': [0.0, 1.0]}, {'method': 'magic'}, {'step': None},
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, change):
    workdir = Workdir(tmp_path)
    calibrators.save(workdir, Calibrator('platt', slope=2.0), 0, 1, {})
    there = json.loads(workdir.calibration.read_text())
    workdir.calibration.write_text(json.dumps({**there, **change}))
    told = r'calibration\.json: cannot be read as a calibrator.*--mode=calibrate'
    with pytest.raises(UserError, match=told):
        calibrators.read(workdir)


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        ({'method': 'plat'}, "config.calibration.method='plat'.*did you mean 'platt'"),
        ({'negatives_kept': 0.0}, 'config.calibration.negatives_kept=0.0: expected more than 0'),
        ({'negatives_kept': 1.5}, 'at most 1'),
        ({'downsampled': True}, 'expected config.calibration.negatives_kept beside it'),
    ],
)
def test_errors_name_the_key(keys, message):
    config = configs.get_config('lr')
    config.calibration.update(keys)
    with pytest.raises(UsageError, match=message):
        config_checks.validate(config)
