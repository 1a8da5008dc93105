"""A calibrated model: the same probabilities from prediction, copies, the server and every export."""

import json
import pickle
import shutil

import numpy as np
import polars as pl
import pytest

import dlf_jax
from dlf_jax.data import builders
from dlf_jax.data.readers import columns
from dlf_jax.errors import UsageError, UserError
from dlf_jax.exporting import onnx_file, raw_values, stablehlo
from dlf_jax.server.scorer import load
from dlf_jax.server.watcher import Watcher
from dlf_jax.training import stored_scores
from dlf_jax.training.probability_metrics import expected_calibration_error
from dlf_jax.workdir import Workdir
from tests.conftest import SMALL_RUN, config_of, run, table_flags, write_table

# Every method, and every format of an export.
WAYS = [
    ('none', 'onnx', 'ids'), ('temperature', 'stablehlo', 'ids'), ('platt', 'onnx', 'raw'),
    ('isotonic', 'onnx', 'raw'),
]  # fmt: skip


@pytest.fixture(scope='module')
def trained(tmp_path_factory, data_dir):
    """A run that has learnt something."""
    folder = tmp_path_factory.mktemp('learnt')
    table = write_table(folder / 'train.csv', 2000)
    config = config_of(*table_flags(table), '--config.optimizer.learning_rate=0.05')
    dlf_jax.train(config, folder / 'run', data_dir)
    return folder / 'run'


@pytest.fixture(scope='module')
def finished(trained, tmp_path_factory):
    """A copy of the run, which may be written to."""
    folder = tmp_path_factory.mktemp('calibrated') / 'run'
    shutil.copytree(trained, folder)
    return folder


@pytest.fixture(scope='module')
def rows(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp('rows') / 'rows.csv', 400, seed=5)


@pytest.mark.parametrize(('method', 'kind', 'inputs'), WAYS)
def test_all_that_score_give_the_same_probabilities(finished, rows, tmp_path, method, kind, inputs):
    keys = {'calibration.method': method, 'calibration.negatives_kept': 0.3}
    told = dlf_jax.calibrate(finished, options=keys)
    assert (told['method'], told['fitted_to']) == (method, 'the validation part')
    model, frame = dlf_jax.load(finished), pl.read_csv(rows)
    plain = dlf_jax.load(finished)
    plain._predictor.calibrator = None
    expected = model.predict(frame)
    assert np.abs(expected - plain.predict(frame)).max() > 0.02
    assert np.all(np.diff(expected[np.argsort(plain.predict(frame), kind='stable')]) >= 0)

    model.save(tmp_path / 'saved')
    for copy in (dlf_jax.load(tmp_path / 'saved'), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copy.predict(frame), expected)
    model.write_predictions(frame, tmp_path / 'scores.parquet')
    written = pl.read_parquet(tmp_path / 'scores.parquet')['probability'].to_numpy()
    np.testing.assert_allclose(written, expected, rtol=0, atol=1e-7)

    scorer = load(tmp_path / 'saved', (400,))
    served = scorer.score(scorer.reader.rows(frame.drop('click').to_dicts())).probabilities
    np.testing.assert_allclose(served, expected, rtol=0, atol=1e-6)

    model.export(tmp_path / 'exported', kind, inputs)
    manifest = json.loads((tmp_path / 'exported' / 'manifest.json').read_text())
    assert (manifest['calibration']['method'], manifest['calibration']['negatives_kept']) == (method, 0.3)
    exported = (onnx_file if kind == 'onnx' else stablehlo).Runtime(tmp_path / 'exported')
    wanted = columns.columns_of(model.schema, labelled=False)
    (chunk,) = model._predictor.open(frame, labelled=False).chunks(wanted)
    ids, _ = model.encoder.transform(chunk)
    found = exported(raw_values.tensors(model.schema, chunk.frame) if inputs == 'raw' else ids)
    np.testing.assert_allclose(found['probability'], expected, rtol=0, atol=1e-6)
    # The logit is the model's own.
    np.testing.assert_allclose(1 / (1 + np.exp(-found['logit'])), plain.predict(frame), rtol=0, atol=1e-6)


def test_evaluation_tells_before_and_after(finished, rows):
    before = dlf_jax.load(finished)
    before._predictor.calibrator = None
    before = before.evaluate(str(rows))
    dlf_jax.calibrate(finished, str(rows), {'calibration.method': 'platt'})
    found = dlf_jax.load(finished).evaluate(str(rows))
    assert 'before_calibration' not in before
    assert found['before_calibration'] == {
        name: before[name] for name in before if name not in ('rows', 'out_of_vocabulary')
    }
    assert found['auc'] == before['auc']
    assert found['logloss'] < before['logloss']
    # Platt's line makes the mean right on the rows that it is fitted to.
    assert found['calibration_ratio'] == pytest.approx(1, abs=1e-4)
    there = json.loads((finished / 'calibration.json').read_text())
    assert there['fitted']['fitted_to'].endswith('rows.csv')
    assert there['fitted']['before']['logloss'] == before['logloss']
    assert there['fitted']['after']['logloss'] == found['logloss']


