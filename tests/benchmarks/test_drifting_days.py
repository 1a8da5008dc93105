"""A chain of warm starts against a frozen model and one of the last day alone."""

import pytest

from benchmarks import drifting_days


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_warm_start_beats_the_frozen_model_and_the_last_day_alone(tmp_path):
    found = drifting_days.compare(tmp_path, days=9, rows=8000, stale=4)
    warm = found['warm']
    for other in ('frozen', 'frozen_first', 'scratch'):
        assert warm['auc'] > found[other]['auc'] + 0.01, other
        assert warm['normalized_entropy'] < found[other]['normalized_entropy'] - 0.01, other
    best = found['best_possible']
    assert warm['auc'] < best['auc']
    # Later days are predicted better than the second, on which one day has been learnt.
    assert found['days'][-1]['auc'] > found['days'][1]['auc'] + 0.01
