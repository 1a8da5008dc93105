"""The text of one's own code, which a workdir keeps and compares."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

import dlf_jax
from dlf_jax import own_code, plugins
from dlf_jax.errors import UsageError, UserError
from tests.conftest import ROOT, SMALL_RUN, write_table

MODEL = '''
from dlf_jax.models import CTRModel, layers


class Tower(CTRModel):
    """A tower."""

    embedding_size: int = 4
    hidden: tuple[int, ...] = (8,)

    def logits(self, embeddings, mode):
        flat = embeddings['embedding'].reshape(len(embeddings['embedding']), -1)
        return layers.MLP(self.hidden, 1, name='tower')(flat, mode)[:, 0]
'''
METRIC = """
import numpy as np

from dlf_jax.training.metrics import Metric

accuracy = Metric(lambda y, z, w: np.average((z > 0) == (y > 0.5), weights=w), True, 'Accuracy')
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'tower.py').write_text(MODEL)
    (tmp_path / 'mine' / 'other').mkdir()
    (tmp_path / 'mine' / 'other' / 'tower.py').write_text(METRIC)
    write_table(tmp_path / 'train.csv', 600)
    return tmp_path


@pytest.fixture
def config(folder):
    keys = {
        **SMALL_RUN, 'dataset.name': 'table', 'dataset.train': str(folder / 'train.csv'),
        'dataset.label': 'click', 'dataset.categorical': ('user',),
        'training.metrics': (f'{folder}/mine/other/tower.py:accuracy',),
    }  # fmt: skip
    return dlf_jax.load_config(model=f'{folder}/mine/tower.py:Tower', overrides=keys)


def test_the_text_is_kept_and_compared(folder, config, data_dir):
    run, model = folder / 'run', folder / 'mine' / 'tower.py'
    dlf_jax.train(config, run, data_dir)
    index = own_code.read_index(run / 'own_code')
    assert index == {str(model): 'tower.py', str(folder / 'mine/other/tower.py'): 'tower-2.py'}
    assert (run / 'own_code' / 'tower.py').read_text() == MODEL
    expected = dlf_jax.load(run).predict(folder / 'train.csv')

    # Comments and docstrings make no difference.
    model.write_text('# A comment.\n' + MODEL.replace('A tower.', 'The tower.'))
    np.testing.assert_array_equal(dlf_jax.load(run).predict(folder / 'train.csv'), expected)
    assert dlf_jax.train(config, run, data_dir)['model'].endswith(':Tower')

    # What the file does makes one: to load, and to go on.
    model.write_text(MODEL.replace("'embedding'].reshape", "'embedding'][::-1].reshape"))
    for call in (lambda: dlf_jax.load(run), lambda: dlf_jax.train(config, run, data_dir)):
        with pytest.raises(UserError, match=r'has changed since .*/own_code/tower\.py: put it back'):
            call()
    # As the message says, where the change is known to be harmless.
    shutil.copy(model, run / 'own_code' / 'tower.py')
    dlf_jax.load(run)

    model.unlink()
    with pytest.raises(UserError, match=r'tower\.py: is not there any more, .* its text is kept in'):
        dlf_jax.load(run)


