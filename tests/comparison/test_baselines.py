"""Baselines as rows of a table: one run each, compared with every seed of the reference."""

import pytest
from scipy import stats

from dlf_jax.comparison import plots, results_table, settings
from dlf_jax.comparison.resolve import parse_overrides
from dlf_jax.comparison.runner import Outcome
from dlf_jax.errors import UsageError
from tests.comparison.conftest import make, result
from tests.conftest import run


@pytest.fixture
def compared(tmp_path):
    """DLF with three seeds and the baselines, as if they had been carried out."""
    found = make(tmp_path, 'dlf,logistic,lightgbm')
    aucs = (0.8, 0.81, 0.83, 0.78, 0.82)
    outcome = Outcome({run: result(auc) for run, auc in zip(_by_row(found), aucs, strict=True)})
    for row in found.rows[1:]:
        outcome.results[row.runs[0]] |= {'samples_per_second': None, 'parameters': {'table': 0, 'dense': 62}}
    return found, outcome


def _by_row(found):
    return [run for row in found.rows for run in row.runs]


def test_a_baseline_has_one_run(compared):
    dlf, logistic, lightgbm = compared[0].rows
    assert [len(row.runs) for row in (dlf, logistic, lightgbm)] == [3, 1, 1]
    assert lightgbm.runs[0].seed == 0
    assert logistic.runs[0].arguments[0].endswith('synthetic.py:logistic')
    assert logistic.runs[0].config.model.to_dict() == {'name': 'logistic'}


def test_the_table_of_baselines(compared, tmp_path):
    dlf, logistic, lightgbm = results_table.write(tmp_path, 'a title', *compared)
    assert (logistic['seeds'], logistic['of'], logistic['valid_auc_std']) == (1, 1, None)
    assert logistic['valid_auc_p'] == pytest.approx(stats.ttest_1samp((0.8, 0.81, 0.83), 0.78).pvalue)
    assert (logistic['valid_pairs'], lightgbm['samples_per_second']) == (3, None)
    assert dlf['valid_auc_p'] is None
    text = (tmp_path / 'table.md').read_text()
    assert '| 0 + 62 |  | 12 |' in text
    assert 'logistic, lightgbm: untuned, in one run each' in text
    assert plots.write(tmp_path, *compared, [dlf, logistic, lightgbm])


def test_no_value_of_a_baseline_is_no_pair(compared):
    found, outcome = compared
    del outcome.results[found.rows[1].runs[0]]
    line = results_table.summarise(found, outcome)[1]
    assert (line['valid_auc_p'], line['valid_pairs']) == (None, 0)


def test_models_of_all_are_no_baselines():
    assert not {'logistic', 'lightgbm'} & {setting.model for setting in settings.parse_models('all')}
    assert settings.parse_models('logistic:all') == (settings.Setting('logistic'),)
    with pytest.raises(UsageError, match='lightgbm has no such variant; known: full'):
        settings.parse_models('lightgbm:fast')
    with pytest.raises(UsageError, match="did you mean 'lightgbm'"):
        settings.parse_models('lightgdm')


def test_beside_every_run_they_would_be_fitted_again_and_again():
    with pytest.raises(UsageError, match='use --models=dlf,logistic,lightgbm'):
        parse_overrides(['--config.baselines=True'])


def test_a_run_is_what_the_command_makes(tmp_path, data_dir):
    found = make(tmp_path, 'dlf,logistic', folder=data_dir, overrides={'dataset.rows': '3000'})
    [one] = found.rows[1].runs
    made = run(*one.arguments, f'--workdir={one.workdir.path}')
    assert made['test']['auc'] > 0.6
    assert one.workdir.finished(one.config) == made
