import sys

import pytest

from tests.conftest import ROOT


@pytest.fixture(autouse=True, scope='session')
def extensions():
    """Makes the documentation's own extensions importable."""
    sys.path.append(str(ROOT / 'docs' / 'extensions'))
    yield
    sys.path.remove(str(ROOT / 'docs' / 'extensions'))
