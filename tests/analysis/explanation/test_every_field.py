"""Explanations of a model whose table has a field of every kind: values, completeness, and no crash."""

import types

import numpy as np
import polars as pl
import pytest

from dlf_jax.analysis.explanation.explain import explain
from dlf_jax.analysis.explanation.field_values import FieldValues
from dlf_jax.analysis.explanation.sample import of_table
from dlf_jax.data.readers.frames import FrameTable
from dlf_jax.serving.encoded_batches import EncodedBatches
from tests.exporting import fitted, untrained

ROWS = 120


@pytest.fixture(scope='module')
def encoder():
    return fitted.encoder()


@pytest.fixture(scope='module')
def frame():
    rows = fitted.table(ROWS, seed=5).frame
    click = np.random.default_rng(0).integers(0, 2, ROWS)
    return rows.with_columns(click=pl.Series(click))


@pytest.fixture(scope='module')
def found(encoder, frame):
    """Of a factorization machine, which has two tables, of two widths each."""
    predictor = untrained.predictor(encoder, 'fm')
    batches = EncodedBatches(FrameTable(frame), encoder, 64, labelled=True)
    config = predictor.config
    for key, value in {'repeats': 1, 'pairs': 2, 'points': 4, 'attributed_rows': (0, 7, 90)}.items():
        config.explain[key] = value
    return explain(predictor, of_table(batches), 'the frame', config).found


def test_every_field_is_told_of(encoder, found):
    names = {field.name for field in encoder.schema.fields}
    for key in ('fields', 'partial_dependence'):
        assert {entry['field'] for entry in found[key]} == names
    owners = {field.name for field in encoder.schema.owners}
    assert {entry['field'] for entry in found['embeddings']} == owners
    shared = next(entry for entry in found['embeddings'] if entry['field'] == 'tags')
    assert shared['shared_by'] == ['last']
    widths = {(e['field'], e['table']): e['width'] for e in found['embeddings']}
    assert (widths['ad', 'embedding'], widths['user', 'embedding']) == (2, 8)


def test_attributions_are_complete_and_name_the_values(encoder, frame, found):
    for entry in found['attributions']:
        total = sum(field['attribution'] for field in entry['fields'])
        logits = [np.log(p / (1 - p)) for p in (entry['probability'], entry['baseline_probability'])]
        np.testing.assert_allclose(total + entry['gap'], logits[0] - logits[1], atol=1e-4)
        assert abs(entry['gap']) < 2e-3
        values = {field['field']: field['value'] for field in entry['fields']}
        row = frame.row(entry['row'], named=True)
        for name in ('none', 'standard', 'minmax'):
            number = encoder.moments[name].mean if row[name] is None else row[name]
            np.testing.assert_allclose(values[name], number, rtol=1e-4, atol=1e-5)
        assert (values['own'] is None) == (row['own'] is None)
        if row['own'] is not None:
            np.testing.assert_allclose(values['own'], row['own'], rtol=1e-4, atol=1e-5)
        if row['plain'] is None:
            assert values['plain'] == '(missing)'
        elif values['plain'] != '(unknown to the model)':
            assert values['plain'] == row['plain']


def test_values_of_ids_and_treated_numbers(encoder, frame):
    values = FieldValues(encoder)
    fields = {field.name: field for field in encoder.schema.fields}
    chunk = types.SimpleNamespace(rows=None)
    for batch, kept in EncodedBatches(FrameTable(frame), encoder, ROWS, labelled=True):
        chunk.rows = {name: array[: kept.height] for name, array in batch.items()}
    # Within the training part's range a curve is followed back to the number.
    for name in ('quantile', 'piecewise', 'periodic'):
        told = values.numbers(fields[name], values.column(fields[name], chunk.rows))
        known, there = frame[name].to_numpy().astype(float), frame[name].is_not_null().to_numpy()
        low, high = encoder.curves[name][0][[0, -1]]
        inside = there & (known >= low) & (known <= high)
        assert inside.sum() > ROWS / 3
        spread = high - low
        np.testing.assert_allclose(told[inside], known[inside], atol=1e-3 * spread, rtol=1e-3)
        assert np.isnan(told[~there]).all()
    ranges = values.column(fields['bucket'], chunk.rows)
    for text, number in zip((values.text(fields['bucket'], i) for i in ranges), frame['bucket'], strict=True):
        if number is None:
            assert text == '(missing)'
        elif ' to ' in text:
            low, high = map(float, text.split(' to '))
            assert low * (1 - 1e-5) - 1e-5 <= number <= high * (1 + 1e-5) + 1e-5
    tags = values.column(fields['tags'], chunk.rows)
    told = [values.told(fields['tags'], row) for row in tags]
    wanted = frame['tags'].to_list()
    several = [(t, w) for t, w in zip(told, wanted, strict=True) if w and '' not in w.split('|')]
    assert several
    for text, written in several:
        assert text.split(', ') == written.split('|')[:3]


def test_a_row_with_a_value_has_it_and_no_other(encoder):
    values = FieldValues(encoder)
    fields = {field.name: field for field in encoder.schema.fields}
    row = values.row_with(fields['user'], encoder.schema.offsets['user'] + 3)
    assert (
        values.text(fields['user'], values.column(fields['user'], row)[0])
        == encoder.vocabularies['user']['value'][1]
    )
    bag = values.row_with(fields['items'], encoder.schema.offsets['items'] + 2)
    assert values.column(fields['items'], bag).tolist() == [[encoder.schema.offsets['items'] + 2, -1]]
