import os
import subprocess

import numpy as np
import polars as pl

from tests.conftest import command, write_table


def peak_memory(*arguments):
    """Bytes that a run of the command held at most."""
    process = command(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024


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
