"""Raw values encoded in ONNX Runtime, beside the encoder."""

import numpy as np
import polars as pl
import pytest
from jax import export

from dlf_jax.data.readers.chunk import Chunk
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


def test_texts_that_look_like_values_are_what_they_are_to_the_encoder(tmp_path):
    """Digits, points, signs and zeros put into known values, or taken out of them."""
    encoder, draw = fitted.encoder(out_of_range='missing'), np.random.default_rng(4)
    known = [*encoder.vocabularies['user']['value'], *encoder.vocabularies['ad']['value']]

    def changed():
        text = list(known[draw.integers(len(known))])
        for _ in range(draw.integers(0, 4)):
            place = draw.integers(0, len(text) + 1)
            text[place : place + draw.integers(2)] = ['', '0', '00', '.', '.0', '-', '7'][draw.integers(7)]
        return ''.join(text)

    frame = fitted.table(3000).frame.with_columns(
        **{name: pl.Series([changed() for _ in range(3000)]) for name in ('user', 'ad', 'plain', 'last')},
        tags=pl.Series(['|'.join(changed() for _ in range(draw.integers(0, 5))) for _ in range(3000)]),
    )
    wanted, _ = encoder.transform(Chunk(frame, 'changed.csv', 2))
    found = runtime(encoder, tmp_path)(raw_values.tensors(encoder.schema, frame))
    for place, name in enumerate(field.name for field in encoder.schema.categorical):
        same = found['encoded categorical'][:, place] == wanted['categorical'][:, place]
        assert same.all(), (name, frame[name].filter(pl.Series(~same))[:5].to_list())
    respelled = ~frame['user'].is_in(known).to_numpy() & (wanted['categorical'][:, 0] > 1)
    assert respelled.sum() > 20
    assert np.array_equal(found['encoded bags'], wanted['bags'])
