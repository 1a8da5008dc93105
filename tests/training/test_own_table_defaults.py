"""The defaults of own tables learn what no field tells alone: whether the sum of two ids is odd."""

import numpy as np
import pytest

from benchmarks import own_tables
from dlf_jax import api
from dlf_jax.models import of_any_data

# Linear: it cannot express it.
UNABLE = {'lr'}
QUICK = ('mlp',)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return own_tables.write(own_tables.odd(np.random.default_rng(0)), tmp_path_factory.mktemp('odd'))


@pytest.mark.parametrize(
    'model',
    [
        pytest.param(model, marks=() if model in QUICK else pytest.mark.slow)
        for model in of_any_data()
        if model not in UNABLE
    ],
)
def test_an_odd_sum_is_learnt_by_every_model_that_can_express_it(model, folder, tmp_path):
    files = {f'dataset.{part}': str(folder / f'{part}.csv') for part in own_tables.PARTS}
    columns = {'dataset.label': 'click', 'dataset.categorical': ('user', 'item')}
    config = api.load_config('configs/table.py', model, overrides={**files, **columns})
    result = api.train(config, tmp_path / 'run', tmp_path / 'data')
    # The probabilities that the clicks were drawn from have 0.88.
    assert result['test']['auc'] >= 0.87, result
    assert result['learnt']
    assert result['test']['logloss'] < result['base_rate_logloss']['test']
