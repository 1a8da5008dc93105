"""One model, one encoding, whatever asks: files, frames, the server by both protocols, exports."""

import json
import pickle

import httpx
import jax.export
import numpy as np
import onnxruntime
import polars as pl
import pytest
import tritonclient.http as triton

import dlf_jax
from dlf_jax.data.readers.frames import FrameTable
from dlf_jax.errors import UserError
from dlf_jax.server.scorer import load
from dlf_jax.serving.encoded_batches import EncodedBatches
from tests.conftest import SMALL_RUN
from tests.server.conftest import SCHEMA, serving, table

# ONNX has no operator for the bytes that are hashed; texts of a file have no lists without a separator.
WITHOUT_HASHES = SCHEMA.replace('hash_buckets = 50\n', '').replace('hash_buckets = 20\n', '')
LISTED = 'pooling = "mean"\nlength = 3'
SCHEMAS = {
    name: text.replace(LISTED, f'separator = ","\n{LISTED}').replace(
        '[columns.user]\nkind = "categorical"', '[columns.user]\nkind = "categorical"\nembedding_size = 2'
    )
    for name, text in {'all': SCHEMA, 'without hashes': WITHOUT_HASHES}.items()
}
# For models that need one, the column is a history in its order.
SCHEMAS |= {
    f'{name}, ordered': text.replace('shares = "item"\n', 'shares = "item"\nordered = true\n')
    for name, text in SCHEMAS.items()
}
ROWS = 1000
# Scores of another order of the same sums: 1e-6, but of models that magnify rounding. DLF's gate divides
# by differences, SAM multiplies fields with each other.
TOLERANCE = {'dlf': 1e-4, 'sam': 1e-5}
# Of a model's fields; tracing and compiling are most of the time.
SMALLER = {'dlf': {'model.layers': 1, 'model.tokens': 4, 'model.rank': 4}}


@pytest.fixture(scope='module')
def rows():
    """1,000 rows that training did not have; some of their values neither, some written in another way."""
    found = table(ROWS, 1)
    number = pl.int_range(ROWS)
    return found.with_columns(
        user=pl.when(number % 17 == 0).then(pl.lit('new')).otherwise('user'),
        item=pl.when(number % 23 == 0).then(pl.lit('NA')).otherwise('item'),
        version=pl.when(number % 5 == 0).then(pl.lit('2.00')).otherwise('version'),
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('parity')
    table(3000, 0).write_parquet(folder / 'train.parquet')
    for name, text in SCHEMAS.items():
        (folder / f'{name}.toml').write_text(text)
    return folder


def trained(folder, name, schema, data_dir):
    """Workdir of a model after one epoch."""
    workdir = folder / f'{name} {schema}'
    keys = {
        **SMALL_RUN, 'dataset.name': 'table', 'dataset.train': str(folder / 'train.parquet'),
        'dataset.schema': str(folder / f'{schema}.toml'), 'optimizer.learning_rate': 0.02,
        'training.epochs': 1, 'training.monitor': 'logloss',
    }  # fmt: skip
    known = dict(dlf_jax.load_config(model=name).model)
    keys = {k: v for k, v in keys.items() if not k.startswith('model.') or k.removeprefix('model.') in known}
    keys |= SMALLER.get(name, {})
    dlf_jax.train(dlf_jax.load_config(model=name, overrides=keys), workdir, data_dir)
    return workdir


def as_text(rows):
    """The rows as a CSV file can hold them."""
    return rows.with_columns(pl.col('tags').list.join(','))


def by_rows_of_json(address, rows):
    """Scores of /v1/score, 400 rows a request."""
    found = []
    for start in range(0, ROWS, 400):
        body = json.dumps({'rows': rows[start : start + 400].to_dicts()})
        answer = httpx.post(f'{address}/v1/score', content=body, timeout=60)
        assert answer.status_code == 200, answer.text
        found += answer.json()['probabilities']
    return np.array(found, np.float32)


def by_tensors_of_json(address, rows):
    """Scores of the Open Inference Protocol, with null for missing values."""
    described = httpx.get(f'{address}/v2/models/model', timeout=60).json()['inputs']
    inputs = [
        {
            'name': one['name'], 'datatype': one['datatype'], 'shape': [ROWS],
            'data': as_tensor(rows, one['name'], one['datatype']).to_list(),
        }
        for one in described
    ]  # fmt: skip
    answer = httpx.post(f'{address}/v2/models/model/infer', json={'inputs': inputs}, timeout=60)
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()['outputs'][0]['data'], np.float32)


