"""Several seeds in one program against the same runs one after another.

    python benchmarks/seeds.py --model=mlp --seeds=5

Frappe's shape (10 fields, 5,400 values, batches of 4,096 rows, `configs/frappe.py`'s model) with made-up
rows. Both ways take the same steps from the same states, by turns in one process; compilation is told
apart. The last line is a JSON object: seconds per round of both ways (medians), and
`ratio`, how many times faster the runs are together.
"""

from __future__ import annotations

import argparse
import json
import runpy
import statistics
import sys
import time
from pathlib import Path

import jax
import numpy as np

from dlf_jax.data.schema import Field, Schema
from dlf_jax.training.model_setup import TrainingSetup
from dlf_jax.training.seeds import StackedBatches

FIELDS, VOCABULARY = 10, 5400
CONFIG = Path(__file__).parents[1] / 'configs' / 'frappe.py'


def made_up(seed: int, count: int, rows: int) -> list[dict[str, np.ndarray]]:
    """`count` batches of `rows` rows."""
    draw = np.random.default_rng(seed)
    size = VOCABULARY // FIELDS
    ids = draw.integers(0, size, (count, rows, FIELDS)) + size * np.arange(FIELDS)
    return [
        {
            'categorical': ids[i].astype(np.int32),
            'numeric': np.zeros((rows, 0), np.float32),
            'label': draw.integers(0, 2, rows).astype(np.float32),
            'weight': np.ones(rows, np.float32),
        }
        for i in range(count)
    ]


class Contestant:
    """A compiled step for a stack of runs, and the states that it goes on from."""

    def __init__(self, config, seeds: list[list[int]], batches: dict[int, list]):
        """
        Args:
          config: of the model.
          seeds: the stacks that are trained one after another.
          batches: by seed.
        """
        self.seeds, self.batches = seeds, batches
        size = VOCABULARY // FIELDS
        schema = Schema(tuple(Field(f'f{i}', 'categorical', size=size) for i in range(FIELDS)), 'label')
        setup = TrainingSetup(config, schema, 1, config.training.batch_size)
        self.partitioner = setup.partitioner
        count = self.count = len(seeds[0])
        self.step = setup.train_step(count)
        self.states = [setup.initial_state(stack) for stack in seeds]

    def run(self, count: int) -> float:
        """Seconds of `count` steps of every run."""
        start = time.perf_counter()
        for i, stack in enumerate(self.seeds):
            parts = [self.batches[seed] for seed in stack]
            source = StackedBatches(parts) if self.count > 1 else parts[0]
            state = self.states[i]
            for k in range(count):
                batch = self.partitioner.put(source[k % len(source)], self.count > 1)
                state, _ = self.step(state, batch)
            self.states[i] = jax.block_until_ready(state)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', default='mlp', choices=('mlp', 'dlf'))
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--steps', type=int, default=10, help='of every run, in a round')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--batch_size', type=int, default=4096)
    options = parser.parse_args()
    if options.seeds < 2 or options.steps < 1 or options.rounds < 1:
        parser.error('at least 2 seeds, 1 step and 1 round')
    config = runpy.run_path(str(CONFIG))['get_config'](options.model)
    config.training.batch_size = options.batch_size
    seeds = list(range(options.seeds))
    batches = {seed: made_up(seed, 4, options.batch_size) for seed in seeds}
    contestants = {
        'together': Contestant(config, [seeds], batches),
        'one_after_another': Contestant(config, [[seed] for seed in seeds], batches),
    }
    # The first step compiles; a second one warms up.
    first = {name: contestant.run(1) for name, contestant in contestants.items()}
    second = {name: contestant.run(1) for name, contestant in contestants.items()}
    rounds: dict[str, list[float]] = {name: [] for name in contestants}
    for i in range(options.rounds):
        for name, contestant in contestants.items():
            rounds[name].append(contestant.run(options.steps))
            print(f'round {i}: {name} {rounds[name][-1]:.3f} s', file=sys.stderr)
    seconds = {name: statistics.median(found) for name, found in rounds.items()}
    result = {
        'model': options.model,
        'seeds': options.seeds,
        'steps': options.steps,
        'batch_size': options.batch_size,
        'device': jax.devices()[0].device_kind,
        'devices': jax.device_count(),
        'compile_seconds': {name: round(first[name] - second[name], 2) for name in contestants},
        'seconds_together': round(seconds['together'], 4),
        'seconds_one_after_another': round(seconds['one_after_another'], 4),
        'ratio': round(seconds['one_after_another'] / seconds['together'], 3),
    }
    print(json.dumps(result))


if __name__ == '__main__':
    main()
