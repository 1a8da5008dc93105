"""The time of a step over the size of the vocabulary: dense Adam against optimizers of touched rows.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m benchmarks.vocabulary
    python -m benchmarks.vocabulary --sizes=100000,1000000,10000000 --plot=vocabulary.png   # needs matplotlib

A DeepFM-like shape: an MLP on 26 fields, the ids of a batch as many different ones whatever the size, so that
only the table grows. The optimizers and sizes take turns, so that all see the same machine.

The last line is one JSON object: `lazy_ratio` and `dense_ratio`, the slowest size's time over the
fastest's, and milliseconds by optimizer and size (medians over the rounds).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import processes
from dlf_jax.config import get_config
from dlf_jax.data.schema import Field, Schema
from dlf_jax.training.model_setup import TrainingSetup

FIELDS = 26
BATCHES = 8


class Contestant:
    """A compiled step and its state, on a vocabulary of some size."""

    def __init__(
        self,
        config: ConfigDict,
        vocabulary: int,
        batch_size: int,
        devices: Sequence[jax.Device] | None = None,
    ):
        """Args:
        config: of the model, the optimizer, the tables' place.
        vocabulary: of all fields together.
        batch_size: global.
        devices: all where none are given.
        """
        size = vocabulary // FIELDS
        schema = Schema(tuple(Field(f'f{i}', 'categorical', size=size) for i in range(FIELDS)), 'label')
        setup = TrainingSetup(config, schema, 1, batch_size, devices)
        self.parameter_counts = setup.parameter_counts()
        self._put, self._step = setup.partitioner.put, setup.train_step(1)
        self._state = setup.initial_state([0])
        self._batches = [_batch(seed, size, batch_size) for seed in range(BATCHES)]
        self._taken = 0

    @property
    def program(self) -> str:
        """HLO text of the step, once it has run."""
        return self._step.executable.as_text()

    def run(self, count: int) -> float:
        """Seconds a step."""
        start = time.perf_counter()
        for _ in range(count):
            batch = self._put(self._batches[self._taken % BATCHES])
            self._state, _ = self._step(self._state, batch)
            self._taken += 1
        jax.block_until_ready(self._state)
        return (time.perf_counter() - start) / count


def mlp(width: int) -> ConfigDict:
    """The model: an MLP of 400-400-400."""
    config = get_config('mlp')
    config.model.update({'embedding_size': width, 'hidden': (400, 400, 400)})
    return config


def _batch(seed: int, size: int, rows: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    # A few values often and many seldom, spread over the table: the same ranks for every size.
    ranks = np.minimum(draw.pareto(1.1, (rows, FIELDS)) * 20, 3_000).astype(np.int64)
    ids = ranks * 2_654_435_761 % size + np.arange(FIELDS) * size
    return {
        'categorical': ids.astype(np.int32),
        'label': draw.integers(0, 2, rows).astype(np.float32),
        'weight': np.ones(rows, np.float32),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sizes', default='100000,1000000,10000000')
    parser.add_argument('--optimizers', default='lazy_adam,adam')
    parser.add_argument('--width', type=int, default=16)
    parser.add_argument('--batch_size', type=int, default=4096)
    parser.add_argument('--steps', type=int, default=5, help='of a round')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--plot', default='', help='a PNG file')
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(',')]
    found: dict[str, dict[int, float]] = {}
    for optimizer in options.optimizers.split(','):
        config = mlp(options.width)
        config.optimizer.embedding_rows = optimizer
        contestants = {size: Contestant(config, size, options.batch_size) for size in sizes}
        for contestant in contestants.values():
            contestant.run(2)
        rounds = [
            {size: contestant.run(options.steps) for size, contestant in contestants.items()}
            for _ in range(options.rounds)
        ]
        found[optimizer] = {size: 1e3 * float(np.median([r[size] for r in rounds])) for size in sizes}
    if options.plot:
        plot(found, options.plot)
    ratios = {name: max(times.values()) / min(times.values()) for name, times in found.items()}
    result = {
        'lazy_ratio': round(ratios['lazy_adam'], 3) if 'lazy_adam' in ratios else None,
        'dense_ratio': round(ratios['adam'], 3) if 'adam' in ratios else None,
        'milliseconds': {n: {s: round(t, 1) for s, t in times.items()} for n, times in found.items()},
        'machine': processes.machine(),
    }
    print(json.dumps(result))


def plot(found: dict[str, dict[int, float]], path: str) -> None:
    """Milliseconds over the vocabulary, a line per optimizer."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for name, times in found.items():
        axes.plot(list(times), list(times.values()), marker='o', label=name)
    axes.set(xscale='log', yscale='log', xlabel='rows of the table', ylabel='milliseconds a step')
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == '__main__':
    main()
