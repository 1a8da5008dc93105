"""Models, datasets and metrics of one's own in comparisons and searches."""

import json
import os
import re
import subprocess
import sys

import pytest

from dlf_jax import compare, models
from dlf_jax.comparison import report, run_list, settings
from dlf_jax.comparison.settings import Setting
from dlf_jax.errors import UsageError
from tests.conftest import ROOT, write_table

MINE = """
import numpy as np

from dlf_jax.data.builders.base import Builder
from dlf_jax.data.schema import Schema
from dlf_jax.models.mlp import MLP
from dlf_jax.training.metrics import Metric


class Clicker(MLP):
    variants = {'full': {}, 'wide': {'hidden': (16,)}}


class Clicks(Builder):
    def make_schema(self, table):
        fields = (self.categorical('user'), self.categorical('ad'), self.number('price', 'standard'))
        return Schema(fields, 'click')


def _accuracy(labels, logits, weights):
    return np.average((logits > 0) == (labels > 0.5), weights=weights)


accuracy = Metric(_accuracy, higher_is_better=True, title='Accuracy')
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with mine.py, and with rows for its dataset in files/; the current folder."""
    (tmp_path / 'mine.py').write_text(MINE)
    (tmp_path / 'files/Clicks').mkdir(parents=True)
    write_table(tmp_path / 'files/Clicks/train.csv', 2000)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_models_of_one_s_own_have_variants(mine):
    model = f'{mine}/mine.py:Clicker'
    parsed = settings.parse_models('mlp,mine.py:Clicker,mine.py:Clicker:wide,dlf:wo_gate')
    assert parsed == (Setting('mlp'), Setting(model), Setting(model, 'wide'), Setting('dlf', 'wo_gate'))
    assert [s.name for s in parsed[1:3]] == ['mine.py:Clicker', 'mine.py:Clicker:wide']
    assert settings.parse_models('mine.py:Clicker:all') == parsed[1:3]
    assert settings.parse_models('dlf_jax.models.mlp:MLP') == (Setting('dlf_jax.models.mlp:MLP'),)
    # A list of all models is of the package's.
    assert len(settings.parse_models('all')) == len(models.of_any_data())


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('mine.py:Clicker:narrow', r'mine.py:Clicker has no such variant; known: full, wide'),
        ('mine.py:Clickr', r"has no 'Clickr'; did you mean 'Clicker'"),
        ('nowhere.py:Clicker', r'there is no file .*nowhere.py'),
        ('mlpp:full', r"--models=mlpp:full: there is no model 'mlpp'; did you mean 'mlp'"),
        ('dlf_jax.modles.mlp:MLP', r"there is no model 'dlf_jax.modles.mlp'"),
        ('mine.py', r"there is no model 'mine.py'"),
    ],
)
def test_mistakes_are_named(mine, text, message):
    with pytest.raises(UsageError, match=message):
        settings.parse_models(text)


def test_folders_are_safe_and_apart(mine):
    """The same file gives the same folder from anywhere, another file of the same name another folder."""
    [first] = settings.parse_models('mine.py:Clicker:wide', ['model.dropout=0.1'])
    assert re.fullmatch(r'mine\.py-Clicker-wide,dropout=0\.1-[0-9a-f]{6}', first.folder)
    (mine / 'other').mkdir()
    (mine / 'other/mine.py').write_text(MINE)
    [second] = settings.parse_models('other/mine.py:Clicker:wide', ['model.dropout=0.1'])
    assert (first.name, first.folder) != (second.name, second.folder)
    assert first.name == second.name
    [again] = settings.parse_models(f'{mine}/other/../mine.py:Clicker:wide', ['model.dropout=0.1'])
    assert again.folder == first.folder
    [module] = settings.parse_models('dlf_jax.models.mlp:MLP')
    assert module.folder == 'dlf_jax.models.mlp-MLP'


def test_datasets_of_one_s_own_find_configs_and_files(mine):
    def found(*flags):
        line = ['compare', '--dataset=mine.py:Clicks', '--models=lr', '--seeds=1', '--list', *flags]
        [run] = report.make_run_list(compare.parse(line)).runs
        return run

    run = found('--files=files')
    assert run.name == 'mine.py:Clicks lr seed 0'
    assert run.config.dataset.name == f'{mine}/mine.py:Clicks'
    assert run.config.dataset.train == 'files/Clicks/train.csv'
    assert re.fullmatch(r'mine\.py-Clicks-[0-9a-f]{6}', run.workdir.path.parts[-3])
    assert f'--dataset={mine}/mine.py:Clicks' in run.arguments
    # Without a config file of its own the defaults; one of the object's name is taken.
    assert run.config.plateau.patience == 2
    (mine / 'configs').mkdir()
    text = (ROOT / 'configs/table.py').read_text().replace("'table'", "'mine.py:Clicks'")
    (mine / 'configs/Clicks.py').write_text(text.replace('patience = 6', 'patience = 7'))
    assert found('--files=files', '--configs=configs').config.plateau.patience == 7
    # It may need no files.
    run_list.check_files(found())
    with pytest.raises(UsageError, match=r"--dataset='.*': .* has no 'Clikcs'; did you mean 'Clicks'"):
        run_list.find_dataset('mine.py:Clikcs')


@pytest.mark.slow
def test_a_comparison_of_one_s_own(mine, data_dir):
    """One process trains a model, on a dataset, by a metric that are all in one file."""
    line = [
        sys.executable, '-m', 'dlf_jax.compare', '--dataset=mine.py:Clicks', '--models=mine.py:Clicker:wide',
        '--seeds=1', '--files=files', '--workdir=results', f'--data_dir={data_dir}',
        '--config.training.epochs=1', '--config.training.batch_size=256', '--config.model.embedding_size=4',
        '--config.dataset.block_rows=256', '--config.training.monitor=mine.py:accuracy',
    ]  # fmt: skip
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    env = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': path}
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    [row] = result['rows']
    assert (row['name'], row['dataset']) == ('mine.py:Clicker:wide', 'mine.py:Clicks')
    assert 0.5 < row['test_accuracy_mean'] <= 1
    text = (mine / 'results/comparison/table.md').read_text()
    assert '| model | seeds | valid AUC ↑ | valid Logloss ↓ | valid Accuracy ↑ | test AUC ↑ |' in text
    assert '| `mine.py:Clicker:wide` | 1 |' in text
    # From another folder its runs are known as finished, without starting one.
    again = subprocess.run(
        [*[f.replace('=mine.py', f'={mine}/mine.py') for f in line], '--files=' + str(mine / 'files'),
         f'--workdir={mine}/results', '--list'],
        env=env, cwd='/', capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert [run['state'] for run in json.loads(again.stdout)['list']] == ['finished'], again.stderr
