"""Headless Chromium for tests of pages: a plugin of pytest, which `conftest.py` names."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil

import pytest

# What a browser says and asks for by itself is not the page's.
QUIET = (
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
)  # fmt: skip


@pytest.fixture(scope='module')
def browser():
    """Headless Chromium; a skipped test where there is none.

    Of a module, because while it runs, so does an event loop, beside which no other can be started.
    """
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
def open_page(browser, place, width=1280, scheme='light', script=True):
    """Opens a page, from disk or by its address; `page.noted` has its log, `page.asked` its requests."""
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
        page.goto(place if isinstance(place, str) else place.as_uri())
        yield page


@pytest.fixture
def opened(browser):
    """Opens pages as `open_page` does, until the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda *given, **options: stack.enter_context(open_page(browser, *given, **options))
