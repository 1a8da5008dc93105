"""Every section shows what the folder has, and says what is missing and which command brings it."""

import ast
import dataclasses
import itertools
import json
import re
import shlex
import shutil

import numpy as np
import pytest

from dlf_jax import api
from dlf_jax import config as configs
from dlf_jax.analysis.report import commands, facts, side_by_side
from dlf_jax.analysis.report import section as sections
from dlf_jax.analysis.report.elements import markup
from dlf_jax.analysis.report.write import write_report
from dlf_jax.errors import UsageError, UserError
from dlf_jax.training import stored_scores
from dlf_jax.workdir import Workdir
from tests.analysis.report.conftest import AD, PRICE, USER, VALUE
from tests.analysis.report.test_elements import Parsed
from tests.conftest import run, shared_file

SECTIONS = ['scores', 'calibration', 'segments', 'explanation', 'training', 'data', 'config', 'card']


@pytest.fixture
def copied(hostile, tmp_path):
    """A run's folder that may be changed."""
    return shutil.copytree(hostile, tmp_path / 'run', ignore=shutil.ignore_patterns('checkpoints'))


def page_of(*folders, tmp_path, data_dir=None):
    told = write_report(folders, tmp_path / 'page.html', data_dir)
    return told, (tmp_path / 'page.html').read_text()


def section(page, key):
    """The part of a page that is a section."""
    start = page.index(f'<section id="{key}"')
    return page[start : page.index('</section>', start)]


def test_all_sections_of_a_run(report, hostile):
    path, told = report
    assert told['output'] == str(path)
    assert told['bytes'] == path.stat().st_size
    assert told['sections'] == SECTIONS
    assert told['left_out'] == []
    result = Workdir(hostile).result()
    page = path.read_text()
    for part in ('valid', 'test'):
        assert f'{result[part]["auc"]:.5f}' in section(page, 'scores')
        assert f'{result["base_rate_logloss"][part]:.5f}' in section(page, 'scores')
    assert '500' in section(page, 'data')
    assert '1,200' in section(page, 'data')
    assert 'PSI, valid' in section(page, 'data')
    assert 'To be written' in section(page, 'card')
    assert f'at step {result["best_step"]:,}' in section(page, 'training')


def test_names_and_values_are_text(report):
    page = report[0].read_text()
    found = Parsed(page)
    assert ('script', {}) in found.tags
    assert len([tag for tag, _ in found.tags if tag == 'script']) == 1
    assert all(
        attributes.get('src', '').startswith('data:') for tag, attributes in found.tags if tag == 'img'
    )
    assert not any(name.startswith('on') or name == 'style' for _, a in found.tags for name in a)
    for name in (USER, AD, PRICE, VALUE):
        assert name in found.text


def test_what_is_missing_is_told_with_its_command(copied, tmp_path):
    shutil.rmtree(copied / 'scores')
    shutil.rmtree(copied / 'explain')
    (copied / 'metrics.jsonl').unlink()
    told, page = page_of(copied, tmp_path=tmp_path)
    assert told['left_out'] == ['calibration', 'segments', 'explanation', 'training']
    for key in told['left_out']:
        assert 'python -m dlf_jax.main' in section(page, key)
    assert '--mode=explain' in section(page, 'explanation')
    assert '--mode=prepare' in section(page, 'data')
    assert 'result.json' in section(page, 'scores')
    assert f'{Workdir(copied).result()["test"]["auc"]:.5f}' in section(page, 'scores')


def test_a_saved_model_is_not_told_to_train(copied, tmp_path):
    """Nothing is trained in its folder, which has no scores either."""
    shutil.rmtree(copied / 'scores')
    (copied / 'weights.npz').touch()
    told, page = page_of(copied, tmp_path=tmp_path)
    assert told['left_out'] == ['calibration', 'segments']
    for key in ('scores', *told['left_out']):
        assert 'A saved model has no scores' in section(page, key)
        assert f'--workdir={copied}' not in section(page, key)


def test_a_run_that_has_not_ended(copied, tmp_path):
    for name in ('result.json', 'versions.json'):
        (copied / name).unlink()
    shutil.rmtree(copied / 'scores')
    with open(copied / 'metrics.jsonl', 'a') as file:
        file.write('{"kind": "va')
    told, page = page_of(copied, tmp_path=tmp_path)
    assert 'scores' in told['left_out']
    assert 'training' in told['sections']
    assert 'has not come to its end' in page


def test_scores_of_other_rows_make_no_segments(copied, hostile, tmp_path):
    workdir = Workdir(copied)
    scores = stored_scores.read(workdir, 'test')
    stored_scores.write(workdir, 'test', {**scores, 'label': 1 - scores['label']}, {0: scores['logit']}, 0)
    told, page = page_of(copied, tmp_path=tmp_path, data_dir=hostile.parent / 'data')
    assert 'segments' in told['left_out']
    assert 'other rows' in section(page, 'segments')


