"""Integrated gradients against closed forms, and their completeness."""

import numpy as np
import pytest

from dlf_jax.data.readers import columns
from dlf_jax.errors import UsageError


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
