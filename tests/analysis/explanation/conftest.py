"""Small trained models with known laws, shared by the tests of explanations."""

import numpy as np
import polars as pl
import pytest

import dlf_jax

KEYS = {
    'embedding.std': 0.1, 'optimizer.learning_rate': 0.02, 'training.batch_size': 256,
    'training.epochs': 4, 'dataset.block_rows': 512, 'dataset.treatment': 'standard',
    'dataset.categorical': ('a', 'b', 'c', 'n'), 'dataset.numeric': ('x', 'y'), 'dataset.min_count': 1,
}  # fmt: skip


def table(rows, seed=0):
    """Rows whose clicks depend on a and b together, on c and x alone, and not on n and y."""
    draw = np.random.default_rng(seed)
    a, b, c, n = (draw.integers(0, 4, rows) for _ in range(4))
    x, y = draw.normal(size=(2, rows)).round(3)
    logit = 2.0 * (-1.0) ** (a // 2 + b // 2) + 0.8 * (c - 1.5) + 1.2 * x
    click = draw.random(rows) < 1 / (1 + np.exp(-logit))
    texts = {name: [f'{name}{i}' for i in v] for name, v in {'a': a, 'b': b, 'c': c, 'n': n}.items()}
    return pl.DataFrame({'click': click.astype(int), **texts, 'x': x, 'y': y})


@pytest.fixture(scope='session')
def rows():
    return table(600, seed=1)


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('explained')


def fitted(folder, model, keys):
    return dlf_jax.fit(table(4000), label='click', model=model, workdir=folder / model, **keys)


@pytest.fixture(scope='session')
def linear(folder):
    return fitted(folder, 'lr', {**KEYS, 'training.epochs': 2})


@pytest.fixture(scope='session')
def factorised(folder):
    return fitted(folder, 'fm', {**KEYS, 'model.embedding_size': 4})


@pytest.fixture(scope='session')
def explanation(factorised, rows):
    """Of the factorization machine, with groups of fields, on all rows."""
    options = {'groups': ('pair=a+b', 'rest=c+x'), 'points': 5, 'attributed_rows': (3, 40)}
    return factorised.explain(rows, options)
