"""The folder of an export: what is in it, how it is replaced, what is refused."""

import hashlib
import json
import sys

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest

import dlf_jax
from dlf_jax import config as configs
from dlf_jax.data.schema import Schema, text_field
from dlf_jax.errors import UsageError, UserError
from dlf_jax.exporting import export_model, onnx_file, onnx_raw, stablehlo, verification
from dlf_jax.serving.predict import Predictor
from dlf_jax.workdir import Workdir
from tests.conftest import fail, run, write_table
from tests.exporting import fitted, untrained

OWN = '''
import jax.numpy as jnp
from dlf_jax.models import CTRModel

class Own(CTRModel):
    """Reads lists, numbers and embeddings."""

    embedding_size: int = 4
    wants_inputs = True

    def logits(self, embeddings, mode, inputs):
        bag = inputs.bag('tags', 'history')
        history = jnp.where(bag.mask[..., None], bag.embeddings['embedding'], 0).sum(1)
        return (embeddings['embedding'][:, 0] * history).sum(1) * 9 + jnp.tanh(inputs.numeric).sum(1)

class Odd(CTRModel):
    """Solves."""

    embedding_size: int = 4

    def logits(self, embeddings, mode):
        return jnp.linalg.qr(embeddings['embedding'])[0][:, 0, 0]
'''


def export(target, model='lr', encoder=None, **keys):
    keys = {key.replace('_', '.', 1): value for key, value in keys.items()}
    predictor = untrained.predictor(encoder or fitted.small_encoder(), model, **keys)
    return export_model.export_model(predictor, target, predictor.config)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """An export of raw values."""
    target = tmp_path_factory.mktemp('exported') / 'model'
    export(target, 'fm', fitted.encoder())
    return target


def read(folder, name):
    return json.loads((folder / name).read_text())


def self_test(folder):
    """Runs an export's self test as a consumer would who has nothing but the folder; the worst difference."""
    test, manifest = read(folder, 'self_test.json'), read(folder, 'manifest.json')
    inputs = {}
    for tensor in manifest['tensors']['inputs']:
        values = test['inputs'][tensor['name']]
        if tensor['dtype'].startswith('float'):
            values = [[np.nan if x is None else x for x in np.atleast_1d(row)] for row in values]
            values = np.array(values, tensor['dtype']).reshape(len(values), *tensor['shape'][1:])
        inputs[tensor['name']] = np.array(values, object if tensor['dtype'] == 'string' else tensor['dtype'])
        assert inputs[tensor['name']].ndim == len(tensor['shape'])
    if manifest['format'] == 'onnx':
        session = onnxruntime.InferenceSession(folder / 'model.onnx')
        (found,) = session.run(['probability'], inputs)
    else:
        found = stablehlo.Runtime(folder)(inputs)['probability']
    return np.abs(found - test['probability']).max()


