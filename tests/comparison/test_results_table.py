"""What the table says, down to its numbers."""

import csv

import pytest
from scipy import stats

from dlf_jax.comparison import published_scores, results_table
from dlf_jax.comparison.runner import Outcome
from dlf_jax.file_writing import write_atomically
from tests.comparison.conftest import make, result


def test_summary(compared):
    lines = {line['name']: line for line in results_table.summarise(*compared)}
    assert list(lines) == ['dlf', 'mlp', 'fm']
    mlp, fm = lines['mlp'], lines['fm']
    assert mlp['valid_auc_mean'] == pytest.approx(0.973)
    assert mlp['valid_auc_std'] == pytest.approx(0.0026458, rel=1e-4)
    expected = stats.ttest_rel((0.97, 0.974, 0.975), (0.98, 0.981, 0.983)).pvalue
    assert mlp['valid_auc_p'] == pytest.approx(expected)
    assert mlp['valid_pairs'] == 3
    # Two of three seeds: judged by those two.
    assert (fm['seeds'], fm['of'], fm['valid_pairs']) == (2, 3, 2)
    assert fm['valid_auc_p'] is None  # both differ by the same 0.02
    assert lines['dlf']['valid_auc_p'] is None
    assert mlp['test_auc_mean'] is None
    assert (mlp['parameters_table'], mlp['parameters_dense']) == (2000, 345)
    assert (mlp['samples_per_second'], mlp['seconds']) == (1000, 12.0)
    assert (lines['dlf']['paper_auc'], lines['dlf']['leaderboard_auc']) == (0.9812, None)
    assert (mlp['paper_auc'], mlp['leaderboard_logloss']) == (None, 0.1622)


def test_files(compared, tmp_path):
    results_table.write(tmp_path, 'a title', *compared)
    rows = list(csv.DictReader((tmp_path / 'table.csv').open()))
    assert [row['name'] for row in rows] == ['dlf', 'mlp', 'fm']
    assert float(rows[0]['valid_auc_mean']) == pytest.approx(0.98133333)
    assert rows[0]['valid_auc_p'] == ''
    runs = list(csv.DictReader((tmp_path / 'runs.csv').open()))
    assert [(run['setting'], run['seed']) for run in runs[:4]] == [
        ('dlf', '0'), ('mlp', '0'), ('fm', '0'), ('dlf', '1'),
    ]  # fmt: skip
    assert runs[-1]['error'] == 'step 7: the loss is nan'
    assert runs[-1]['valid_auc'] == ''
    text = (tmp_path / 'table.md').read_text()
    assert text.startswith('# a title\n\n## frappe\n')
    line = next(line for line in text.splitlines() if line.startswith('| `dlf`'))
    assert line == (
        '| `dlf` | 3 | **0.98133 ± 0.00153** | **0.01867 ± 0.00153** |  |  | 2,000 + 345 | 1,000 | 12 '
        '| 0.9812 / 0.1679 |  |'
    )
    assert '| `fm` | 2 of 3 |' in text
    assert '- Failed: frappe fm seed 2: step 7: the loss is nan' in text
    assert 'p valid AUC' in text
    assert 'test AUC' not in text
    # Every line of a table has as many cells.
    assert len({line.count('|') for line in text.splitlines() if line.startswith('|')}) == 1
    assert not list(tmp_path.glob('.*.tmp'))


def test_the_test_part_is_judged_where_there_is_one(tmp_path):
    found = make(tmp_path, 'dlf,mlp', seeds='2')
    outcome = Outcome()
    for row, aucs in zip(found.rows, ((0.8, 0.82), (0.79, 0.8)), strict=True):
        for run, auc in zip(row.runs, aucs, strict=True):
            outcome.results[run] = result(0.5, test=auc)
    line = results_table.summarise(found, outcome)[1]
    assert line['test_auc_p'] == pytest.approx(stats.ttest_rel((0.79, 0.8), (0.8, 0.82)).pvalue)
    assert line['valid_auc_p'] is None
    shown = results_table.shown_metrics(found, outcome)
    assert '| p test AUC |' in results_table.markdown('t', [line], shown, [])


