"""Partial dependence against scores of frames in which every row has the value."""

import numpy as np
import polars as pl
import pytest

from dlf_jax.analysis.explanation.pictures import pictures


def test_points_are_means_of_frames_with_the_value(factorised, rows, explanation):
    curves = {curve['field']: curve for curve in explanation.found['partial_dependence']}
    assert curves.keys() == set('abcnxy')
    for name in ('c', 'x'):
        for point in curves[name]['points']:
            expected = factorised.predict(rows.with_columns(pl.lit(point['value']).alias(name))).mean()
            np.testing.assert_allclose(point['probability'], expected, atol=2e-6)
    category, number = curves['c'], curves['x']
    assert (category['kind'], number['kind']) == ('category', 'number')
    counts = dict(rows['c'].value_counts().iter_rows())
    assert {point['value']: point['rows'] for point in category['points']} == counts
    # In the units of the data, from the lowest to the highest number.
    values = [point['value'] for point in number['points']]
    np.testing.assert_allclose([values[0], values[-1]], [rows['x'].min(), rows['x'].max()], atol=1e-5)
    assert values == sorted(values)
    assert sum(point['rows'] for point in number['points']) == len(rows)
    probabilities = [point['probability'] for point in number['points']]
    # The law rises with x.
    assert probabilities == sorted(probabilities)
    assert probabilities[-1] - probabilities[0] > 0.3


def test_a_number_that_all_rows_lack_is_a_line(explanation):
    pytest.importorskip('matplotlib')
    points = [{'value': None, 'probability': 0.25, 'rows': 5}]
    curves = [{'field': 'price', 'kind': 'number', 'points': points}]
    empty = {key: [] for key in explanation.found}
    (found,) = pictures({**empty, 'partial_dependence': curves}, [])
    assert '>missing<' in found.svg
    assert '>o-<' not in found.svg
