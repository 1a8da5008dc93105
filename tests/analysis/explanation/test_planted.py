"""Explanations of models of the synthetic data find what was planted in it, beside columns of noise.

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
from dlf_jax.training import metrics

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
def file(law, tmp_path_factory):
    """The synthetic rows with ten columns of noise, of the same kinds."""
    draw, pieces = np.random.default_rng(0), []
    for start in range(0, ROWS, CHUNK_ROWS):
        frame = law.frame(start).drop('probability')
        noise = {name: draw.normal(size=frame.height).round(2) for name in NOISE_NUMBERS}
        for name, count in zip(NOISE_CATEGORIES, (4, 12, 40, 100, 200), strict=True):
            noise[name] = [f'{name}{i}' for i in np.minimum(draw.zipf(1.4, frame.height), count)]
        pieces.append(frame.with_columns(**{name: pl.Series(values) for name, values in noise.items()}))
    path = tmp_path_factory.mktemp('planted') / 'rows.parquet'
    pl.concat(pieces).write_parquet(path)
    return path


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
    whole = metrics.logloss(labels, law.logits(ids, numbers))
    found = {}
    for i, name in enumerate(CATEGORIES):
        changed = [own[order] if i == j else own for j, own in enumerate(ids)]
        found[name] = metrics.logloss(labels, law.logits(changed, numbers)) - whole
    for i, name in enumerate(NUMBERS):
        changed = numbers.copy()
        changed[:, i] = changed[order, i]
        found[name] = metrics.logloss(labels, law.logits(ids, changed)) - whole
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('model', MODELS)
def test_what_was_planted_is_found(model, file, costs_of_the_law, data_dir, tmp_path):
    keys = {
        'dataset.name': 'table', 'dataset.train': str(file), 'dataset.label': 'label',
        'dataset.categorical': (*CATEGORIES, *NOISE_CATEGORIES), 'dataset.treatment': 'standard',
        'dataset.numeric': (*NUMBERS, *NOISE_NUMBERS), 'training.epochs': 4, **MODELS[model],
    }  # fmt: skip
    config = dlf_jax.load_config('configs/synthetic.py', model, overrides=keys)
    dlf_jax.train(config, tmp_path / 'run', data_dir)
    options = {'rows': 20_000, 'repeats': 3, 'pairs': 0, 'dependence': 0, 'attributed': 0}
    trained = dlf_jax.load(tmp_path / 'run')
    fields = trained.explain(None, options, data_dir).found['fields']
    # All pairs of the law's fields, on fewer rows.
    options |= {'rows': 4_000, 'repeats': 1, 'pairs': 49, 'detail_rows': 200}
    pairs = trained.explain(None, options, data_dir).found['pairs']

    ranked = [entry['field'] for entry in fields]
    ahead = next(i for i, name in enumerate(ranked) if name in NOISE)
    small = sorted(set(ranked[ahead:]) - NOISE)
    cost = {entry['field']: entry['logloss']['mean'] for entry in fields}
    rank = stats.spearmanr([cost[n] for n in costs_of_the_law], list(costs_of_the_law.values())).statistic
    top = [frozenset(pair['fields']) for pair in pairs[: len(PLANTED)]]
    found = sum(pair in PLANTED for pair in top)
    second = sum(pair in SECOND for pair in top)
    first_wrong = next(i for i, pair in enumerate(pairs) if frozenset(pair['fields']) not in PLANTED)
    print(
        f'\n{model}: {ahead} of 39 planted fields above all noise; below: '
        f'{ {name: round(costs_of_the_law[name], 5) for name in small} }; rank correlation {rank:.3f}; '
        f'of the top {len(PLANTED)} of {len(pairs)} pairs {found} planted, {second} of {len(SECOND)} of '
        f'second order among them; first {first_wrong} all planted'
    )
    # Fields of next to no weight in the law may be anywhere.
    assert all(costs_of_the_law[name] < 2e-4 for name in small)
    assert rank > 0.95
    assert second == len(SECOND)
    assert first_wrong >= len(SECOND)
    assert found >= 0.85 * len(PLANTED)
