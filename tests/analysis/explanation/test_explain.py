"""The folder of an explanation: what is in it, where its rows come from, and what leaves nothing behind."""

import json
import logging
import xml.etree.ElementTree as ET

import polars as pl
import pytest

import dlf_jax
from dlf_jax import main, trained_runs
from dlf_jax.analysis.explanation import drawing, explain
from dlf_jax.errors import UsageError, UserError
from tests.analysis.explanation.conftest import KEYS, table

QUICK = {'explain.repeats': 1, 'explain.points': 3, 'explain.attributed': 2, 'explain.rows': 200}


def test_what_is_written(explanation, tmp_path):
    listed = explanation.write(tmp_path / 'new' / 'explain')
    folder = tmp_path / 'new' / 'explain'
    assert json.loads((folder / 'explain.json').read_text()) == listed
    assert {'model', 'variant', 'rows', 'seed', 'metrics', 'fields', 'groups', 'pairs'} <= listed.keys()
    assert {'partial_dependence', 'embeddings', 'attributions', 'dlf'} <= listed.keys()
    assert listed['dlf'] is None
    assert listed['metrics'].keys() >= {'auc', 'logloss', 'rows'}
    files = {entry['file'] for entry in (*listed['tables'], *listed['pictures'])}
    assert {path.name for path in folder.iterdir()} == {*files, 'explain.json'}
    assert {'fields.svg', 'pairs.svg', 'groups.svg', 'attributions.svg'} <= files
    for entry in listed['pictures']:
        root = ET.parse(folder / entry['file']).getroot()
        assert root.tag.endswith('svg')
        assert entry['alt']
        assert entry['title']
        # Nothing is drawn behind the picture, and texts are texts.
        assert 'fill: #ffffff' not in (folder / entry['file']).read_text()
        assert root.findall('.//{http://www.w3.org/2000/svg}text')
    fields = pl.read_parquet(folder / 'fields.parquet')
    assert fields['field'].to_list() == [entry['field'] for entry in listed['fields']]
    assert fields['logloss_low'].to_list() == [entry['logloss']['low'] for entry in listed['fields']]
    attributed = pl.read_parquet(folder / 'attributions.parquet')
    assert attributed.height == 2 * 6
    # The same explanation, byte by byte, in the place of the one before.
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    explanation.write(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    # But not with somebody's own file.
    (folder / 'notes.md').write_text('mine')
    with pytest.raises(UserError, match=r'holds notes\.md, which is no part of an explanation'):
        explanation.write(folder)
    assert {path.name for path in folder.iterdir()} == {*before, 'notes.md'}


def test_a_folder_of_something_else_is_left_alone(explanation, tmp_path):
    (tmp_path / 'notes.txt').write_text('mine')
    with pytest.raises(UserError, match=r'holds notes\.txt, which is no part of an explanation'):
        explanation.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['notes.txt']


def test_the_folder_is_looked_at_before_anything_is_scored(run, tmp_path, monkeypatch):
    monkeypatch.setattr(trained_runs, 'load', None)
    (tmp_path / 'notes.txt').write_text('mine')
    with pytest.raises(UserError, match=r'holds notes\.txt'):
        dlf_jax.explain(run / 'run', output=tmp_path, data_dir=run / 'data')


def test_without_matplotlib_there_are_no_pictures(explanation, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(drawing, 'available', lambda: False)
    with caplog.at_level(logging.INFO, 'dlf_jax'):
        listed = explanation.write(tmp_path / 'explain')
    assert listed['pictures'] == []
    assert not list((tmp_path / 'explain').glob('*.svg'))
    assert "pip install 'dlf_jax[plots]'" in caplog.text


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run of the command's functions, with prepared records of three parts."""
    folder = tmp_path_factory.mktemp('run')
    table(1500, seed=2).write_csv(folder / 'rows.csv')
    own = {'dataset.name': 'table', 'dataset.train': str(folder / 'rows.csv'), 'dataset.label': 'click'}
    config = dlf_jax.load_config(model='lr', overrides={**KEYS, **own, 'training.epochs': 1})
    dlf_jax.train(config, folder / 'run', folder / 'data')
    return folder


def test_rows_are_those_of_the_validation_part(run, monkeypatch):
    # The files need not be there any more.
    (run / 'rows.csv').rename(run / 'moved.csv')
    found = dlf_jax.explain(run / 'run', options=QUICK, data_dir=run / 'data')
    assert found['output'] == str(run / 'run' / 'explain')
    assert (found['of'], found['rows']) == ('the validation part', 200)
    saved = json.loads((run / 'run' / 'explain' / 'explain.json').read_text())
    assert saved['fields'] == found['fields']
    with pytest.raises(UserError, match=r'the records that this model .* not there; .*--input.*--data_dir'):
        dlf_jax.explain(run / 'run', data_dir=run / 'elsewhere')


def test_files_are_explained_by_the_command(run, monkeypatch, capsys):
    moved = next(run.glob('*.csv'))
    output = run / 'of files'
    flags = [f'--config.{key}={value}' for key, value in QUICK.items()]
    arguments = ['main', '--mode=explain', f'--workdir={run / "run"}', f'--input={moved}']
    monkeypatch.setattr(main, '_keep_compiled', lambda: None)
    argv = [*arguments, f'--output={output}', f'--data_dir={run / "data"}', *flags]
    main.parse(argv)
    assert main.main([]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told['output'] == str(output)
    assert told['fields'][0]['field'] == 'x'
    assert json.loads((output / 'explain.json').read_text())['rows'] == 200


def test_an_interrupted_explanation_leaves_nothing(run, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    before = sorted(path.name for path in (run / 'run').iterdir())
    monkeypatch.setattr(explain, 'embedding_health', stop)
    with pytest.raises(KeyboardInterrupt):
        dlf_jax.explain(run / 'run', output=run / 'stopped', options=QUICK, data_dir=run / 'data')
    assert not (run / 'stopped').exists()
    assert sorted(path.name for path in (run / 'run').iterdir()) == before


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'explain.rows': 0}, 'config.explain.rows=0: expected 1 or more'),
        ({'explain.fields': ('a', 'bb')}, "config.explain.fields: there is no field 'bb'"),
        ({'explain.groups': ('a+b',)}, "config.explain.groups: 'a\\+b': expected NAME=FIELD\\+FIELD"),
        ({'explain.groups': ('g=a+q',)}, "config.explain.groups: there is no field 'q'"),
        ({'explain.groups': ('g=a+b', 'g=c+x')}, "config.explain.groups: two groups are called 'g'"),
        ({'explain.baseline': 'means'}, "config.explain.baseline='means': .*mean"),
        ({'explain.row': 3}, 'config.explain.row: there is no such key'),
        ({'explain.attributed_rows': (1.5,)}, 'config.explain.attributed_rows'),
        ({'explain.attributed_rows': (1, 2, 3), 'explain.rows': 2}, 'attributed_rows: 3 rows, more than'),
    ],
)
def test_keys_that_cannot_be(run, options, message):
    with pytest.raises(UsageError, match=message):
        dlf_jax.explain(run / 'run', options=options, data_dir=run / 'data')


def test_rows_without_a_label(run, linear, rows):
    with pytest.raises(UserError, match=r"no column 'click' \(the label\)"):
        linear.explain(rows.drop('click'))


def test_one_row_has_attributions_and_no_importance(linear, rows):
    found = linear.explain(rows[:1], {'repeats': 1}).found
    assert found['fields'][0]['auc']['mean'] is None
    assert found['fields'][0]['logloss']['mean'] == 0
    (entry,) = found['attributions']
    assert entry['probability'] == entry['baseline_probability']
