"""Raw values encoded in ONNX Runtime, beside the encoder."""

import numpy as np
import pytest
from jax import export

from dlf_jax.exporting import onnx_file, onnx_raw, raw_values
from dlf_jax.exporting.onnx_graph import Graph
from tests.exporting import fitted


def runtime(encoder, folder):
    """ONNX Runtime on the encoding alone."""
    graph = Graph()
    found, refused = onnx_raw.encoded(graph, encoder, export.symbolic_shape('batch')[0])
    outputs = {f'encoded {name}': value for name, value in found.items()}
    outputs |= {} if refused is None else {'refused': refused}
    onnx_file.write(folder, graph.finish(outputs), graph.constants, {})
    return onnx_file.Runtime(folder)


@pytest.mark.parametrize('rows', ['table', 'odd'])
def test_ids_and_numbers_are_the_encoders(tmp_path, rows):
    encoder = fitted.encoder(out_of_range='missing')
    chunk = fitted.table(200, seed=1) if rows == 'table' else fitted.odd_rows()
    wanted, _ = encoder.transform(chunk)
    found = runtime(encoder, tmp_path)(raw_values.tensors(encoder.schema, chunk.frame))
    for name in ('categorical', 'bags'):
        same = found[f'encoded {name}'] == wanted[name]
        assert same.all(), (name, np.argwhere(~same)[:5], chunk.frame[np.argwhere(~same)[0][0]].to_dicts())
        assert found[f'encoded {name}'].dtype == wanted[name].dtype
    np.testing.assert_allclose(found['encoded numeric'], wanted['numeric'], rtol=2e-7, atol=1e-12)