def test_training_fits_what_the_config_asks_for(trained, finished, data_dir):
    """Of a run that is finished, too; killed before the calibrator, it is fitted the next time."""
    config = Workdir(finished).config()
    config.calibration.method = 'temperature'
    (finished / 'calibration.json').unlink(missing_ok=True)
    result = dlf_jax.train(config, finished, data_dir)
    plain = json.loads((trained / 'result.json').read_text())
    assert {name: result[name] for name in plain} == plain
    found = result['calibration']
    assert found['method'] == 'temperature'
    assert found['before']['logloss'] == plain['valid']['logloss']
    assert found['after']['logloss'] < found['before']['logloss']
    assert found['test']['auc'] == plain['test']['auc']
    assert json.loads((finished / 'result.json').read_text()) == result
    kept = (finished / 'calibration.json').read_bytes()
    assert dlf_jax.train(config, finished, data_dir) == result
    assert (finished / 'calibration.json').read_bytes() == kept
    config.calibration.method = 'isotonic'
    assert dlf_jax.train(config, finished, data_dir)['calibration']['method'] == 'isotonic'


def test_what_is_fitted_in_one_call_is_calibrated(rows):
    keys = {**SMALL_RUN, 'optimizer.learning_rate': 0.05, 'calibration.method': 'platt'}
    model = dlf_jax.fit(pl.read_csv(rows), label='click', model='mlp', **keys)
    found = model.result['calibration']
    assert (found['method'], found['rows']) == ('platt', model.result['valid']['rows'])
    told = model.evaluate(str(rows))
    assert told['auc'] == told['before_calibration']['auc']
    assert told['logloss'] != told['before_calibration']['logloss']


def test_a_calibrator_of_other_weights_is_not_applied(finished, rows, caplog):
    dlf_jax.calibrate(finished, options={'calibration.method': 'platt'})
    path = finished / 'calibration.json'
    there = json.loads(path.read_text())
    path.write_text(json.dumps({**there, 'step': there['step'] + 1}))
    model = dlf_jax.load(finished)
    assert 'probabilities are not calibrated; --mode=calibrate makes it anew' in caplog.text
    assert 'before_calibration' not in model.evaluate(str(rows))
    assert 'calibration.json' not in model._files
    path.write_text('{')
    with pytest.raises(UserError, match=r'calibration\.json: cannot be read as a calibrator'):
        dlf_jax.load(finished)
    # As it says.
    dlf_jax.calibrate(finished, str(rows), {'calibration.method': 'platt'})
    assert 'before_calibration' in dlf_jax.load(finished).evaluate(str(rows))


def test_what_cannot_be_fitted_leaves_what_was_there(finished, tmp_path):
    dlf_jax.calibrate(finished, options={'calibration.method': 'platt'})
    before = (finished / 'calibration.json').read_bytes()
    (tmp_path / 'one.csv').write_text('click,user,ad,price\n1,u1,a1,0.5\n1,u2,a1,0.1\n')
    with pytest.raises(UserError, match='have none without'):
        dlf_jax.calibrate(finished, str(tmp_path / 'one.csv'), {'calibration.method': 'platt'})
    with pytest.raises(UsageError, match=r"config\.calibration\.method='plat'"):
        dlf_jax.calibrate(finished, options={'calibration.method': 'plat'})
    with pytest.raises(UsageError, match=r'config\.seed: there is no such key'):
        dlf_jax.calibrate(finished, options={'seed': 1})
    assert (finished / 'calibration.json').read_bytes() == before
    assert dlf_jax.calibrate(finished, options={'calibration.method': 'none'})['method'] == 'none'
    assert not (finished / 'calibration.json').exists()


def test_a_part_that_determines_nothing_ends_training_without_a_calibrator(finished, data_dir, caplog):
    workdir = Workdir(finished)
    shutil.copytree(workdir.scores, kept := finished.parent / 'scores')
    scores = stored_scores.read(workdir, 'valid')
    seed = stored_scores.seed_of(workdir)
    stored_scores.write(workdir, 'valid', scores, {seed: -scores['logit']}, seed)
    config = workdir.config()
    config.calibration.method = 'platt'
    dlf_jax.train(config, finished, data_dir)
    assert 'WARNING: no calibrator: ' in caplog.text
    assert not workdir.calibration.exists()
    shutil.copytree(kept, workdir.scores, dirs_exist_ok=True)


