import subprocess
import sys

import jax
import numpy as np
import polars as pl
import pytest

from dlf_jax.errors import UserError
from dlf_jax.serving.predict import Predictor
from dlf_jax.training.model_setup import TrainingSetup
from dlf_jax.workdir import Workdir
from tests.conftest import ROOT, write_table

# A process counts the memory of the one that it was forked from as its own; so a small one starts it.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


def peak_memory(*arguments):
    """Bytes that a run of the command held at most."""
    line = [sys.executable, '-c', MEASURE, sys.executable, '-m', 'dlf_jax.main', *map(str, arguments)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    return int(done.stdout)


def test_memory_does_not_grow_with_the_file(trained, tmp_path):
    # Both files are longer than the chunks that are read at a time.
    piece = write_table(tmp_path / 'piece.csv', 100_000).read_text()
    header, rows = piece.split('\n', 1)
    peaks = []
    for pieces in (24, 96):
        path = tmp_path / f'{pieces}.csv'
        path.write_text(f'{header}\n' + rows * pieces)
        peaks.append(
            peak_memory(
                '--mode=predict', f'--workdir={trained}', f'--input={path}',
                f'--output={path}.parquet', '--config.predict.batch_size=32768',
                "--config.predict.keep=('user','ad')",
            )
        )  # fmt: skip
    # The longer file has 7.2 million more rows; held in memory they would be 200 MB and more.
    assert peaks[1] - peaks[0] < 80e6, peaks
    scores = pl.read_parquet(f'{path}.parquet')['probability'].to_numpy()
    assert len(scores) == 9_600_000
    assert np.array_equal(scores[-100_000:], scores[:100_000])


def test_predictions_need_room_for_the_weights_alone(trained):
    """Not for the optimizer's moments, which are twice as large and not read."""
    workdir = Workdir(trained)
    config = workdir.config()
    weights = 4 * sum(workdir.result()['parameters'].values())
    config.sharding.device_memory = 2 * weights
    state = Predictor(workdir, config).state
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) < 1.1 * weights
    with pytest.raises(UserError, match='the state takes'):
        TrainingSetup(config, workdir.encoder().schema, 1, config.training.batch_size)
