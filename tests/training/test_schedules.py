import math

import pytest

from dlf_jax.config import get_config
from dlf_jax.training.schedules import Plateau, learning_rate


@pytest.fixture
def config():
    return get_config('mlp')


def test_plateau_follows_the_leaderboards_rule(config):
    config.plateau.patience = 2
    plateau, seen = Plateau(), []
    for step, value in enumerate([0.8, 0.9, 0.85, 0.91, 0.91, 0.9], 1):
        plateau = plateau.observe(value, step, config)
        seen.append((plateau.best_step, plateau.without_gain, round(plateau.scale, 9)))
    # The learning rate falls at every evaluation without gain, and stays low after a gain.
    assert seen == [(1, 0, 1), (2, 0, 1), (2, 1, 0.1), (4, 0, 0.1), (4, 1, 0.01), (4, 2, 0.001)]
    assert plateau.exhausted(config)
    assert plateau.best == 0.91


def test_plateau_in_steps(config):
    config.plateau.patience, config.plateau.steps = 2, 25
    plateau, seen = Plateau(), []
    for step, value in zip(
        range(10, 110, 10), [0.8, 0.7, 0.7, 0.7, 0.9, 0.7, 0.7, 0.7, 0.7, 0.7], strict=True
    ):
        plateau = plateau.observe(value, step, config)
        seen.append((plateau.without_gain, round(plateau.scale, 9)))
    # Of evaluations every 10 steps the third after a gain, or after one that counted, counts.
    assert seen[:4] == [(0, 1), (0, 1), (0, 1), (1, 0.1)]
    assert seen[4:] == [(0, 0.1), (0, 0.1), (0, 0.1), (1, 0.01), (1, 0.01), (1, 0.01)]
    assert not plateau.exhausted(config)
    assert plateau.observe(0.7, 110, config).exhausted(config)


def test_gain_below_min_gain_does_not_count(config):
    config.plateau.min_gain = 0.01
    plateau = Plateau().observe(0.8, 1, config).observe(0.805, 2, config)
    assert (plateau.best_step, plateau.without_gain) == (1, 1)


def test_learning_rate_does_not_fall_below_the_floor(config):
    plateau = Plateau().observe(0.9, 1, config)
    for step in range(2, 12):
        plateau = plateau.observe(0.1, step, config)
    assert plateau.scale * config.optimizer.learning_rate == pytest.approx(1e-6)
    config.optimizer.learning_rate = 1e-7
    assert Plateau().observe(0.9, 1, config).observe(0.1, 2, config).scale == 1.0


def test_nan_is_no_gain(config):
    plateau = Plateau().observe(math.nan, 1, config)
    assert plateau.best is None
    assert plateau.without_gain == 1


def test_patience_0_never_stops(config):
    config.plateau.patience = 0
    assert not Plateau(without_gain=100).exhausted(config)


def test_schedules(config):
    assert float(learning_rate(config, 100)(50)) == pytest.approx(1e-3)
    config.optimizer.warmup_steps = 10
    assert float(learning_rate(config, 100)(5)) == pytest.approx(5e-4)
    assert float(learning_rate(config, 100)(90)) == pytest.approx(1e-3)
    config.optimizer.schedule = 'cosine'
    assert float(learning_rate(config, 100)(10)) == pytest.approx(1e-3)
    assert float(learning_rate(config, 100)(100)) == pytest.approx(0, abs=1e-9)


def test_the_best_few_evaluations_are_kept(config):
    config.training.keep_best = 2
    plateau = Plateau()
    for step, value in ((1, 0.5), (2, 0.9), (3, 0.7), (4, float('nan')), (5, 0.9), (6, 0.6)):
        plateau = plateau.observe(value, step, config)
    # The earlier of equals first; NaN is never among them.
    assert plateau.top == ((0.9, 2), (0.9, 5))
    assert plateau.best_steps == {2, 5}
    assert plateau.best_step == 2