def test_the_manifest_says_what_a_consumer_needs(folder):
    manifest = read(folder, 'manifest.json')
    assert (manifest['kind'], manifest['version']) == ('dlf_jax export', 2)
    assert (manifest['format'], manifest['inputs'], manifest['model']) == ('onnx', 'raw', 'fm')
    assert manifest['made_with']['dlf_jax'] == dlf_jax.__version__
    assert manifest['verified']['rows'] == 1000
    assert 0 <= manifest['verified']['largest_difference'] <= manifest['verified']['limit'] == 1e-5
    assert {path.name for path in folder.iterdir()} == {*manifest['files'], 'manifest.json'}
    for name, facts in manifest['files'].items():
        data = (folder / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (facts['bytes'], facts['sha256'])
    # The file agrees with what is said of it.
    model = onnx.load(folder / 'model.onnx')
    assert {opset.domain or 'ai.onnx': opset.version for opset in model.opset_import} == manifest['opsets']
    inputs = {tensor['name']: tensor for tensor in manifest['tensors']['inputs']}
    assert [tensor.name for tensor in model.graph.input] == list(inputs)
    assert inputs['user'] == {'name': 'user', 'dtype': 'string', 'shape': ['batch'], 'missing': ''}
    assert inputs['own'] == {'name': 'own', 'dtype': 'float64', 'shape': ['batch'], 'missing': 'NaN'}
    assert inputs['tags']['separator'] == '|'
    assert inputs['items']['shape'] == ['batch', 'elements']
    assert 'UTC' in inputs['day']['written']
    assert [tensor.name for tensor in model.graph.output] == ['logit', 'probability']
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == 'batch'


def test_the_self_test_runs_without_the_package(folder):
    assert self_test(folder) < 1e-5
    rows = read(folder, 'self_test.json')['rows']
    assert any(row['user'] is None for row in rows)
    assert any(str(row['user']).startswith('a text that no') for row in rows)


@pytest.mark.parametrize('kind', ['onnx', 'stablehlo'])
def test_the_self_test_of_ids(tmp_path, kind):
    export(tmp_path / 'model', export_format=kind, export_inputs='ids')
    assert self_test(tmp_path / 'model') < 1e-5
    assert {tensor['name'] for tensor in read(tmp_path / 'model', 'manifest.json')['tensors']['inputs']} == {
        'categorical', 'numeric', 'bags'
    }  # fmt: skip


def test_large_tables_lie_beside_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, 'LARGEST', 5_000)
    monkeypatch.setattr(onnx_file, '_SMALL', 100)
    result = export(tmp_path / 'model', 'fm')
    assert result['files']['model.onnx.data'] > 0
    assert self_test(tmp_path / 'model') < 1e-5


def test_an_export_replaces_one_and_nothing_else(tmp_path):
    target = tmp_path / 'model'
    # What a run that was killed left behind.
    (tmp_path / '.model.tmp').mkdir()
    (tmp_path / '.model.tmp' / 'half.onnx').write_text('half')
    export(target, export_format='stablehlo')
    assert 'weights.npz' in {path.name for path in target.iterdir()}
    export(target, export_inputs='ids')
    names = {path.name for path in target.iterdir()}
    assert names == {'model.onnx', 'manifest.json', 'self_test.json', 'encoder'}
    assert {path.name for path in tmp_path.iterdir()} == {'model'}
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'manifest.json').write_text('{"kind": "mine"}')
    with pytest.raises(UserError, match=r'mine: there is something else there'):
        export(tmp_path / 'mine')
    assert (tmp_path / 'mine' / 'manifest.json').read_text() == '{"kind": "mine"}'
    with pytest.raises(UserError, match='there is no folder'):
        export(tmp_path / 'none' / 'model')


def test_what_lies_beside_an_export_is_kept(tmp_path):
    export(tmp_path / 'model')
    (tmp_path / 'model' / 'run').mkdir()
    with pytest.raises(UserError, match=r"'run' is no part of the export there, and would be lost"):
        export(tmp_path / 'model')
    assert (tmp_path / 'model' / 'run').is_dir()


def test_other_answers_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    answers = Predictor.probabilities
    monkeypatch.setattr(Predictor, 'probabilities', lambda *a, **o: answers(*a, **o) + np.float32(2e-5))
    with pytest.raises(UserError, match='1e-05 is the most that they may differ; nothing is exported'):
        export(tmp_path / 'model')
    assert not list(tmp_path.iterdir())


def test_a_killed_export_leaves_the_one_before(tmp_path, monkeypatch):
    export(tmp_path / 'model')
    before = (tmp_path / 'model' / 'manifest.json').read_bytes()

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(verification, 'largest_difference', killed)
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path / 'model', 'fm')
    assert {path.name for path in tmp_path.iterdir()} == {'model'}
    assert (tmp_path / 'model' / 'manifest.json').read_bytes() == before


