"""A training step on the device that is here: seconds to the first one, milliseconds of the others.

    python -m benchmarks.step_on_device SPEC.json --precision=bfloat16 --programs=/tmp/programs

SPEC is what `benchmarks.step.specification` writes. Batches are on the device before the clock starts, so
that this is the step alone. `--programs` keeps what is compiled, as the command does; a second start then
tells how long a warm one takes. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import jax

from benchmarks.step_ours import Trainer
from benchmarks.step_side import age
from dlf_jax import program_cache

_GROUPS = 5


def measure(spec: dict[str, Any], steps: int) -> dict[str, Any]:
    """Seconds to the first and third step, and milliseconds of a step, a median over groups of steps."""
    trainer = Trainer(spec)
    begun = []
    for _ in range(3):
        trainer.steps(1)
        begun.append(age())
    batches = [trainer.partitioner.put(batch) for batch in trainer.batches]
    jax.block_until_ready(batches)
    spent, state = [], trainer.state
    for _ in range(_GROUPS):
        start = time.perf_counter()
        for i in range(steps):
            state, metrics = trainer.step(state, batches[i % len(batches)])
        jax.block_until_ready(state)
        spent.append((time.perf_counter() - start) / steps)
    device = jax.devices()[0]
    memory = device.memory_stats() or {}
    return {
        'jax': jax.__version__,
        'device': device.device_kind,
        'parameters': sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        'first_step_seconds': round(begun[0], 2),
        'third_step_seconds': round(begun[2], 2),
        'milliseconds': round(1e3 * median(spent), 3),
        'samples_per_second': round(spec['batch_size'] / median(spent)),
        'loss': round(float(metrics['loss']), 6),
        'peak_gb': round(memory.get('peak_bytes_in_use', 0) / 1e9, 3) or None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('spec', type=Path)
    parser.add_argument('--precision', choices=('float32', 'bfloat16'), default='float32')
    parser.add_argument('--optimizer', help="config.optimizer.embedding_rows; without, SPEC's")
    parser.add_argument('--fields', type=json.loads, default={}, help='of the model, a JSON object')
    parser.add_argument('--programs', type=Path, help='folder of compiled programs; none are kept without')
    parser.add_argument('--steps', type=int, default=20, help='of a group')
    options = parser.parse_args()
    if options.programs:
        program_cache.keep_programs(options.programs)
    spec = json.loads(options.spec.read_text())
    spec |= {'precision': options.precision, 'tables': options.optimizer or spec['tables']}
    spec['shape'] |= options.fields
    print(json.dumps(measure(spec, options.steps)))


if __name__ == '__main__':
    main()