def as_tensor(rows, name, datatype):
    """A column as the server's metadata describes it."""
    return as_text(rows)[name].cast(pl.String if datatype == 'BYTES' else pl.Float64)


def by_binary_tensors(address, rows):
    """Scores of the Open Inference Protocol's binary form, by Triton's client."""
    client = triton.InferenceServerClient(address.removeprefix('http://'))
    kinds = {found['name']: found for found in client.get_model_metadata('model')['inputs']}
    inputs = []
    for name, described in kinds.items():
        column = as_tensor(rows, name, described['datatype'])
        missing = '' if described['datatype'] == 'BYTES' else np.nan
        values = column.fill_null(missing).to_numpy()
        inputs.append(triton.InferInput(name, [ROWS], described['datatype']))
        inputs[-1].set_data_from_numpy(values.astype(object) if missing == '' else values)
    output = triton.InferRequestedOutput('probability')
    return client.infer('model', inputs, outputs=[output]).as_numpy('probability')


def by_onnx(path, rows):
    """Scores of ONNX Runtime on raw values."""
    session, inputs = onnxruntime.InferenceSession(path), {}
    for one in session.get_inputs():
        text = one.type == 'tensor(string)'
        column = as_tensor(rows, one.name, 'BYTES' if text else 'FP64').fill_null('' if text else np.nan)
        inputs[one.name] = column.to_numpy().astype(object) if text else column.to_numpy()
    return session.run(['probability'], inputs)[0]


def by_stablehlo(folder, model, rows):
    """Scores of the exported program on the encoder's arrays."""
    encoder = model.encoder
    batches = EncodedBatches(FrameTable(rows), encoder, ROWS, labelled=False)
    ((batch, _),) = batches
    program = jax.export.deserialize(bytearray((folder / 'model.stablehlo').read_bytes()))
    weights = dict(np.load(folder / 'weights.npz'))
    inputs = {name: batch[name] for name in ('categorical', 'numeric', 'bags')}
    return np.asarray(program.call(weights, inputs)['probability'])


def check(name, folder, rows, data_dir, tmp_path, hashes):
    """Asserts that all roads lead to the same probabilities."""
    ordered = dlf_jax.MODELS[name].needs_histories
    schema = ('all' if hashes else 'without hashes') + (', ordered' if ordered else '')
    workdir = trained(folder, name, schema, data_dir)
    model = dlf_jax.load(workdir)
    expected = model.predict(rows)
    assert expected.shape == (ROWS,)
    assert np.isfinite(expected).all()
    as_text(rows).write_csv(tmp_path / 'rows.csv')
    rows.write_parquet(tmp_path / 'rows.parquet')
    model.save(tmp_path / 'saved')
    exact = {
        'csv': model.predict(tmp_path / 'rows.csv'),
        'parquet': model.predict(tmp_path / 'rows.parquet'),
        'pandas': model.predict(rows.to_pandas()),
        'saved': dlf_jax.load(tmp_path / 'saved').predict(rows),
        'pickled': pickle.loads(pickle.dumps(model)).predict(rows),
    }
    for road, found in exact.items():
        np.testing.assert_array_equal(found, expected, err_msg=road)
    with serving(load(workdir, (1, 512)), max_rows=ROWS, max_queue=ROWS) as (address, _):
        close = {
            'rows of JSON': by_rows_of_json(address, rows),
            'tensors of JSON': by_tensors_of_json(address, rows),
            'binary tensors': by_binary_tensors(address, rows),
        }
    model.export(tmp_path / 'stablehlo', 'stablehlo')
    close['stablehlo'] = by_stablehlo(tmp_path / 'stablehlo', model, rows)
    if ordered and not hashes:
        with pytest.raises(UserError, match=r"field 'history' is ordered.*--config.export.inputs=ids"):
            model.export(tmp_path / 'onnx')
    elif not hashes:
        model.export(tmp_path / 'onnx')
        close['onnx'] = by_onnx(tmp_path / 'onnx' / 'model.onnx', rows)
    for road, found in close.items():
        tolerance = TOLERANCE.get(name, 1e-6)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=road)


@pytest.mark.parametrize(('name', 'hashes'), [('fm', False)])
def test_all_roads_give_the_same_probabilities(name, hashes, folder, rows, data_dir, tmp_path):
    check(name, folder, rows, data_dir, tmp_path, hashes)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize('hashes', [False, True])
@pytest.mark.parametrize('name', sorted(dlf_jax.MODELS))
def test_all_roads_of_all_models(name, hashes, folder, rows, data_dir, tmp_path):
    check(name, folder, rows, data_dir, tmp_path, hashes)