def test_hashes_of_texts_are_refused_by_the_fields_name(tmp_path):
    schema = Schema((text_field('user'), text_field('site', hash_buckets=50, size=52)), 'click')
    encoder = dlf_jax.data.preprocess.encoder.Encoder(
        Schema((schema.fields[1],), 'click'), {}, {}, {}
    )  # fmt: skip
    with pytest.raises(UserError, match=r"field 'site' has hashes .*hash_buckets=50.*inputs=ids"):
        export(tmp_path / 'model', encoder=encoder)
    export(tmp_path / 'model', encoder=encoder, export_inputs='ids')
    assert self_test(tmp_path / 'model') < 1e-5


def test_vocabularies_beyond_a_file_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_raw, 'VOCABULARY_BYTES', 100)
    with pytest.raises(
        UserError, match=r"the vocabularies take .* the largest is that of field 'user'.*inputs=ids"
    ):
        export(tmp_path / 'model')


def test_a_missing_package_is_told_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(UserError, match=r'needs the package onnxruntime: pip install "dlf_jax\[onnx\]"'):
        export(tmp_path / 'model')
    assert not list(tmp_path.iterdir())


def test_models_of_ones_own(tmp_path):
    (tmp_path / 'own.py').write_text(OWN)
    export(tmp_path / 'model', f'{tmp_path}/own.py:Own')
    assert self_test(tmp_path / 'model') < 1e-5
    with pytest.raises(
        UserError, match=r"model .*own\.py:Odd computes with the JAX primitive '.*format=stablehlo"
    ):
        export(tmp_path / 'odd', f'{tmp_path}/own.py:Odd')


def test_the_command(trained, tmp_path):
    """From a workdir to ONNX Runtime, on a file of rows, beside `predict`."""
    result = run('--mode=export', f'--workdir={trained}', f'--output={tmp_path / "model"}')
    assert (result['format'], result['inputs']) == ('onnx', 'raw')
    rows = pl.read_csv(write_table(tmp_path / 'new.csv', 100, seed=5))
    dlf_jax.predict(trained, str(tmp_path / 'new.csv'), str(tmp_path / 'scores.parquet'))
    session = onnxruntime.InferenceSession(tmp_path / 'model' / 'model.onnx')
    inputs = {
        'user': rows['user'].to_numpy().astype(object), 'ad': rows['ad'].to_numpy().astype(object),
        'price': rows['price'].to_numpy(),
    }  # fmt: skip
    wanted = pl.read_parquet(tmp_path / 'scores.parquet')['probability'].to_numpy()
    assert wanted.std() > 1e-3
    np.testing.assert_allclose(session.run(['probability'], inputs)[0], wanted, atol=1e-6)
    told = fail(
        '--mode=export', f'--workdir={trained}', f'--output={tmp_path / "m"}', '--config.seed=3', code=2
    )  # fmt: skip
    assert '--config.export.* and --config.predict.* keys' in told


def test_options_are_checked(trained, tmp_path):
    for options, told in (
        ({'export.format': 'onx'}, "config.export.format='onx': no such choice; did you mean 'onnx'"),
        (
            {'export.inputs': 'raw', 'export.format': 'stablehlo'},
            "config.export.inputs='raw': expected 'ids'",
        ),
        ({'export.form': 'onnx'}, "config.export.form: there is no such key; did you mean 'export.format'"),
        ({'predict.seed': 7}, 'config.predict.seed=7: no such run'),
    ):
        with pytest.raises(UsageError, match=told):
            dlf_jax.export(trained, tmp_path / 'model', options)
    assert not list(tmp_path.iterdir())


def test_an_export_asks_for_no_other_run(trained):
    workdir = Workdir(trained)
    config = workdir.config()
    config.export.format = 'stablehlo'
    assert workdir.finished(config) == workdir.result()


def test_what_was_trained_in_bfloat16_is_exported_in_float32():
    config = configs.get_config('dlf')
    config.precision, config.model.attention_kernel = 'bfloat16', 'mosaic_gpu'
    found = export_model.exact(config)
    assert (found.precision, found.model.attention_kernel) == ('float32', 'plain')
    assert (config.precision, config.model.attention_kernel) == ('bfloat16', 'mosaic_gpu')