def test_several_runs_side_by_side(copied, hostile, tmp_path):
    workdir = Workdir(copied)
    result = workdir.result()
    noise = np.random.default_rng(0).normal(size=500).astype(np.float32)
    scores = stored_scores.read(workdir, 'test')
    stored_scores.write(workdir, 'test', scores, {0: scores['logit'] + noise}, 0)
    for key in ('auc', 'logloss', 'normalized_entropy'):
        result['test'][key] += 0.125
    workdir.finish(result)
    told, page = page_of(hostile, copied, tmp_path=tmp_path, data_dir=hostile.parent / 'data')
    assert told['sections'] == ['side-by-side', 'curves', 'calibrations', *SECTIONS]
    shown = section(page, 'side-by-side')
    assert '+0.12500' in shown
    assert 'different rows' not in shown
    assert 'href="#r2"' in shown
    assert 'id="r2-data"' in page
    # Both curves in one chart.
    assert section(page, 'curves').count('class="series c2"') == 2
    # Headings of the runs' own sections are below their names.
    assert '<h3 id="r1-scores-title"' in page
    levels = [int(tag[1]) for tag, _ in Parsed(page).tags if tag in ('h1', 'h2', 'h3', 'h4', 'h5')]
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_a_curve_is_of_one_seed(hostile, copied):
    """Of several seeds in one folder, that which prediction uses: each has steps of its own."""
    [run] = facts.read([copied], None)
    lines = [line for line in run.history if line['kind'] == 'valid']
    other = [{**line, 'seed': line['seed'] + 1, 'auc': 0.5} for line in lines]
    several = dataclasses.replace(run, history=[*other, *run.history])
    [_, curves, _] = side_by_side.draw([several, dataclasses.replace(run, name='other')])
    # A run without a result has no part that could be compared.
    none = dataclasses.replace(run, name='none', result=None)
    assert [one.there for one in side_by_side.draw([run, none])] == [False, True, False]
    assert 'no part in common' in markup(sections.draw(side_by_side.draw([run, none])[2]))
    page = markup(sections.draw(curves))
    points = [re.findall(r'<circle', group) for group in re.findall(r'<g class="series.*?</g>', page)]
    assert [len(found) for found in points] == [len(lines)] * 4


def test_the_command_that_repeats_a_run_makes_its_config(hostile):
    [run] = facts.read([hostile], None)
    line = commands.repeat(run).replace('\\\n', ' ')
    arguments = shlex.split(line)
    assert arguments[:3] == ['python', '-m', 'dlf_jax.main']
    values = dict(a.removeprefix('--config.').split('=', 1) for a in arguments[3:-1])
    again = api.load_config(model=values.pop('model.name'))
    known = dict(configs.flatten(again))
    typed = {k: v if isinstance(known[k], str) else ast.literal_eval(v) for k, v in values.items()}
    again.update_from_flattened_dict(typed)
    assert again.to_json() == run.config.to_json()


@pytest.mark.parametrize(
    ('folders', 'output', 'error', 'told'),
    [
        ([], '', UsageError, '--workdir'),
        (['run', 'run'], 'a.html', UsageError, 'twice'),
        (['run', 'other'], '', UsageError, '--output=FILE.html'),
        (['run'], 'report.pdf', UsageError, 'report.html'),
        (['run'], 'nowhere/report.html', UserError, 'no folder'),
        (['nothing'], 'a.html', UserError, 'no trained model here'),
    ],
)
def test_mistakes_are_explained(hostile, tmp_path, folders, output, error, told):
    places = [hostile if name == 'run' else tmp_path / name for name in folders]
    with pytest.raises(error, match=told):
        write_report(places, tmp_path / output if output else '')
    assert list(tmp_path.iterdir()) == []


def test_a_broken_file_is_named(copied, tmp_path):
    (copied / 'explain' / 'explain.json').write_text('{')
    with pytest.raises(UserError, match=r'explain\.json: cannot be read'):
        write_report([copied], tmp_path / 'page.html')


def test_an_explanation_of_other_weights_says_so(copied, hostile, tmp_path):
    assert '--mode=explain' not in section(page_of(hostile, tmp_path=tmp_path)[1], 'explanation')
    path = copied / 'explain' / 'explain.json'
    found = json.loads(path.read_text())
    assert found['weights'] == {'seed': 0, 'step': Workdir(copied).result()['best_step']}
    path.write_text(json.dumps({**found, 'weights': {'seed': 0, 'step': 1}}))
    shown = section(page_of(copied, tmp_path=tmp_path)[1], 'explanation')
    assert 'of the weights of seed 0 at step 1.' in shown
    assert '--mode=explain' in shown


def test_pictures_outside_of_the_folder_are_not_read(copied, tmp_path):
    path = copied / 'explain' / 'explain.json'
    found = json.loads(path.read_text())
    found['pictures'] = [{'file': '../../secret.svg', 'title': 'No', 'alt': 'No'}]
    path.write_text(json.dumps(found))
    (tmp_path / 'secret.svg').write_text('<svg/>')
    assert '<img' not in page_of(copied, tmp_path=tmp_path)[1]


def test_the_command(hostile, tmp_path):
    output = tmp_path / 'page.html'
    told = run('--mode=report', f'--workdir={hostile}', f'--output={output}', f'--data_dir={tmp_path}')
    assert told['bytes'] == output.stat().st_size
    # There are no records in that folder.
    assert told['left_out'] == ['segments']


@pytest.mark.slow
def test_on_real_rows_it_takes_less_than_ten_seconds(tmp_path):
    files = {f'dataset.{part}': str(shared_file(f'frappe/{part}.csv')) for part in ('train', 'valid')}
    config = api.load_config(
        'configs/frappe.py', 'lr', overrides={**files, 'dataset.allow_modified': True, 'training.epochs': 1}
    )
    api.train(config, tmp_path / 'run', tmp_path / 'data')
    told, _ = page_of(tmp_path / 'run', tmp_path=tmp_path, data_dir=tmp_path / 'data')
    assert told['left_out'] == ['explanation']
    assert told['seconds'] < 10
