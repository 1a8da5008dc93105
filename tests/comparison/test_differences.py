"""Differences on the same rows, beside the table."""

import numpy as np
import pytest

import dlf_jax
from dlf_jax.analysis import intervals
from dlf_jax.comparison import differences, results_table
from dlf_jax.errors import UserError
from dlf_jax.training import stored_scores
from dlf_jax.training.probability_metrics import sigmoid
from tests.comparison.conftest import make


@pytest.fixture
def scored(compared):
    """The runs of DLF and MLP with stored scores, of which DLF's are better; FM has none."""
    found, outcome = compared
    draw = np.random.default_rng(0)
    logit = draw.normal(-1, 1, 800)
    rows = {
        'label': (draw.random(800) < sigmoid(logit)).astype(np.float32),
        'weight': np.ones(800, np.float32),
    }
    for row, noise in zip(found.rows, (0.1, 1.0, None), strict=True):
        for run in row.runs:
            run.workdir.path.mkdir(parents=True)
            if run in outcome.results:
                run.workdir.finish(outcome.results[run])
            if noise is not None:
                own = {run.seed: logit + noise * draw.normal(size=800)}
                stored_scores.write(run.workdir, 'valid', rows, own, run.seed)
    return found, outcome


def test_the_first_common_seed_is_compared_row_by_row(scored):
    found, outcome = scored
    mlp, fm = differences.summarise(found, outcome)
    told = [mlp[key] for key in ('dataset', 'name', 'seed', 'part', 'rows')]
    assert told == ['frappe', 'mlp', 0, 'valid', 800]
    runs = [found.rows[place].runs[0].workdir for place in (1, 0)]
    expected = intervals.paired(*(stored_scores.read(workdir, 'valid') for workdir in runs))
    for metric in differences.METRICS:
        for key in ('difference', 'low', 'high'):
            assert mlp[f'{metric}_{key}'] == expected[metric][key]
    assert mlp['auc_high'] < 0 < mlp['logloss_low']
    told = dlf_jax.compare_runs(runs[0].path, runs[1].path, 'valid')
    assert told == {'part': 'valid', 'rows': 800, **expected}
    # Of three seeds: -0.01, -0.007, -0.008.
    assert mlp['auc_seeds_needed'] == 3
    assert 'no stored scores' in fm['missing']
    assert (fm['rows'], fm['auc_difference']) == (None, None)
    # Its two seeds are apart by the same.
    assert fm['auc_seeds_needed'] is None


def test_the_page_has_them_below_the_table(scored, tmp_path):
    found, outcome = scored
    lines = differences.summarise(found, outcome)
    text = '\n'.join(differences.section(lines))
    assert text.startswith('## frappe: differences on the same rows')
    assert '| `mlp` | 800 valid, seed 0 | **-0.' in text
    assert '- `fm`: ' in text
    assert 'probability of 0.8' in text
    results_table.write(tmp_path, 'any', found, outcome, differences.section(lines))
    page = (tmp_path / 'table.md').read_text()
    assert page.index('Mean ± sample') < page.index('differences on the same rows')
    assert page.endswith('\n')
    assert not page.endswith('\n\n')


def test_nothing_to_compare(tmp_path):
    found = make(tmp_path, 'mlp,fm')
    assert differences.summarise(found, type('None', (), {'results': {}})) == []
    assert differences.section([]) == []


def test_runs_on_other_rows_are_refused(scored):
    found, outcome = scored
    workdir = found.rows[1].runs[0].workdir
    scores = stored_scores.read(workdir, 'valid')
    scores['label'] = scores['label'].copy()
    scores['label'][3] = 1 - scores['label'][3]
    stored_scores.write(workdir, 'valid', scores, {0: scores['logit']}, 0)
    with pytest.raises(UserError, match='not scored on the same rows: the label of row 4'):
        dlf_jax.compare_runs(workdir.path, found.rows[0].runs[0].workdir.path, 'valid')
    (mlp, _) = differences.summarise(found, outcome)
    assert 'the label of row 4' in mlp['missing']