def test_the_correction_for_left_out_rows_needs_no_calibrator(trained, rows, tmp_path, data_dir, caplog):
    """By itself where the validation part determines none, where none is there, and for other weights."""
    workdir, plain = Workdir(tmp_path / 'run'), dlf_jax.load(trained).predict(str(rows))
    expected = plain / (plain + (1 - plain) / 0.1)
    shutil.copytree(trained, workdir.path)
    config = workdir.config()
    config.calibration.update(method='platt', negatives_kept=0.1)
    (workdir.path / 'config.json').write_text(config.to_json())

    def scored():
        caplog.clear()
        return dlf_jax.load(workdir.path).predict(str(rows))

    np.testing.assert_allclose(scored(), expected, rtol=0, atol=1e-6)
    assert 'only corrected for the rows without a click' in caplog.text
    assert 'not calibrated by platt' in caplog.text
    scores, seed = stored_scores.read(workdir, 'valid'), stored_scores.seed_of(workdir)
    stored_scores.write(workdir, 'valid', scores, {seed: -scores['logit']}, seed)
    found = dlf_jax.train(config, workdir.path, data_dir)['calibration']
    assert (found['method'], found['negatives_kept']) == ('none', 0.1)
    assert 'WARNING: no calibrator but the correction' in caplog.text
    np.testing.assert_allclose(scored(), expected, rtol=0, atol=1e-6)
    assert not caplog.text
    there = json.loads(workdir.calibration.read_text())
    workdir.calibration.write_text(json.dumps({**there, 'step': there['step'] + 1, 'slope': 9.0}))
    np.testing.assert_allclose(scored(), expected, rtol=0, atol=1e-6)
    assert 'only corrected for the rows without a click' in caplog.text
    scorer, frame = load(workdir.path, (400,)), pl.read_csv(rows).drop('click')
    served = scorer.score(scorer.reader.rows(frame.to_dicts())).probabilities
    np.testing.assert_allclose(served, expected, rtol=0, atol=1e-6)
    # Asked for nothing, there is nothing.
    dlf_jax.calibrate(workdir.path, options={'calibration.method': 'none', 'calibration.negatives_kept': 1.0})
    np.testing.assert_allclose(scored(), plain, rtol=0, atol=1e-6)


def test_the_server_takes_a_changed_calibrator(finished):
    (finished / 'calibration.json').unlink(missing_ok=True)
    scorer = [load(finished, (1,))]
    watcher = Watcher(finished, lambda: scorer[-1], scorer.append, seconds=0.05)
    watcher.note()
    dlf_jax.calibrate(finished, options={'calibration.method': 'platt'})
    watcher.look()
    assert len(scorer) == 2
    assert scorer[0].version != scorer[1].version
    dlf_jax.calibrate(finished, options={'calibration.method': 'platt'})
    watcher.look()
    # The same again is no new version.
    assert len(scorer) == 2


def test_the_command(finished):
    told = run('--mode=calibrate', f'--workdir={finished}', '--config.calibration.method=isotonic')
    assert told['method'] == 'isotonic'
    assert told['knots'] > 2
    assert told['after']['ece'] < told['before']['ece']


@pytest.mark.slow
def test_on_rows_of_known_probability_the_error_is_that_of_the_truth(tmp_path, capsys):
    """`pytest tests/test_calibration.py -m slow -s` tells the numbers."""
    keys = {
        'dataset.rows': 400_000, 'training.epochs': 2, 'plateau.patience': 9,
        'optimizer.learning_rate': 3e-3, 'calibration.method': 'isotonic',
    }  # fmt: skip
    config = dlf_jax.load_config('configs/synthetic.py', 'mlp', overrides=keys)
    result = dlf_jax.train(config, tmp_path / 'run', tmp_path / 'data')
    builder = builders.build(config.dataset, tmp_path / 'data')
    builder.prepare()
    truth = builder.true_probabilities('test')
    logits, draw = np.log(truth) - np.log1p(-truth), np.random.default_rng(0)
    own = [expected_calibration_error(draw.random(len(truth)) < truth, logits) for _ in range(200)]
    before, after = result['test']['ece'], result['calibration']['test']['ece']
    noise = np.std(own)
    with capsys.disabled():
        print(f'ece before {before:.4f}, after {after:.4f}; the truth {np.mean(own):.4f} +- {noise:.4f}')
    assert before > np.mean(own) + 4 * noise
    assert after < np.mean(own) + 3 * noise
    assert result['calibration']['test']['logloss'] < result['test']['logloss']
