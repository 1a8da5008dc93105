"""Explanations of models of the synthetic data find what was planted in it.

The law is asked as a model is: what permuting a field of its own rows costs it. Figures are in
docs/how-to/explain.md.
"""

import itertools

import numpy as np
import polars as pl
import pytest
from scipy import stats

import dlf_jax
from dlf_jax.data.builders import synthetic
from dlf_jax.data.builders.synthetic import CATEGORIES, CHUNK_ROWS, CROSSED, NUMBERS, PAIRS, TRIPLES
from dlf_jax.training import probability_metrics

ROWS = 600_000
NOISE_NUMBERS = tuple(f'N{i}' for i in range(1, 6))
NOISE_CATEGORIES = tuple(f'K{i}' for i in range(1, 6))
NOISE = {*NOISE_NUMBERS, *NOISE_CATEGORIES}
MODELS = {
    'dlf': {},
    'dcnv2': {'model.hidden': (128, 64)},
    'finalmlp': {'model.hidden_1': (128, 64), 'model.hidden_2': (128, 64), 'model.heads': 2},
    'deepfm': {'model.hidden': (128, 64)},
}
QUICK = {'dependence': 0, 'attributed': 0, 'detail_rows': 300}
# Pairs of fields that the law multiplies, alone or in threes.
SECOND = {frozenset((CATEGORIES[a], CATEGORIES[b])) for a, b in PAIRS}
SECOND |= {frozenset((NUMBERS[n], CATEGORIES[f])) for n, f in enumerate(CROSSED)}
THIRD = {
    frozenset((CATEGORIES[a], CATEGORIES[b]))
    for three in TRIPLES
    for a, b in itertools.combinations(three, 2)
}
PLANTED = SECOND | THIRD


@pytest.fixture(scope='module')
def law():
    return synthetic.SyntheticTable(ROWS, 0)


@pytest.fixture(scope='module')
def costs_of_the_law(law):
    """What permuting each field costs the law itself, in Logloss of clicks that it draws."""
    frame = law.frame(0)
    texts = [{value: i for i, value in enumerate(series)} for series in law._texts]
    ids = [
        np.array([known[value] for value in frame[name]])
        for known, name in zip(texts, CATEGORIES, strict=True)
    ]
    numbers = frame.select(NUMBERS).to_numpy().astype(np.float64)
    labels, order = frame['label'].to_numpy(), np.random.default_rng(1).permutation(frame.height)
    whole = probability_metrics.logloss(labels, law.logits(ids, numbers))
    found = {}
    for i, name in enumerate(CATEGORIES):
        changed = [own[order] if i == j else own for j, own in enumerate(ids)]
        found[name] = probability_metrics.logloss(labels, law.logits(changed, numbers)) - whole
    for i, name in enumerate(NUMBERS):
        changed = numbers.copy()
        changed[:, i] = changed[order, i]
        found[name] = probability_metrics.logloss(labels, law.logits(ids, changed)) - whole
    return found


def check(model, trained, data_dir, costs_of_the_law):
    """Importance of all fields and pairs beside the law; tells how many are found."""
    options = {**QUICK, 'rows': 4_000, 'repeats': 1, 'pairs': 39}
    found = trained.explain(None, options, data_dir).found
    cost = {entry['field']: entry['logloss']['mean'] for entry in found['fields']}
    rank = stats.spearmanr([cost[n] for n in costs_of_the_law], list(costs_of_the_law.values())).statistic
    ten = [set(sorted(costs, key=costs.get, reverse=True)[:10]) for costs in (cost, costs_of_the_law)]
    pairs = [frozenset(pair['fields']) for pair in found['pairs']]
    assert len(pairs) == 39 * 38 // 2
    top = pairs[: len(PLANTED)]
    planted, second = sum(pair in PLANTED for pair in top), sum(pair in SECOND for pair in top)
    right = next(i for i, pair in enumerate(pairs) if pair not in PLANTED)
    common = len(ten[0] & ten[1])
    print(
        f'\n{model}: {common} of the ten most important fields of the law, rank correlation {rank:.3f}; of '
        f'the top {len(PLANTED)} pairs {planted} planted, the first {right} all; {second} of {len(SECOND)} '
        'of second order among them'
    )
    assert common >= 9
    assert rank > 0.85
    assert right >= len(SECOND)
    assert second == len(SECOND)
    assert planted >= 16


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('model', MODELS)
def test_planted_fields_and_pairs_are_found(model, costs_of_the_law, data_dir, tmp_path):
    keys = {'training.epochs': 4, **MODELS[model]}
    config = dlf_jax.load_config('configs/synthetic.py', model, overrides=keys)
    dlf_jax.train(config, tmp_path / 'run', data_dir)
    check(model, dlf_jax.load(tmp_path / 'run'), data_dir, costs_of_the_law)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_planted_fields_are_above_columns_of_noise(law, costs_of_the_law, data_dir, tmp_path):
    """Half of the rows, with ten columns of noise of the same kinds, in one epoch."""
    draw, pieces = np.random.default_rng(0), []
    for start in range(0, ROWS // 2, CHUNK_ROWS):
        frame = law.frame(start).drop('probability')
        noise = {name: draw.normal(size=frame.height).round(2) for name in NOISE_NUMBERS}
        for name, count in zip(NOISE_CATEGORIES, (4, 12, 40, 100, 200), strict=True):
            noise[name] = [f'{name}{i}' for i in np.minimum(draw.zipf(1.4, frame.height), count)]
        pieces.append(frame.with_columns(**{name: pl.Series(values) for name, values in noise.items()}))
    pl.concat(pieces).write_parquet(tmp_path / 'rows.parquet')
    keys = {
        'dataset.name': 'table', 'dataset.train': str(tmp_path / 'rows.parquet'), 'dataset.label': 'label',
        'dataset.categorical': (*CATEGORIES, *NOISE_CATEGORIES), 'dataset.treatment': 'standard',
        'dataset.numeric': (*NUMBERS, *NOISE_NUMBERS),
    }  # fmt: skip
    config = dlf_jax.load_config('configs/synthetic.py', 'dlf', overrides=keys)
    dlf_jax.train(config, tmp_path / 'run', data_dir)
    options = {**QUICK, 'rows': 20_000, 'repeats': 2, 'pairs': 0}
    found = dlf_jax.load(tmp_path / 'run').explain(None, options, data_dir).found['fields']
    ranked = [entry['field'] for entry in found]
    ahead = next(i for i, name in enumerate(ranked) if name in NOISE)
    later = {name: round(costs_of_the_law[name], 5) for name in ranked[ahead:] if name not in NOISE}
    print(f'\n{ahead} of 39 planted fields above all noise; below, with what they cost the law: {later}')
    # Fields of next to no weight in the law may be anywhere.
    assert all(cost < 0.002 for cost in later.values())
