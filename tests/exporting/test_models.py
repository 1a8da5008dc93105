"""Exported models beside the predictor, on rows with a field of every kind."""

import json

import numpy as np
import pytest

from dlf_jax import config as configs
from dlf_jax import models
from dlf_jax.exporting import export_model, onnx_file, raw_values, verification
from tests.exporting import fitted, untrained

EVERY = [(model, variant) for model in models.MODELS for variant in configs.variants_of(model)]
# What between them has most primitives.
SOME = [('dlf', 'full'), ('finalmlp', 'full'), ('sam', 'full')]
# Tracing and compiling are most of the time.
SMALLER = {'dlf': {'model.layers': 1, 'model.tokens': 4, 'model.rank': 4}}


def exported(folder, model, variant, kind, inputs, encoder=fitted.encoder):
    keys = {'export.format': kind, 'export.inputs': inputs} | SMALLER.get(model, {})
    predictor = untrained.predictor(encoder(), model, variant, **keys)
    result = export_model.export_model(predictor, folder / 'model', predictor.config)
    probability = json.loads((folder / 'model' / 'self_test.json').read_text())['probability']
    # A model that gives all rows the same would agree with anything.
    assert np.std(probability) > 1e-4, probability
    return result


@pytest.mark.parametrize(('model', 'variant'), SOME, ids=lambda text: text)
def test_onnx_gives_the_predictors_probabilities(tmp_path, model, variant):
    # Of raw values: the model's part is the same with ids.
    # Of every kind of field for one of them.
    encoder = fitted.encoder if model == 'finalmlp' else fitted.small_encoder
    assert exported(tmp_path, model, variant, 'onnx', 'raw', encoder)['largest_difference'] <= 1e-5


def test_stablehlo_gives_the_predictors_probabilities(tmp_path, monkeypatch):
    # Each number of rows is compiled for.
    monkeypatch.setattr(verification, '_CALLS', (7,))
    # DLF has a form of its own for CPUs.
    assert (
        exported(tmp_path, 'dlf', 'full', 'stablehlo', 'ids', fitted.small_encoder)['largest_difference']
        <= 1e-5
    )


def test_saved_model_gives_the_predictors_probabilities(tmp_path):
    difference = exported(tmp_path, 'dcnv2', 'full', 'saved_model', 'ids')['largest_difference']
    assert difference <= 1e-5
    # The form that TensorFlow Serving looks for, with the encoder and the manifest beside it.
    names = {path.name for path in (tmp_path / 'model').iterdir()}
    assert names == {
        'saved_model.pb',
        'fingerprint.pb',
        'variables',
        'encoder',
        'manifest.json',
        'self_test.json',
    }
    manifest = json.loads((tmp_path / 'model' / 'manifest.json').read_text())
    assert {'saved_model.pb', 'variables/variables.index', 'encoder/encoder.json'} <= {*manifest['files']}
    # Written again in its place.
    exported(tmp_path, 'lr', 'full', 'saved_model', 'ids')


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['onnx', 'stablehlo', 'saved_model'])
@pytest.mark.parametrize(('model', 'variant'), EVERY, ids=lambda text: text)
def test_every_variant_can_be_exported(tmp_path, model, variant, kind):
    histories = models.model_class(model).needs_histories
    encoder = fitted.encoder_with_history if histories else fitted.encoder
    exported(tmp_path, model, variant, kind, 'ids', encoder)


def test_ids_and_raw_values_are_two_ways_into_the_same_model(tmp_path):
    encoder, chunk, found = fitted.encoder(), fitted.table(50, seed=2), {}
    for inputs in ('raw', 'ids'):
        predictor = untrained.predictor(encoder, 'lr', **{'export.inputs': inputs})
        export_model.export_model(predictor, tmp_path / inputs, predictor.config)
        rows = (
            raw_values.tensors(encoder.schema, chunk.frame)
            if inputs == 'raw'
            else encoder.transform(chunk)[0]
        )
        found[inputs] = onnx_file.Runtime(tmp_path / inputs)(rows)
    for name in ('logit', 'probability'):
        np.testing.assert_array_equal(found['raw'][name], found['ids'][name])
    np.testing.assert_allclose(
        found['raw']['probability'], 1 / (1 + np.exp(-found['raw']['logit'].astype(np.float64))), atol=1e-6
    )
