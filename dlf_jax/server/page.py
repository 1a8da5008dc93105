"""The page at `/`: a form of the model's columns that scores a row; it asks `/v1/schema` and `/v1/score`."""

from __future__ import annotations

import importlib.resources

_ASSETS = importlib.resources.files(__package__) / 'assets'

# Nothing but what this server sends, and no script or style in the page itself.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

HTML, STYLE, SCRIPT = ((_ASSETS / name).read_text('utf-8') for name in ('page.html', 'page.css', 'page.js'))
