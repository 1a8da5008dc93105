"""One step on eight forced CPU devices: see `devices.py`."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.training.devices import CHECKS

# BatchNorm, dropout and a sown loss are in these; all the others are for every now and then.
QUICK = ('model-dlf', 'model-finalnet')


@pytest.mark.parametrize(
    'check',
    [
        pytest.param(check, marks=pytest.mark.slow)
        if check.startswith('model-') and check not in QUICK
        else check
        for check in CHECKS
    ],
)
def test_eight_devices(check):
    environment = {
        **os.environ,
        'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
        'JAX_PLATFORMS': 'cpu',
    }
    done = subprocess.run(
        [sys.executable, '-m', 'tests.training.devices', check],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
