"""Progress bars in a notebook, without one."""

import subprocess
import sys

from tests.conftest import ROOT

# What tqdm looks at to know that it is in a notebook.
CODE = """
import sys
import IPython
sys.modules['ipykernel.zmqshell'] = IPython
import dlf_jax
from dlf_jax.data.progress import Progress
from dlf_jax.training.run_progress import RunProgress
from dlf_jax.training.step_plan import StepPlan
from dlf_jax.training.training_bar import TrainingBar

with Progress('reading', 'rows', 100) as bar:
    bar.advance(40)
    bar.refresh()
    text, drawn, rest = bar.container.children
    print('>', text.value.replace('\u2007', ' '), drawn.value, drawn.max, rest.value[1:6])
print('>', repr(drawn.bar_style), bar.container.layout.visibility)
with TrainingBar(dlf_jax.load_config(), StepPlan(50, 100, 50), {0: RunProgress()}, 0) as bar:
    bar.advance(25)
    bar.refresh()
    text, drawn, rest = bar.container.children
    print('>', text.value.replace('\u2007', ' '), '|', rest.value.replace('\u2007', ' '))
"""


def test_bars_are_widgets_in_a_notebook():
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', CODE], capture_output=True, text=True, timeout=60,
        env={'PATH': '/usr/bin:/bin', 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # What IPython shows where there are no widgets to see is beside them.
    lines = [line[2:] for line in done.stdout.splitlines() if line.startswith('> ')]
    assert lines[0] == 'reading:  40% 40.0 100.0 40.0/'
    # Not red, though it ended before its total.
    assert lines[1] == "'' hidden"
    assert lines[2].startswith('epoch 1 of 2 50% | ; no evaluation yet, next in 25 steps')


def test_a_log_file_gets_lines():
    code = (
        'from dlf_jax.data import progress\n'
        'progress._LOG_SECONDS = 0.0\n'
        'with progress.Progress("reading", "rows", 100) as bar:\n'
        '    bar.advance(40)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=60,
        env={'PATH': '/usr/bin:/bin', 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0
    assert any('reading:  40%' in line for line in done.stderr.splitlines())
