"""`~` is the home folder in every flag and key of a path: a shell expands it where a word begins, alone."""

import functools

import pytest

from tests.conftest import ROOT, SMALL_FLAGS, fail, run, write_table

METRIC = """
from dlf_jax.training.metrics import Metric
from dlf_jax.training.probability_metrics import logloss

mine = Metric(logloss, higher_is_better=False, title='Mine')
"""
CONFIG = """
from dlf_jax import config as configs


def get_config(model='mlp'):
    return configs.get_config(model)
"""


@pytest.fixture
def home(tmp_path):
    """A home folder, and the command with it; what is written elsewhere is a mistake."""
    write_table(tmp_path / 't.csv', 300)
    write_table(tmp_path / 'v.csv', 300, seed=1)
    (tmp_path / 'mine.py').write_text(METRIC)
    (tmp_path / 'small.py').write_text(CONFIG)
    return tmp_path, functools.partial(run, env={'HOME': str(tmp_path)})


def test_every_flag_and_key_of_a_path(home):
    folder, run_at_home = home
    told = run_at_home(
        '--dataset=table', '--mode=prepare', '--config.dataset.infer=True', '--config.dataset.train=~/t.csv',
        '--output=~/schema.toml', '--data_dir=~/data',
    )  # fmt: skip
    assert told['schema'] == str(folder / 'schema.toml')
    assert (folder / 'schema.toml').is_file()
    run_at_home(
        '--config=~/small.py', *SMALL_FLAGS, '--dataset=table', '--config.dataset.train=~/t.csv,~/t.csv',
        '--config.dataset.valid=~/v*.csv', '--config.dataset.test=~/v.csv', '--workdir=~/run',
        '--config.dataset.schema=~/schema.toml', '--data_dir=~/data',
        "--config.training.metrics=('~/mine.py:mine',)",
    )  # fmt: skip
    assert (folder / 'run' / 'result.json').is_file()
    told = run_at_home('--mode=predict', '--workdir=~/run', '--input=~/v.csv', '--output=~/scores.csv')
    assert told['output'] == str(folder / 'scores.csv')
    assert len((folder / 'scores.csv').read_text().splitlines()) == 301
    evaluated = run_at_home('--mode=evaluate', '--workdir=~/run', '--input=~/v.csv')
    assert evaluated['mine'] == evaluated['logloss']
    assert not (ROOT / '~').exists()


def test_a_folder_that_there_is_not(home):
    folder, _ = home
    message = fail(
        '--dataset=table', '--mode=prepare', '--config.dataset.infer=True', '--config.dataset.train=~/t.csv',
        '--output=~/none/schema.toml', env={'HOME': str(folder)},
    )  # fmt: skip
    assert f'{folder}/none/schema.toml' in message
