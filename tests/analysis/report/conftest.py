"""A tiny run on a table whose columns and values are called what no table should be, and a browser."""

import contextlib
import importlib.util
import shutil

import numpy as np
import polars as pl
import pytest

import dlf_jax
from dlf_jax import api
from tests.conftest import SMALL_RUN

USER, AD, PRICE = '<script>alert(1)</script>', 'ad "&\' name', 'price'
VALUE = '</table><img src=x onerror=alert(1)>'
# What a browser says and asks for by itself is not the page's.
QUIET = (
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
)  # fmt: skip


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
    api.explain(folder / 'run', options={'explain.rows': 200}, data_dir=folder / 'data')
    return folder / 'run'


@pytest.fixture(scope='session')
def report(hostile, tmp_path_factory):
    """The page of that run, and what the command told."""
    output = tmp_path_factory.mktemp('report') / 'report.html'
    told = api.report([hostile], output, hostile.parent / 'data')
    return output, told


@pytest.fixture(scope='session')
def browser():
    """Headless Chromium; a skipped test where there is none."""
    program = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if program is None:
        pytest.skip('needs Chromium: apt-get install chromium')
    if importlib.util.find_spec('playwright') is None:
        pytest.skip('needs playwright: pip install playwright')
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield started
        started.close()


@contextlib.contextmanager
def open_page(browser, path, width=1280, scheme='light', script=True):
    """Opens a page from disk; what it logs and asks for is in `page.noted` and `page.asked`."""
    with contextlib.closing(
        browser.new_context(
            viewport={'width': width, 'height': 900}, color_scheme=scheme, java_script_enabled=script
        )
    ) as context:
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.noted, page.asked = [], []
        page.on('console', lambda message: page.noted.append(message.text))
        page.on('pageerror', lambda error: page.noted.append(str(error)))
        page.on('request', lambda request: page.asked.append(request.url))
        page.goto(path.as_uri())
        yield page


@pytest.fixture
def opened(browser):
    """Opens pages as `open_page` does, until the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda *given, **options: stack.enter_context(open_page(browser, *given, **options))


@pytest.fixture(scope='module')
def page(browser, report):
    """The page, opened once for the tests that change nothing in it."""
    with open_page(browser, report[0]) as found:
        yield found
