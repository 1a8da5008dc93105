"""One step on eight forced CPU devices: see `devices.py`."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.training.devices import CHECKS

# For every day: one model with BatchNorm, dropout and a sown loss, tables cut by rows under an optimizer that
# moves every row, and a function of each device's own rows. The others take minutes.
QUICK = ('model-finalnet', 'gradients', 'rows-adam', 'by-rows')


@pytest.mark.parametrize(
    'check',
    [check if check in QUICK else pytest.param(check, marks=pytest.mark.slow) for check in CHECKS],
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
        timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
