"""Models that the server reads: exports beside workdirs, and what is refused."""

import json
import shutil

import jax
import numpy as np
import pytest

from dlf_jax.errors import UsageError, UserError
from dlf_jax.exporting import stablehlo
from dlf_jax.server.scorer import load
from dlf_jax.server.watcher import Watcher

SIZES = (1, 32)


@pytest.fixture(scope='module')
def exported(model, tmp_path_factory):
    """Folder of exports that take ids, by format."""
    folder = tmp_path_factory.mktemp('exported')
    for kind in ('onnx', 'stablehlo'):
        model.export(folder / kind, kind, 'ids')
    return folder


@pytest.mark.parametrize('kind', ['onnx', 'stablehlo'])
def test_an_export_scores_as_its_model(exported, model, scorer, frame, kind):
    served = load(exported / kind, SIZES)
    rows = served.reader.rows(frame.drop('click').to_dicts())
    found = served.score(rows)
    np.testing.assert_allclose(found.probabilities, model.predict(frame), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.unknown, scorer.score(rows).unknown)
    # The step of the weights, and a name of its own.
    assert served.version.partition('-')[0] == scorer.version.partition('-')[0]
    assert served.version != scorer.version


def test_a_program_is_compiled_once_and_its_weights_stay_on_the_device(exported):
    runtime = stablehlo.Runtime(exported / 'stablehlo')
    facts = json.loads((exported / 'stablehlo' / 'manifest.json').read_text())
    test = json.loads((exported / 'stablehlo' / 'self_test.json').read_text())
    inputs = {
        one['name']: np.array(test['inputs'][one['name']], one['dtype']) for one in facts['tensors']['inputs']
    }
    for _ in range(2):
        found = runtime(inputs)['probability']
    np.testing.assert_allclose(found, test['probability'], rtol=0, atol=test['tolerance'])
    assert runtime._call._cache_size() == 1
    assert all(isinstance(weight, jax.Array) for weight in runtime._weights.values())


def test_a_new_export_takes_over(exported, tmp_path):
    shutil.copytree(exported / 'onnx', tmp_path / 'served')
    current = load(tmp_path / 'served', SIZES)
    swapped = []
    watcher = Watcher(tmp_path / 'served', lambda: current, swapped.append)
    watcher.note()
    watcher.look()
    assert not swapped
    shutil.rmtree(tmp_path / 'served')
    shutil.copytree(exported / 'stablehlo', tmp_path / 'served')
    watcher.look()
    (new,) = swapped
    assert new.version != current.version


def test_what_cannot_be_served_is_said(exported, model, tmp_path):
    model.export(tmp_path / 'raw', 'onnx', 'ids')
    manifest = tmp_path / 'raw' / 'manifest.json'
    facts = json.loads(manifest.read_text())
    for changed, told in (
        ({'inputs': 'raw'}, 'as onnx of raw inputs, which runs without this package'),
        ({'format': 'saved_model'}, 'as saved_model of ids inputs'),
        ({'dataset': None}, "code of one's own"),
        ({'version': 1}, 'expected version 2, found 1; export again'),
    ):
        manifest.write_text(json.dumps(facts | changed))
        with pytest.raises(UserError, match=told):
            load(tmp_path / 'raw', SIZES)
    with pytest.raises(UsageError, match=r'--seed=1: .*is an export'):
        load(exported / 'onnx', SIZES, seed=1)


def test_a_damaged_export_is_named(exported, tmp_path):
    shutil.copytree(exported / 'stablehlo', tmp_path / 'model')
    for name in ('weights.npz', 'encoder/vocabulary.parquet'):
        whole = (tmp_path / 'model' / name).read_bytes()
        (tmp_path / 'model' / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(UserError, match=f'{name}: is not the file that was exported'):
            load(tmp_path / 'model', SIZES)
        (tmp_path / 'model' / name).write_bytes(whole)