def test_every_metric_of_the_runs_has_columns(tmp_path):
    """Those that the config names, and GAUC where the data has groups; the direction is the metric's."""
    found = make(tmp_path, 'dlf,mlp', seeds='2', overrides={'training.metrics': "('brier',)"})
    outcome = Outcome()
    for row, briers in zip(found.rows, ((0.1, 0.2), (0.3, 0.5)), strict=True):
        for run, brier in zip(row.runs, briers, strict=True):
            outcome.results[run] = result(0.8, brier=brier)
    assert list(results_table.shown_metrics(found, outcome)) == ['auc', 'logloss', 'brier']
    dlf, mlp = results_table.write(tmp_path, 'a title', found, outcome)
    assert (dlf['valid_brier_mean'], mlp['valid_brier_mean']) == (pytest.approx(0.15), pytest.approx(0.4))
    assert mlp['valid_brier_p'] == pytest.approx(stats.ttest_rel((0.3, 0.5), (0.1, 0.2)).pvalue)
    text = (tmp_path / 'table.md').read_text()
    head = '| model | seeds | valid AUC ↑ | valid Logloss ↓ | valid Brier score ↓ | p valid AUC |'
    assert head in text
    assert '**0.15000 ± 0.07071**' in text
    assert '| 0.40000 ± 0.14142 |' in text
    assert 'valid_brier_mean' in (tmp_path / 'table.csv').read_text()
    [first, *_] = csv.DictReader((tmp_path / 'runs.csv').open())
    assert (first['valid_brier'], 'valid_gauc' in first) == ('0.1', False)

    # A metric of groups, undefined in one of the runs.
    for run, gauc in zip(found.runs, (0.6, None, 0.7, 0.8), strict=True):
        outcome.results[run]['valid']['gauc'] = gauc
    assert list(results_table.shown_metrics(found, outcome)) == ['auc', 'gauc', 'logloss', 'brier']
    dlf, mlp = results_table.summarise(found, outcome)
    assert (dlf['valid_gauc_mean'], mlp['valid_gauc_mean']) == (pytest.approx(0.65), 0.8)


def test_notes(tmp_path, compared):
    assert results_table.notes(*compared) == ['Failed: frappe fm seed 2: step 7: the loss is nan']
    [none, unfinished] = results_table.notes(make(tmp_path, 'mlp,fm'), Outcome())
    assert 'dlf' in none
    assert unfinished == '6 of 6 runs are not finished yet.'
    [few, _] = results_table.notes(make(tmp_path, 'dlf,fm', seeds='1'), Outcome())
    assert 'at least 2 seeds' in few


def test_runs_that_learnt_nothing_are_told(tmp_path):
    found = make(tmp_path, 'dlf,mlp', seeds='1')
    outcome = Outcome()
    dlf, mlp = found.runs
    outcome.results = {
        dlf: {**result(0.8), 'learnt': True, 'warnings': ['few steps']},
        mlp: {**result(0.5), 'learnt': False, 'warnings': ['auc 0.5 is chance']},
    }
    told = [note for note in results_table.notes(found, outcome) if note.startswith('Learnt')]
    assert told == [f'Learnt nothing: {mlp.name}: auc 0.5 is chance']


def test_runs_on_different_files_are_told(compared):
    found, outcome = compared
    for row, mark in zip(found.rows, ('a', 'a', 'b'), strict=True):
        for run in row.runs:
            run.workdir.create()
            write_atomically(run.workdir.path / 'data.json', f'{{"fingerprint": "{mark}"}}')
    assert 'different files' in results_table.notes(found, outcome)[0]


def test_published_values():
    assert published_scores.PAPER['criteo']['dlf'] == (0.8106, 0.4412)
    assert published_scores.PAPER['avazu']['dlf:wo_rli_naf'] == (0.7563, 0.3731)
    assert published_scores.PAPER['movielens']['wukong'] == (0.9502, 0.2285)
    assert published_scores.LEADERBOARD['frappe']['finalnet'] == (0.9857, 0.1311)
    assert published_scores.LEADERBOARD['avazu']['autoint:+'] == (0.7645, 0.3668)
    assert published_scores.LEADERBOARD['criteo']['lr'] == (0.7886, 0.4609)
    counts = {dataset: len(rows) for dataset, rows in published_scores.LEADERBOARD.items()}
    assert counts == {'frappe': 22, 'movielens': 21, 'criteo': 20, 'avazu': 21}
    for scores in (published_scores.PAPER, published_scores.LEADERBOARD):
        for rows in scores.values():
            assert all(0.7 < auc < 1 and 0.1 < logloss < 0.5 for auc, logloss in rows.values())
