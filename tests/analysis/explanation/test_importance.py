"""Importance of fields and pairs: against scores of permuted frames, and against what was planted."""

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score


def orders(rows, repeats, seed):
    random = np.random.default_rng([seed, 2])
    return [random.permutation(rows) for _ in range(repeats)]


def permuted(frame, names, order):
    return frame.with_columns(frame[order][name] for name in names)


def test_costs_are_those_of_permuted_frames(factorised, rows, explanation):
    """The frame's columns are permuted, encoded and scored anew; the metrics are scikit-learn's."""
    labels, base = rows['click'].to_numpy(), factorised.predict(rows).astype(np.float64)
    found = {entry['field']: entry for entry in explanation.found['fields']}
    groups = {entry['group']: entry for entry in explanation.found['groups']}
    assert found.keys() == {'a', 'b', 'c', 'n', 'x', 'y'}
    for entry, names in ((found['b'], ['b']), (found['x'], ['x']), (groups['pair'], ['a', 'b'])):
        scores = [factorised.predict(permuted(rows, names, order)) for order in orders(len(rows), 2, 0)]
        loss = np.mean([log_loss(labels, s.astype(np.float64)) for s in scores]) - log_loss(labels, base)
        area = roc_auc_score(labels, base) - np.mean([roc_auc_score(labels, s) for s in scores])
        np.testing.assert_allclose(entry['logloss']['mean'], loss, atol=1e-5)
        np.testing.assert_allclose(entry['auc']['mean'], area, atol=1e-5)
        assert entry['auc']['low'] < entry['auc']['mean'] < entry['auc']['high']
        first = entry['repeats'][0]['logloss']
        np.testing.assert_allclose(
            first, log_loss(labels, scores[0].astype(np.float64)) - log_loss(labels, base), atol=1e-5
        )


def test_planted_fields_are_above_all_others(explanation):
    ranked = [entry['field'] for entry in explanation.found['fields']]
    assert set(ranked[:4]) == {'a', 'b', 'c', 'x'}
    by_name = {entry['field']: entry for entry in explanation.found['fields']}
    for name in 'abcx':
        assert by_name[name]['auc']['low'] > max(by_name[n]['auc']['mean'] for n in 'ny')
        assert by_name[name]['variance'] > 3 * max(by_name[n]['variance'] for n in 'ny')


def test_the_planted_pair_is_the_strongest(explanation):
    first, second = explanation.found['pairs'][:2]
    assert set(first['fields']) == {'a', 'b'}
    assert first['interaction'] > 4 * second['interaction']
    # Together they are of use, alone neither: permuting both costs less than each alone together.
    assert first['logloss']['high'] < 0
    assert len(explanation.found['pairs']) == 15


def test_a_model_that_adds_up_has_no_interactions(linear, rows):
    found = linear.explain(rows, {'dependence': 0, 'attributed': 0, 'repeats': 1}).found
    assert max(pair['interaction'] for pair in found['pairs']) < 1e-10


def test_interaction_is_the_superset_importance_of_the_four_scores(factorised, rows, explanation):
    pair = next(p for p in explanation.found['pairs'] if set(p['fields']) == {'a', 'x'})
    (order,) = orders(len(rows), 1, 1)

    def logits(names):
        p = factorised.predict(permuted(rows, names, order)).astype(np.float64)
        return np.log(p / (1 - p))

    change = logits([]) - logits(['a']) - logits(['x']) + logits(['a', 'x'])
    expected = np.mean(change**2) / 4 / np.var(logits([]))
    np.testing.assert_allclose(pair['interaction'], expected, rtol=1e-3, atol=1e-6)
