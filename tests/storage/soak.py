"""Random kills of training from a bucket: `python -m tests.storage.soak --kills=100 --faults=0.02`.

Each command is killed by SIGKILL at a random moment, the local cache is removed, as on a fresh machine, and
the next one goes on; a run that ends is compared, bit by bit, with one that nothing disturbed. The last line
is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import boto3

from dlf_jax.storage import manifest
from tests.conftest import command, finish, run
from tests.storage.object_store import Faults, served
from tests.test_resume import BUSY, assert_same

# Seconds after which a command that should have ended is looked at.
_LONGEST = 300


def download(client: Any, prefix: str, folder: Path) -> None:
    """Copies a folder that is in a store as its manifest says, by means of its own."""
    found = json.load(client.get_object(Bucket='bucket', Key=f'{prefix}/{manifest.NAME}')['Body'])
    for name, file in found['files'].items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        client.download_file('bucket', f'{prefix}/{file["object"]}', str(target))


def _manifests(client: Any, prefix: str) -> int:
    """Number of the manifest of a folder; 0 before the first."""
    try:
        return json.load(client.get_object(Bucket='bucket', Key=f'{prefix}/{manifest.NAME}')['Body'])[
            'number'
        ]
    except client.exceptions.NoSuchKey:
        return 0


def soak(kills: int, rate: float, seed: int, top: Path) -> dict:
    """Kills until it was often enough and the last run has ended.

    Args:
      kills: number of kills.
      rate: share of requests that meet a fault.
      seed: of all random choices.
      top: folder to work in.

    Returns:
      `kills`, `before_the_first_manifest`, `runs_with_the_same_bits`, `faults` by kind, `requests` and
      `seconds`.
    """
    draw, start = random.Random(seed), time.monotonic()
    run(*BUSY, f'--workdir={top / "undisturbed"}', f'--data_dir={top / "data"}')
    done = early = runs = 0
    with served() as proxy:
        client = boto3.client('s3', endpoint_url=f'http://127.0.0.1:{proxy.port}')
        proxy.faults = Faults(rate, seed=seed)
        while done < kills:
            prefix = f'runs/{runs}'
            place = (f'--workdir=s3://bucket/{prefix}', '--data_dir=s3://bucket/data')
            while True:
                shutil.rmtree(top / 'cache', ignore_errors=True)
                process = command(*BUSY, *place, env={'DLF_JAX_CACHE': str(top / 'cache')})
                if done < kills:
                    before, moment = _manifests(client, prefix), time.monotonic()
                    wanted = draw.choice((0, 1, 1, 2, 3))
                    while process.poll() is None and time.monotonic() - moment < _LONGEST:
                        if wanted == 0 or _manifests(client, prefix) >= before + wanted:
                            break
                        time.sleep(0.01)
                    time.sleep(draw.uniform(0, 6) if wanted == 0 else draw.uniform(0, 0.3))
                    process.send_signal(signal.SIGKILL)
                ended = finish(process)
                if ended.returncode == 0:
                    break
                if ended.returncode != -signal.SIGKILL:
                    raise AssertionError(ended.stderr)
                done += 1
                early += before == 0
                print(
                    f'{done} kills, {runs} runs, {time.monotonic() - start:.0f} s',
                    file=sys.stderr,
                    flush=True,
                )
            download(client, prefix, top / prefix)
            assert_same(top / prefix, top / 'undisturbed')
            runs += 1
    return {
        'kills': done, 'before_the_first_manifest': early, 'runs_with_the_same_bits': runs,
        'faults': dict(proxy.faults.counts), 'requests': proxy.faults.requests,
        'seconds': round(time.monotonic() - start),
    }  # fmt: skip


def main() -> None:
    """Reads the command line, soaks, and prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=100)
    parser.add_argument('--faults', type=float, default=0.0)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')
    with tempfile.TemporaryDirectory(prefix='dlf_jax-soak-') as folder:
        print(json.dumps(soak(options.kills, options.faults, options.seed, Path(folder))))


if __name__ == '__main__':
    main()
