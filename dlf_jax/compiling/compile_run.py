"""Compiles the programs of a run for devices that need not be there, and tells what they take."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from dlf_jax import config_by_size, config_checks
from dlf_jax.compiling import data_sizes, programs, targets
from dlf_jax.compiling.data_sizes import DataSizes
from dlf_jax.compiling.programs import Program
from dlf_jax.data.loading.order import even_batch
from dlf_jax.errors import UsageError, UserError
from dlf_jax.file_writing import write_atomically
from dlf_jax.training.compilation import Compiled
from dlf_jax.training.model_setup import TrainingSetup

_log = logging.getLogger(__name__)


def compile_run(config: ConfigDict, data_dir: str) -> dict[str, Any]:
    """Compiles creation, training step and prediction as a run would, and tells what each takes.

    Args:
      config: the whole config; `config.compile` says for which devices.
      data_dir: folder of prepared data; none need be there.

    Returns:
      `device`, `devices`, `device_memory_gb`; `data`, where the sizes are from, with its `vocabulary`;
      `model`, `batch_size`, `tables` (replicated, or cut by rows), `parameters`; whether all `fits`; and
      for each of `create`, `step` and `predict` what `programs.report` tells.

    Raises:
      UsageError: there is no such target, or a step that is not compiled ahead.
      UserError: a compiler or the data's sizes are missing, or the devices cannot hold the state.
    """
    if config.parallel != 'jit':
        raise UsageError(f"config.parallel={config.parallel!r}: --mode=compile compiles steps under 'jit'")
    text = Path(config.compile.text).expanduser()
    if not text.absolute().parent.is_dir():
        raise UserError(f'config.compile.text={config.compile.text!r}: there is no folder {text.parent}')
    devices = targets.devices_of(config.compile.target)
    sizes = data_sizes.find(config, data_dir)
    config = config_by_size.filled(config, sizes.size)
    config_checks.validate(config)
    setup = _setup(config, sizes, list(devices))
    _log.info('compiling for %d x %s, with %s', len(devices), devices[0].device_kind, sizes.source)
    rates, operations = targets.rates_of(devices[0]), _operations(config, sizes) / len(devices)
    of_step = (operations, getattr(rates, config.precision) if rates else 0.0)
    told = {}
    for name, program in _programs(setup, sizes):
        _tell(name, program, setup)
        more = of_step if name == 'step' else ()
        told[name] = programs.report(program, devices, setup.memory, *more)
        if name == 'step' and config.compile.text and program.text:
            write_atomically(text, program.text)
    return {
        'device': devices[0].device_kind,
        'devices': len(devices),
        'device_memory_gb': round(setup.memory / 1e9, 3) if math.isfinite(setup.memory) else None,
        'data': sizes.source,
        'vocabulary': sizes.schema.vocabulary,
        'model': config.model.name,
        'batch_size': config.training.batch_size,
        'tables': 'rows' if setup.partitioner.shard_rows else 'replicated',
        'parameters': setup.parameter_counts(),
        'fits': all(program['fits'] for program in told.values()),
        **told,
    }


def _setup(config: ConfigDict, sizes: DataSizes, devices: list[jax.Device]) -> TrainingSetup:
    options = config.training
    steps = options.epochs * -(-sizes.rows // options.batch_size)
    return TrainingSetup(config, sizes.schema, steps, options.batch_size, devices)


def _programs(setup: TrainingSetup, sizes: DataSizes) -> Iterator[tuple[str, Program]]:
    """Compiles the programs of a run one after another."""
    config, partitioner, count = setup.config, setup.partitioner, setup.config.seeds
    state, batch = setup.abstract_state(count), sizes.batch()
    rows = even_batch(config.predict.batch_size or config.training.batch_size, len(partitioner.devices))
    tables, others = setup.state_bytes()
    held = others + tables / partitioner.multiple
    step = setup.train_step(count)
    assert isinstance(step, Compiled)
    lower = {
        'create': functools.partial(setup.lower_creation, count),
        'step': functools.partial(
            step.lower, state, partitioner.shapes(batch, config.training.batch_size, count)
        ),
        'predict': functools.partial(
            setup.predict_step(count).lower, state.weights(), partitioner.shapes(batch, rows)
        ),
    }
    for name, function in lower.items():
        # Tells kernels that are written for a kind of GPU which one it is.
        with jax.sharding.use_abstract_mesh(partitioner.mesh.abstract_mesh):
            program = programs.compiled(function, held)
        yield name, program


def _operations(config: ConfigDict, sizes: DataSizes) -> float:
    """Floating-point operations of a step on all devices together, counted in its program for one CPU; 0
    where JAX was told to use none."""
    try:
        devices = jax.devices('cpu')[:1]
    except RuntimeError:
        return 0.0
    alone = config.copy_and_resolve_references()
    alone.sharding.update({'tables': 'replicated', 'device_memory': 1 << 62})
    if 'attention_kernel' in alone.model:
        # A CPU has no such kernel; its products are those of the plain form.
        alone.model.attention_kernel = 'plain'
    setup = _setup(alone, sizes, devices)
    shapes = setup.partitioner.shapes(sizes.batch(), config.training.batch_size)
    lowered = jax.jit(setup.body()).lower(setup.abstract_state(1), shapes)
    return config.seeds * float((lowered.cost_analysis() or {}).get('flops', 0.0))


def _tell(name: str, program: Program, setup: TrainingSetup) -> None:
    """Logs what a program takes; where that is too much, what would fit."""
    _log.info(
        '%s: compiled in %.1f s; %.3g GB of a device, %.3g of them held',
        name, program.compiling, program.memory / 1e9, program.held / 1e9,
    )  # fmt: skip
    missing = program.memory - setup.memory
    if missing > 0:
        _log.warning(
            'WARNING: %s takes %.3g GB more than the %.3g GB of a device. %s',
            name, missing / 1e9, setup.memory / 1e9, advice(name, program, setup),
        )  # fmt: skip


def advice(name: str, program: Program, setup: TrainingSetup) -> str:
    """What would fit in place of a program that does not, in words.

    Temporary arrays grow with the rows that each device takes of a batch.

    Args:
      name: of the program: 'create', 'step' or 'predict'.
      program: takes more memory than there is.
      setup: of the program.
    """
    count, free = len(setup.partitioner.devices), setup.memory - program.held
    if name == 'create' or free <= 0:
        cut = setup.partitioner.shard_rows or count == 1
        more = 'more devices with --config.sharding.tables=rows'
        return f'What might fit: {more if cut else "--config.sharding.tables=rows"}'
    options, shares = setup.config.training, math.ceil(program.temporary / free)
    size = options.batch_size if name == 'step' else setup.config.predict.batch_size or options.batch_size
    rows = _round_down(int(size * free / program.temporary), count)
    section = 'training' if name == 'step' else 'predict'
    changes = [f'--config.{section}.batch_size={rows}'] if rows else []
    parts = next((n for n in range(shares, size + 1) if size % (n * count) == 0), 0)
    if name == 'step' and parts:
        changes.append(f'--config.training.accumulate={parts}')
    return f'What might fit: {", ".join(changes)}, or {count * shares} such devices'


def _round_down(rows: int, count: int) -> int:
    """A number of rows of two digits and zeros, or nearly so that as many devices can share them."""
    tens = 10 ** max(len(str(rows)) - 2, 0)
    return rows // tens * tens // count * count
