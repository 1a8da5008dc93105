"""What finished runs are told: nothing learnt, probabilities that are off, an early best step, few steps."""

import dataclasses

import numpy as np
import pytest

import dlf_jax
from dlf_jax.data.loading.label_counts import LabelCounts
from dlf_jax.training import diagnosis, probability_metrics, ranking_metrics
from dlf_jax.training.run_progress import RunProgress
from dlf_jax.training.schedules import Plateau
from dlf_jax.training.step_plan import StepPlan

LABELS = {'train': LabelCounts(100_000, 30_000, 0.3), 'valid': LabelCounts(10_000, 3000, 0.3)}
BASE = -(0.3 * np.log(0.3) + 0.7 * np.log(0.7))
GOOD = {'auc': 0.75, 'logloss': 0.55}


def diagnosed(best, best_step=5000, steps=6000, without_gain=2, per_epoch=500, labels=LABELS, **overrides):
    config = dlf_jax.load_config(model='mlp', overrides=overrides)
    plateau = Plateau(best=0.5, best_step=best_step, without_gain=without_gain)
    run = RunProgress(steps=steps, evaluated=steps, plateau=plateau, best=best)
    return diagnosis.diagnose(config, run, StepPlan(per_epoch, 100 * per_epoch, per_epoch), labels)


def test_a_run_that_learnt():
    assert diagnosed(GOOD) == diagnosis.Diagnosis(True, ())


def test_no_better_than_chance():
    found = diagnosed({'auc': 0.51, 'logloss': 0.6109})
    assert not found.learnt
    (warning,) = found.warnings
    assert 'auc 0.5100 (by chance: 0.5 +- 0.0126)' in warning
    assert f'logloss 0.6109 (base rate {BASE:.4f})' in warning
    assert '--config.embedding.penalty=0.0001' in warning
    # 0.513 is more than chance on so many rows, but not on a tenth of them.
    assert diagnosed({'auc': 0.513, 'logloss': 0.6}).learnt
    few = {**LABELS, 'valid': LabelCounts(1000, 300, 0.3)}
    assert not diagnosed({'auc': 0.513, 'logloss': 0.6109}, labels=few).learnt


def test_a_low_logloss_is_learnt_whatever_the_clicks_of_soft_labels():
    few = {**LABELS, 'valid': LabelCounts(1000, 5, 0.3)}
    assert diagnosed({'auc': 0.6, 'logloss': 0.5}, labels=few).learnt


def test_ranks_but_its_probabilities_are_off():
    found = diagnosed({'auc': 0.7, 'logloss': 0.9})
    assert found.learnt
    (warning,) = found.warnings
    assert '--config.training.monitor=auc-logloss' in warning
    assert 'logloss 0.9000 (base rate 0.6109)' in warning
    (warning,) = diagnosed({'auc': 0.7, 'logloss': 0.9}, **{'training.monitor': 'auc-logloss'}).warnings
    assert '--config.training.monitor=logloss' in warning


@pytest.mark.parametrize(('logloss', 'learnt'), [(0.6, True), (0.62, False)])
def test_labels_of_one_kind_are_judged_by_the_logloss(logloss, learnt):
    one_kind = {**LABELS, 'valid': LabelCounts(100, 0, 0.3)}
    assert diagnosed({'auc': None, 'logloss': logloss}, labels=one_kind).learnt == learnt


def test_an_early_best_step():
    (warning,) = diagnosed(GOOD, best_step=500, steps=1500).warnings
    assert 'the best step, 500, is early' in warning
    assert '--config.optimizer.learning_rate=0.0003' in warning
    assert '--config.training.evaluate_every=125' in warning
    # One epoch of large data may be all that it takes, and one evaluation without gain says little.
    assert not diagnosed(GOOD, best_step=5000, steps=15_000, per_epoch=5000).warnings
    assert not diagnosed(GOOD, best_step=500, steps=1000, without_gain=1).warnings


def test_few_steps():
    small = {'train': LabelCounts(14_000, 7000, 0.5), 'valid': LabelCounts(4000, 2000, 0.5)}
    (warning,) = diagnosed(GOOD, best_step=8, steps=16, per_epoch=4, labels=small).warnings
    assert 'training ended after 16 steps, 4 an epoch, because 2 evaluations in a row' in warning
    assert '--config.training.batch_size=120 (116 steps an epoch)' in warning
    assert '--config.plateau.patience=5' in warning
    # A model that has hardly begun is not told to be smaller.
    off, _ = diagnosed({'auc': 0.7, 'logloss': 0.9}, best_step=8, steps=16, per_epoch=4).warnings
    assert '--config.training.monitor=auc-logloss' in off
    assert 'penalty' not in off
    # It was told to end then.
    assert not diagnosed(GOOD, best_step=16, steps=16, without_gain=0, per_epoch=4).warnings


def test_flags_that_are_told_are_taken():
    config = dlf_jax.load_config(model='dlf', overrides={'training.monitor': 'auc'})
    flags = [*diagnosis._smaller(config).split(', '), diagnosis._choosing(config).split()[0]]
    values = {}
    for flag in flags:
        key, _, value = flag.removeprefix('--config.').partition('=')
        values[key] = (
            value
            if key == 'training.monitor'
            else float(value)
            if '.' in value or 'e' in value
            else int(value)
        )
    assert len(values) == 4
    dlf_jax.load_config(model='dlf', overrides=values)


def test_errors_of_auc_are_those_of_random_scores():
    draw = np.random.default_rng(0)
    labels = np.arange(400) < 100
    found = [ranking_metrics.auc(labels, draw.normal(size=400)) for _ in range(2000)]
    assert np.std(found) == pytest.approx(diagnosis.auc_error(100, 300), rel=0.05)


def test_base_rates_are_the_loglosses_of_the_mean_label():
    draw = np.random.default_rng(0)
    labels, weights = draw.random(50), draw.random(50)
    rate = float(np.average(labels, weights=weights))
    valid = dataclasses.replace(LABELS['valid'], rate=rate)
    logits = np.full(50, np.log(0.3 / 0.7))
    expected = probability_metrics.logloss(labels, logits, weights)
    assert diagnosis.base_rate_loglosses({**LABELS, 'valid': valid})['valid'] == pytest.approx(expected)
    # All training labels are alike: as finite as any logloss.
    constant = {**LABELS, 'train': LabelCounts(10, 0, 0.0)}
    assert np.isfinite(diagnosis.base_rate_loglosses(constant)['valid'])
