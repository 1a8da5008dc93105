"""Sections of the page on what is given to them, without a run."""

import numpy as np
import pytest

from dlf_jax.analysis import intervals
from dlf_jax.analysis.report import segments_section, uncertainty
from dlf_jax.analysis.report.elements import markup
from dlf_jax.analysis.segments import segments


def scored(rows, seed=0, rate=0.5):
    draw = np.random.default_rng(seed)
    label = (draw.random(rows) < rate).astype(np.float64)
    logit = draw.normal(size=rows) + label
    return {'label': label, 'logit': logit, 'weight': draw.integers(1, 4, rows).astype(np.float64)}


def test_the_worst_segments_are_values_with_enough_rows_of_both_classes():
    scores = scored(1200)
    # The last of them has hardly a click.
    codes = np.repeat([0, 1, 2], 400)
    scores['label'][codes == 2] = 0
    scores['label'][-20:] = 1
    found = segments('place', codes, ['the restaurant', 'bar', 'club'], scores)
    told = markup(segments_section._worst([('place', found)], 1200))
    assert 'the restaurant' in told
    assert 'bar' in told
    assert 'club' not in told


def test_many_rows_have_the_intervals_of_formulas(monkeypatch):
    scores = scored(2000)
    others = {**scores, 'logit': scores['logit'] + np.random.default_rng(1).normal(size=2000)}
    drawn, paired = intervals.of_metrics(scores, 400), intervals.paired(scores, others, 400)
    monkeypatch.setattr(uncertainty, 'MOST_ROWS', 1000)
    found, differences = uncertainty.of_metrics(scores), uncertainty.paired(scores, others)
    assert found['samples'] == 0
    assert found['metrics'].keys() == differences.keys() == {'auc', 'logloss'}
    assert found['metrics']['auc'] == pytest.approx(drawn['metrics']['auc'])
    assert found['metrics']['logloss'] == pytest.approx(drawn['metrics']['logloss'], abs=0.005)
    for name, own in differences.items():
        assert own['difference'] == pytest.approx(paired[name]['difference'])
        assert (own['low'], own['high']) == pytest.approx(
            (paired[name]['low'], paired[name]['high']), abs=0.005
        )
    # Rows of a group are not independent.
    grouped = {**scores, 'group': np.arange(2000) // 4}
    assert uncertainty.of_metrics(grouped) is None
    assert uncertainty.paired(scores, scored(2000, seed=2)) is None
