"""Health of embeddings: closed forms, and rows that were made to be of no use."""

import numpy as np
import pytest

from dlf_jax.analysis.explanation.embedding_health import health, spectrum


@pytest.mark.parametrize('width', [1, 3, 8])
def test_even_spectra_have_full_rank(width):
    found = spectrum(np.full(width, 2.5))
    np.testing.assert_allclose([found['effective_rank'], found['information_abundance']], width)


def test_closed_forms():
    found = spectrum(np.array([2.0, 1.0, 1.0, 0.0]))
    # Entropy of (1/2, 1/4, 1/4): 1.5 ln 2.
    np.testing.assert_allclose(found['effective_rank'], 2**1.5)
    np.testing.assert_allclose(found['information_abundance'], 2.0)
    assert spectrum(np.array([7.0, 0.0]))['effective_rank'] == 1.0
    assert spectrum(np.zeros(3))['effective_rank'] is None


def test_singular_values_and_rows():
    random = np.random.default_rng(0)
    drawn = (1e-2 * random.normal(size=(200, 5))).astype(np.float32)
    rows = drawn + random.normal(size=(200, 5)).astype(np.float32)
    rows[0] = drawn[0]
    rows[10:14] = drawn[10:14]  # never touched
    rows[20:23] *= 0.01  # taken back by the penalty
    rows[30:32] = rows[29]
    found = health(rows, drawn)
    expected = np.linalg.svd(rows[2:].astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(found['singular_values'], expected, rtol=1e-6)
    norms = np.linalg.norm(rows[2:].astype(np.float64), axis=1)
    np.testing.assert_allclose(found['mean_norm'], norms.mean())
    assert (found['rows'], found['width'], found['dead'], found['duplicated']) == (198, 5, 7, 2)
    assert not found['unknown_trained']
    assert found['missing_trained']


def test_a_field_without_values():
    found = health(np.ones((2, 4), np.float32), np.zeros((2, 4), np.float32))
    assert (found['rows'], found['mean_norm'], found['effective_rank']) == (0, None, None)


def test_of_a_trained_model(explanation, factorised):
    entries = explanation.found['embeddings']
    assert {entry['table'] for entry in entries} == {'embedding', 'linear'}
    found = {entry['field']: entry for entry in entries if entry['table'] == 'embedding'}
    assert found.keys() == {'a', 'b', 'c', 'n'}
    tables = np.asarray(factorised._predictor.state.params['tables']['categorical']['embedding'], np.float64)
    for name, entry in found.items():
        first = factorised.schema.offsets[name] + 2
        own = tables[first : first + 4]
        expected = np.linalg.svd(own, compute_uv=False)
        np.testing.assert_allclose(entry['singular_values'], expected, rtol=1e-4, atol=1e-6)
        assert (entry['rows'], entry['width'], entry['dead'], entry['duplicated']) == (4, 4, 0, 0)
        # No training row had an unknown value, or none.
        assert not entry['unknown_trained']
        assert not entry['missing_trained']


def test_a_weight_near_zero_is_not_dead_but_a_vector_is():
    draw = np.random.default_rng(0)
    for width, dead in ((1, 0), (4, 1)):
        rows = draw.normal(size=(102, width)).astype(np.float32)
        rows[50] = 1e-3
        rows[:50] = np.sign(rows[:50]) * np.maximum(np.abs(rows[:50]), 0.5)
        rows[51:] = np.sign(rows[51:]) * np.maximum(np.abs(rows[51:]), 0.5)
        assert health(rows, np.zeros_like(rows))['dead'] == dead
