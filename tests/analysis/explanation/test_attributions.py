"""Integrated gradients against closed forms, and their completeness."""

import numpy as np
import polars as pl
import pytest

from dlf_jax.analysis.explanation.attributions import Attributions
from dlf_jax.analysis.explanation.field_values import FieldValues
from dlf_jax.analysis.explanation.sample import draw, of_table
from dlf_jax.data.readers import columns
from dlf_jax.data.readers.frames import FrameTable
from dlf_jax.data.schema import PADDING
from dlf_jax.errors import UsageError
from dlf_jax.serving.calibrator import Calibrator
from dlf_jax.serving.encoded_batches import EncodedBatches
from tests.exporting import fitted, untrained
from tests.exporting.test_export_model import OWN


def embedded(model, rows):
    """Embeddings of rows by table, float64 [n, F, width]; from the weights, the encoder's ids and numbers."""
    predictor = model._predictor
    schema = predictor.encoder.schema
    chunk = next(predictor.open(rows, labelled=False).chunks(columns.columns_of(schema, False, keep=())))
    encoded, _ = predictor.encoder.transform(chunk)
    params = predictor.state.params
    found = {}
    for table, values in params['tables']['categorical'].items():
        categories = np.asarray(values, np.float64)[encoded['categorical']]
        vectors = np.asarray(params['dense']['embedding']['numeric'][table], np.float64)
        numbers = vectors * encoded['numeric'][..., None].astype(np.float64)
        found[table] = np.concatenate([categories, numbers], 1)
    return found


def by_field(entry, schema):
    found = {field['field']: field['attribution'] for field in entry['fields']}
    return np.array([found[field.name] for field in (*schema.categorical, *schema.numeric)])


OPTIONS = {'pairs': 0, 'dependence': 0, 'repeats': 1, 'attributed_rows': (3, 40)}


@pytest.mark.parametrize('baseline', ['mean', 'zeros'])
def test_a_linear_model_has_its_terms(linear, rows, baseline):
    found = linear.explain(rows, {**OPTIONS, 'baseline': baseline}).found['attributions']
    (terms,) = embedded(linear, rows).values()
    terms = terms[..., 0]
    compared = terms.mean(0) if baseline == 'mean' else 0
    assert [entry['row'] for entry in found] == [3, 40]
    for entry in found:
        expected = terms[entry['row']] - compared
        np.testing.assert_allclose(by_field(entry, linear.schema), expected, atol=1e-5)
        assert entry['label'] == rows['click'][entry['row']]
        np.testing.assert_allclose(entry['probability'], linear.predict(rows)[entry['row']], atol=1e-6)


def test_a_factorization_machine_has_its_gradient_in_the_middle(factorised, rows, explanation):
    """On a straight way the gradient of products of two is linear, so its mean is that in the middle."""
    found = explanation.found['attributions']
    embeddings = embedded(factorised, rows)
    for entry in found:
        expected = 0
        for table, values in embeddings.items():
            row, base = values[entry['row']], values.mean(0)
            gradient = np.ones_like(row)
            if table == 'embedding':
                middle = (row + base) / 2
                gradient = middle.sum(0) - middle
            expected = expected + ((row - base) * gradient).sum(1)
        np.testing.assert_allclose(by_field(entry, factorised.schema), expected, atol=1e-5)


def test_a_row_that_is_not_there(linear, rows):
    with pytest.raises(UsageError, match='no row 600 among the 600 rows of the frame'):
        linear.explain(rows, {**OPTIONS, 'attributed_rows': (600,)})


def test_probabilities_are_those_of_prediction_with_a_calibrator(linear, rows, monkeypatch):
    """Every probability that is told is calibrated; logits and their parts are the model's own."""
    options = {**OPTIONS, 'dependence': 2, 'points': 3}
    raw = linear.explain(rows, options).found
    monkeypatch.setattr(linear._predictor, 'calibrator', Calibrator('temperature', slope=0.5, intercept=-2.0))
    found = linear.explain(rows, options).found
    assert (raw['calibrated'], found['calibrated']) == (False, True)
    promised = linear.predict(rows)
    for entry, before in zip(found['attributions'], raw['attributions'], strict=True):
        np.testing.assert_allclose(entry['probability'], promised[entry['row']], atol=1e-6)
        assert entry['baseline_probability'] < before['baseline_probability']
        assert entry['fields'] == before['fields']
    for curve in found['partial_dependence']:
        for point in curve['points']:
            same = rows.with_columns(pl.lit(point['value']).alias(curve['field']))
            np.testing.assert_allclose(point['probability'], linear.predict(same).mean(), atol=2e-6)


def test_a_model_that_reads_lists_is_complete(tmp_path):
    """The baseline is compared with under the row's own mask, however many values the first row has."""
    (tmp_path / 'own_model.py').write_text(OWN)
    predictor = untrained.predictor(fitted.encoder(), f'{tmp_path}/own_model.py:Own')
    click = pl.Series(np.arange(40) % 2)
    rows = fitted.table(40, seed=5).frame.with_columns(click=click)
    batches = EncodedBatches(FrameTable(rows), predictor.encoder, 64, labelled=True)
    sample = draw(of_table(batches), 40, 0, 'the rows')
    attributions = Attributions(predictor)
    base = attributions.baseline('mean', sample)
    lengths = (sample.rows['bags'][:, :3] != PADDING).sum(1)
    chosen = sample.at(np.array([np.argmin(lengths), np.argmax(lengths)]))
    for entry in attributions.of_rows(chosen, base, FieldValues(predictor.encoder)):
        assert abs(entry['gap']) < 0.01
        assert entry['fields']
