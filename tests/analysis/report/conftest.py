"""A tiny run on a table whose columns and values are called what no table should be."""

import numpy as np
import polars as pl
import pytest

import dlf_jax
from dlf_jax import api
from tests.browser import open_page
from tests.conftest import SMALL_RUN

USER, AD, PRICE = '<script>alert(1)</script>', 'ad "&\' name', 'price'
VALUE = '</table><img src=x onerror=alert(1)>'


def table(rows, seed):
    draw = np.random.default_rng(seed)
    user, ad, price = draw.integers(0, 12, rows), draw.integers(0, 6, rows), draw.normal(size=rows).round(3)
    click = draw.random(rows) < 1 / (1 + np.exp(-(user % 5 - ad % 3 + price)))
    names = [VALUE, *(f'u{i}' for i in range(11))]
    return pl.DataFrame(
        {'click': click.astype(int), USER: [names[u] for u in user], AD: [f'a&{a}' for a in ad], PRICE: price}
    )


@pytest.fixture(scope='session')
def hostile(tmp_path_factory):
    """The workdir of a finished run with a test part and an explanation; its data is in `data` beside it."""
    folder = tmp_path_factory.mktemp('hostile')
    for i, (part, rows) in enumerate((('train', 1200), ('valid', 500), ('test', 500))):
        table(rows, i).write_parquet(folder / f'{part}.parquet')
    values = {
        **SMALL_RUN,
        'dataset.name': 'table',
        'dataset.label': 'click',
        'dataset.categorical': (USER, AD),
        'dataset.numeric': (PRICE,),
        **{f'dataset.{part}': str(folder / f'{part}.parquet') for part in ('train', 'valid', 'test')},
        'training.evaluate_every': 2,
        'training.log_every': 2,
        'plateau.patience': 0,
    }
    config = dlf_jax.load_config(model='fm', overrides={k: v for k, v in values.items() if 'hidden' not in k})
    api.train(config, folder / 'run', folder / 'data')
    dlf_jax.explain(folder / 'run', options={'explain.rows': 200}, data_dir=folder / 'data')
    return folder / 'run'


@pytest.fixture(scope='session')
def report(hostile, tmp_path_factory):
    """The page of that run, and what the command told."""
    output = tmp_path_factory.mktemp('report') / 'report.html'
    told = dlf_jax.report([hostile], output, hostile.parent / 'data')
    return output, told


@pytest.fixture(scope='module')
def page(report, browser):
    """The page, opened once for the tests that change nothing in it."""
    with open_page(browser, report[0]) as found:
        yield found