def test_the_texts_of_before_stay_until_the_new_ones_are_there(folder, config, monkeypatch):
    own_code.keep(config, folder / 'kept')
    monkeypatch.setattr(own_code, 'to_json', lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        own_code.keep(config, folder / 'kept')
    monkeypatch.undo()
    assert (folder / 'kept' / 'tower.py').read_text() == MODEL
    monkeypatch.setattr('dlf_jax.file_writing.os.rename', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        own_code.keep(config, folder / 'kept')
    assert len(own_code.read_index(folder / 'kept')) == 2


def test_a_saved_model_keeps_the_text(folder, config, data_dir):
    dlf_jax.train(config, folder / 'run', data_dir)
    model = dlf_jax.load(folder / 'run')
    model.save(folder / 'saved')
    (folder / 'mine' / 'tower.py').write_text(MODEL.replace('(8,)', '(9,)'))
    with pytest.raises(UserError, match=r'has changed since .*/saved/own_code/tower\.py'):
        dlf_jax.load(folder / 'saved')


def test_a_class_is_given_as_it_is(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder / 'mine'))
    import tower

    keys = {**{k: v for k, v in SMALL_RUN.items() if k != 'dataset.block_rows'}, 'training.epochs': 1}
    model = dlf_jax.fit(folder / 'train.csv', label='click', model=tower.Tower, data_dir=folder, **keys)
    assert model.config.model.name == f'{folder}/mine/tower.py:Tower'
    # The class that is imported, and no second one of the same file.
    assert plugins.lookup(model.config.model.name, {}, 'model') is tower.Tower
    sys.modules.pop('tower')


def test_a_class_of_the_script_itself(folder):
    """Without a guard, importing the script again would run it again."""
    script = folder / 'script.py'
    script.write_text(
        MODEL
        + f"""
import dlf_jax

keys = {SMALL_RUN!r}
keys.pop('dataset.block_rows')
rows, folder = {str(folder / 'train.csv')!r}, {str(folder)!r}
model = dlf_jax.fit(rows, label='click', model=Tower, data_dir=folder, **keys)
print(model.config.model.name)
"""
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120,
        env={'PATH': '/usr/bin:/bin', 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == f'{script}:Tower\n'


def test_the_text_is_the_one_that_was_executed(folder, data_dir, monkeypatch):
    """A file that is edited after it was imported, as in a notebook."""
    monkeypatch.syspath_prepend(str(folder / 'mine'))
    (folder / 'mine' / 'edited.py').write_text(MODEL)
    import edited

    keys = {**{k: v for k, v in SMALL_RUN.items() if k != 'dataset.block_rows'}, 'training.epochs': 1}
    name = plugins.name_of(edited.Tower)
    (folder / 'mine' / 'edited.py').write_text(MODEL.replace("'embedding'].resh", "'embedding'][::-1].resh"))
    with pytest.raises(UserError, match=r'edited\.py: has changed since the model was trained with it'):
        dlf_jax.fit(folder / 'train.csv', label='click', model=edited.Tower, workdir=folder / 'w', **keys)
    assert (folder / 'w' / 'own_code' / 'edited.py').read_text() == MODEL
    sys.modules.pop('edited')
    # By its name alone, the new text is executed, and kept.
    plugins._imported.clear()
    model = dlf_jax.fit(folder / 'train.csv', label='click', model=name, **keys)
    model.save(folder / 'saved')
    assert '[::-1]' in (folder / 'saved' / 'own_code' / 'edited.py').read_text()


def test_a_file_in_another_encoding(folder, data_dir):
    file = folder / 'mine' / 'latin.py'
    file.write_bytes(('# -*- coding: latin-1 -*-\n# Ein Gru\xdf.\n' + MODEL).encode('latin-1'))
    keys = {**{k: v for k, v in SMALL_RUN.items() if k != 'dataset.block_rows'}, 'training.epochs': 1}
    fitted = dlf_jax.fit(folder / 'train.csv', label='click', model=f'{file}:Tower', **keys)
    fitted.save(folder / 'saved')
    assert dlf_jax.load(folder / 'saved').config.model.name == f'{file}:Tower'


def test_a_class_of_the_package_has_its_name(folder):
    keys = {'training.epochs': 1, 'dataset.categorical': ('user',)}
    fitted = dlf_jax.fit(folder / 'train.csv', label='click', model=dlf_jax.MODELS['fm'], **keys)
    assert fitted.config.model.name == 'fm'


def test_a_class_without_a_file_is_refused():
    class Inner:
        pass

    with pytest.raises(UsageError, match='expected a class at the top level of a module'):
        plugins.name_of(Inner)
    with pytest.raises(UsageError, match=r'expected a class in a \.py file'):
        plugins.name_of(type('Made', (), {'__module__': 'builtins'}))


def test_nothing_is_kept_of_the_package(tmp_path):
    own_code.keep(dlf_jax.load_config(model='dlf'), tmp_path / 'own_code')
    assert not (tmp_path / 'own_code').exists()
    assert own_code.read_index(tmp_path / 'own_code') == {}
    own_code.check(tmp_path / 'own_code')
