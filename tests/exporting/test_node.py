"""A consumer without Python: the self test of an export in ONNX Runtime for Node."""

import json
import os
import shutil
import subprocess

import pytest

from dlf_jax.exporting import export_model
from tests.exporting import fitted, untrained

SCRIPT = """
const ort = require('onnxruntime-node');
const fs = require('fs');
const [folder] = process.argv.slice(2);
const read = name => JSON.parse(fs.readFileSync(`${folder}/${name}`));
const arrays = { float64: Float64Array, float32: Float32Array, int32: Int32Array };
async function main() {
  const test = read('self_test.json'), feeds = {};
  for (const { name, dtype, shape } of read('manifest.json').tensors.inputs) {
    const rows = test.inputs[name];
    const values = rows.flat().map(value => value === null ? NaN : value);
    const data = dtype === 'string' ? values : arrays[dtype].from(values);
    const width = shape.length === 1 ? [] : [rows[0].length];
    feeds[name] = new ort.Tensor(dtype, data, [rows.length, ...width]);
  }
  const session = await ort.InferenceSession.create(`${folder}/model.onnx`);
  const { probability } = await session.run(feeds);
  console.log(JSON.stringify(Array.from(probability.data)));
}
main();
"""


@pytest.fixture(scope='module')
def node(tmp_path_factory):
    """A folder with ONNX Runtime for Node."""
    folder = tmp_path_factory.mktemp('node')
    if not (shutil.which('node') and shutil.which('npm')):
        pytest.skip('needs node and npm')
    # Its script fetches what only GPUs need.
    line = ['npm', 'install', '--ignore-scripts', 'onnxruntime-node']
    environment = {**os.environ, 'npm_config_update_notifier': 'false'}
    done = subprocess.run(
        line, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        pytest.skip(f'npm cannot install onnxruntime-node here: {done.stderr[-200:]}')
    (folder / 'run.js').write_text(SCRIPT)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('inputs', ['raw', 'ids'])
def test_node_gives_the_self_tests_probabilities(node, tmp_path, inputs):
    predictor = untrained.predictor(fitted.encoder(), 'fm', **{'export.inputs': inputs})
    export_model.export_model(predictor, tmp_path / 'model', predictor.config)
    line = ['node', str(node / 'run.js'), str(tmp_path / 'model')]
    done = subprocess.run(line, cwd=node, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    wanted = json.loads((tmp_path / 'model' / 'self_test.json').read_text())['probability']
    assert json.loads(done.stdout) == pytest.approx(wanted, abs=1e-5)
