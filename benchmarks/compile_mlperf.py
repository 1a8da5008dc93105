"""The training step of MLPerf's DLRM-DCNv2, compiled for devices that are not there.

    python -m benchmarks.compile_mlperf --target=h100 --batch_size=8192 --cap=10000000
    python -m benchmarks.compile_mlperf --target=v5e:2x4 --batch_size=65536 --cap=10000000 --shard_tables

Two programs: with tables of the capped size, what a device holds; with tables of a few rows, the bytes that
the kernels move, since a kernel's operands are counted as wholes and a gather reads few rows of a large
table. What the second leaves out, each looked-up row read in the forward pass and read and written in the
update, is `rows_gb`, as if no row were looked up twice. It needs the compilers for the targets (the extras
`tpu` and `cuda13`). The last line is one JSON object: `held_gb`, `temporary_gb`, `fits` of the first; of the
second `kernels`, `kernels_gb` and by part; `traffic_gb`, both; and rows/s of all devices together that their
bandwidth (`traffic_rows_per_second`) and matrix rate (`bound_rows_per_second`) allow.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import mlperf, step
from benchmarks.step_ours import config_of, product_flops, schema_of
from dlf_jax.compiling import programs, targets
from dlf_jax.training.model_setup import TrainingSetup

# Rows of a table at most, where bytes are counted.
_FEW = 64


def program(options: argparse.Namespace, cap: int) -> tuple[programs.Program, TrainingSetup, float]:
    """The compiled step, what it was made of, and the operations of its products on all devices together."""
    devices = list(targets.devices_of(options.target))
    spec = {**step.DEFAULTS, **step.PRESETS['dlrm-mlperf'], 'variant_fields': {}, 'std': 1e-4}
    spec |= {'sizes': mlperf.sizes(cap), 'tables': options.optimizer, 'precision': options.precision}
    config, schema, rows = config_of(spec), schema_of(spec), options.batch_size
    config.sharding.tables = 'rows' if options.shard_tables else 'replicated'
    setup = TrainingSetup(config, schema, 1, rows, devices)
    state, batch = setup.abstract_state(1), shapes(rows)
    tables, others = setup.state_bytes()
    lower = setup.train_step(1).lower
    with jax.sharding.use_abstract_mesh(setup.partitioner.mesh.abstract_mesh):
        found = programs.compiled(
            lambda: lower(state, setup.partitioner.shapes(batch, rows, 1)),
            others + tables / setup.partitioner.multiple,
        )
    operations = product_flops(jax.make_jaxpr(setup.body())(state, batch).jaxpr)
    return found, setup, operations


def shapes(rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Of a batch."""
    single = mlperf.LENGTHS.count(1)
    widths = {'categorical': single, 'bags': sum(mlperf.LENGTHS) - single, 'numeric': mlperf.NUMBERS}
    types = {'categorical': np.int32, 'bags': np.int32, 'numeric': np.float32}
    found = {name: jax.ShapeDtypeStruct((rows, width), types[name]) for name, width in widths.items()}
    return found | {name: jax.ShapeDtypeStruct((rows,), np.float32) for name in ('label', 'weight')}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The result line."""
    whole, setup, _ = program(options, options.cap)
    small, _, operations = program(options, _FEW)
    devices = setup.partitioner.devices
    told = programs.report(small, devices, math.inf)
    rates = targets.rates_of(devices[0])
    rate = getattr(rates, options.precision)
    if options.text:
        options.text.write_text(small.text)
    held = programs.report(whole, devices, setup.memory)
    looked_up = options.batch_size * sum(mlperf.LENGTHS) * 4 * mlperf.SHAPE['embedding_size'] / len(devices)
    traffic = told['traffic_gb'] + 3 * looked_up / 1e9
    return {
        'target': options.target,
        'batch_size': options.batch_size,
        'precision': options.precision,
        'optimizer': options.optimizer,
        'cap': options.cap,
        'vocabulary': sum(mlperf.sizes(options.cap)),
        **{key: held[key] for key in ('held_gb', 'temporary_gb', 'total_gb', 'fits')},
        **{key: told[key] for key in ('compiling_seconds', 'kernels', 'collectives', 'parts')},
        'kernels_gb': told['traffic_gb'],
        'rows_gb': round(3 * looked_up / 1e9, 3),
        'traffic_gb': round(traffic, 3),
        'traffic_rows_per_second': round(options.batch_size / (1e9 * traffic / rates.bandwidth)),
        'bound_rows_per_second': round(options.batch_size / (operations / len(devices) / rate)),
        'jax': jax.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--target', default='h100', help='as config.compile.target')
    parser.add_argument('--batch_size', type=int, default=8192, help='on all devices together')
    parser.add_argument('--cap', type=int, default=10_000_000, help='of the rows of a table')
    parser.add_argument('--precision', choices=('float32', 'bfloat16'), default='bfloat16')
    parser.add_argument('--optimizer', default='rowwise_adagrad', help='config.optimizer.embedding_rows')
    parser.add_argument('--shard_tables', action='store_true', help='cut them by rows over the devices')
    parser.add_argument('--text', type=Path, help='file for the second program')
    print(json.dumps(measure(parser.parse_args())))


if __name__ == '__main__':
    main()
