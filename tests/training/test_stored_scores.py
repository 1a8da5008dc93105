"""Stored scores: what training leaves of its best step, and what is said where there are none."""

import json
import shutil

import numpy as np
import pytest

import dlf_jax
from dlf_jax.errors import UsageError, UserError
from dlf_jax.training import metrics, stored_scores
from dlf_jax.training.evaluation import summary
from dlf_jax.workdir import Workdir


def test_a_finished_run_has_the_scores_that_its_result_is_made_of(trained):
    workdir = Workdir(trained)
    assert stored_scores.parts(workdir) == ['valid', 'test']
    wanted = metrics.selected(workdir.config())
    for part in ('valid', 'test'):
        found = stored_scores.read(workdir, part)
        assert {name: values.dtype.name for name, values in found.items()} == dict.fromkeys(
            ('logit', 'label', 'weight'), 'float32'
        )
        assert summary(found, wanted) == workdir.result()[part]
    assert stored_scores.weights_of(workdir) == (workdir.result()['seed'], workdir.result()['best_step'])


def test_rows_are_in_file_order(trained):
    """The test part is the last tenth of the file, and its scores are those of prediction."""
    workdir = Workdir(trained)
    lines = (trained.parent / 'train.csv').read_text().splitlines()
    last = trained.parent / 'last.csv'
    last.write_text('\n'.join([lines[0], *lines[1801:]]) + '\n')
    found = stored_scores.read(workdir, 'test')
    assert found['label'].tolist() == [int(line[0]) for line in lines[1801:]]
    probability = dlf_jax.load(trained).predict(str(last))
    np.testing.assert_allclose(1 / (1 + np.exp(-found['logit'].astype(float))), probability, atol=1e-6)


def test_several_seeds_have_a_column_each(tmp_path):
    workdir, draw = Workdir(tmp_path), np.random.default_rng(0)
    logits = {seed: draw.normal(size=9).astype(np.float32) for seed in (3, 4, 5)}
    scores = {'label': np.ones(9, np.float32), 'weight': np.full(9, 0.5, np.float32), 'group': np.arange(9)}
    stored_scores.write(workdir, 'valid', scores, logits, 4, {3: 30, 4: 40, 5: 50})
    workdir.finish({'seed': 4, 'best_step': 1})
    for seed, own in (*logits.items(), (None, logits[4])):
        found = stored_scores.read(workdir, 'valid', seed)
        np.testing.assert_array_equal(found.pop('logit'), own)
        assert {name: values.tolist() for name, values in found.items()} == {
            name: values.tolist() for name, values in scores.items()
        }
        assert found['group'].dtype == np.int64
    assert stored_scores.weights_of(workdir) == (4, 40)
    assert stored_scores.weights_of(workdir, 5) == (5, 50)
    with pytest.raises(UsageError, match='no run of seed 6; there are 4, 3, 5'):
        stored_scores.read(workdir, 'valid', 6)
    assert [path.name for path in workdir.scores.iterdir()] == ['valid.parquet']


def test_scores_of_a_run_that_goes_on_are_not_those_of_its_end(trained, tmp_path):
    workdir = Workdir(tmp_path / 'run')
    shutil.copytree(trained, workdir.path)
    assert stored_scores.parts(workdir) == ['valid', 'test']
    # As where it is made longer.
    (workdir.path / 'result.json').unlink()
    assert stored_scores.parts(workdir) == []
    for ask in (
        lambda: stored_scores.read(workdir, 'valid'),
        lambda: dlf_jax.compare_runs(workdir.path, trained),
        lambda: dlf_jax.calibrate(workdir.path, options={'calibration.method': 'platt'}),
    ):
        with pytest.raises(UserError, match='no finished run here'):
            ask()


def test_the_step_of_scores_of_an_earlier_version_is_the_result_s(trained, tmp_path):
    workdir = Workdir(tmp_path / 'run')
    shutil.copytree(trained, workdir.path)
    expected = stored_scores.weights_of(workdir)
    scores = stored_scores.read(workdir, 'valid')
    stored_scores.write(workdir, 'valid', scores, {expected[0]: scores['logit']}, expected[0])
    assert stored_scores.weights_of(workdir) == expected
    result = workdir.result()
    workdir.finish({name: result[name] for name in result if name != 'best_step'})
    with pytest.raises(UserError, match='not those of the weights of a step'):
        stored_scores.weights_of(workdir)


def test_what_to_do_where_there_are_none(trained, tmp_path, data_dir):
    with pytest.raises(UserError, match='no finished run here'):
        stored_scores.read(Workdir(tmp_path), 'valid')
    dlf_jax.load(trained).save(tmp_path / 'saved')
    assert not (tmp_path / 'saved' / 'scores').exists()
    with pytest.raises(UserError, match='a saved model has no stored scores'):
        stored_scores.read(Workdir(tmp_path / 'saved'), 'valid')
    older = tmp_path / 'older'
    shutil.copytree(trained, older)
    (older / 'scores' / 'test.parquet').unlink()
    with pytest.raises(UserError, match='its data has no test part'):
        stored_scores.read(Workdir(older), 'test')
    (older / 'scores' / 'valid.parquet').write_bytes(b'PAR1')
    with pytest.raises(UserError, match=r'valid\.parquet: cannot be read'):
        stored_scores.read(Workdir(older), 'valid')
    shutil.rmtree(older / 'scores')
    with pytest.raises(UserError, match=r'remove .*result\.json and train again') as error:
        stored_scores.read(Workdir(older), 'valid')
    # As it says, and with the same bits.
    before = json.loads((older / 'result.json').read_text())
    assert str(older / 'result.json') in str(error.value)
    (older / 'result.json').unlink()
    config = Workdir(older).config()
    again = dlf_jax.train(config, older, data_dir)
    assert {**again, 'seconds': 0} == {**before, 'seconds': 0}
    np.testing.assert_array_equal(
        stored_scores.read(Workdir(older), 'valid')['logit'],
        stored_scores.read(Workdir(trained), 'valid')['logit'],
    )
