"""Lists of runs, and results as if they had been carried out."""

import pytest

from dlf_jax.comparison import run_list, settings
from dlf_jax.comparison.runner import Outcome
from tests.conftest import ROOT


def make(tmp_path, models, sweeps=(), datasets=('synthetic',), seeds='3', folder=None, **options):
    return run_list.make(
        datasets,
        settings.parse_models(models, sweeps),
        settings.parse_seeds(seeds),
        workdir=tmp_path,
        data_dir=str(folder or tmp_path / 'data'),
        configs_folder=str(ROOT / 'configs'),
        **options,
    )


def result(auc, logloss=0.4, test=None, **more):
    """The result of a run; `test` is the AUC of the test part, `more` are further metrics of both parts."""
    return {
        'model': 'any',
        'steps': 10,
        'best_step': 10,
        'parameters': {'table': 2000, 'dense': 345},
        'seconds': 12.0,
        'samples_per_second': 1000.0,
        'valid': {'auc': auc, 'logloss': logloss, **more, 'rows': 10},
        'test': None if test is None else {'auc': test, 'logloss': logloss, **more, 'rows': 10},
    }


@pytest.fixture
def compared(tmp_path):
    """DLF, MLP and FM on Frappe, three seeds; FM's last has failed. The list of runs and its outcome."""
    found = make(tmp_path, 'dlf,mlp,fm', datasets=('frappe',))
    dlf, mlp, fm = (row.runs for row in found.rows)
    outcome = Outcome()
    for runs, aucs in ((dlf, (0.98, 0.981, 0.983)), (mlp, (0.97, 0.974, 0.975)), (fm, (0.96, 0.961))):
        outcome.results.update({run: result(auc, 1 - auc) for run, auc in zip(runs, aucs, strict=False)})
    outcome.errors[fm[2]] = 'step 7: the loss is nan'
    return found, outcome
