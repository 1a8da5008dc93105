"""Profile of a training step: a table of its parts, and a trace for TensorBoard or Perfetto."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dlf_jax.data.builders.base import Builder
from dlf_jax.data.loading.batches import TrainingBatches, iterate
from dlf_jax.data.loading.order import Order
from dlf_jax.file_writing import writing
from dlf_jax.models import embedding
from dlf_jax.training.model_setup import TrainingSetup
from dlf_jax.training.train_state import TrainState
from dlf_jax.training.train_step import Batch

_log = logging.getLogger(__name__)


def profile(config: ConfigDict, builder: Builder, folder: Path, steps: int) -> dict[str, Any]:
    """Times steps from a fresh state, part by part, and then traces them; saves no state.

    Args:
      config: validated.
      builder: its data is prepared.
      folder: for the trace.
      steps: number of steps that are timed, for medians.

    Returns:
      `milliseconds` of a step's parts: `input` (a batch out of the pipeline), `transfer` (onto the
      devices), and what the devices do: `lookup`, `forward`, `backward` and `update`, which are differences
      of programs of which each holds the one before, so they say where time goes and not what each
      would cost alone. Of `step`, all that the devices do. `samples_per_second` as training runs, with
      input and transfer beside the step. `trace`: its folder.
    """
    blocks, size = builder.blocks('train'), config.training.batch_size
    order = Order(blocks.rows, blocks.block_rows, size, config.seed)
    setup = TrainingSetup(config, builder.schema(), order.steps, size)
    put, step = setup.partitioner.put, setup.train_step(1)
    state = setup.initial_state([config.seed])
    # Enough epochs for all that is run below.
    epochs = -(-4 * (steps + 2) // order.steps)
    found: dict[str, float] = {}
    with iterate(TrainingBatches(blocks, order, epochs)) as batches:
        waiting: list[float] = []
        moving: list[float] = []
        for _ in range(steps + 1):
            batch = _timed(waiting, next, batches)
            placed = _timed(moving, _run, put, batch)
        # The first of each fills the pipeline and the allocator.
        found |= {'input': _median(waiting[1:]), 'transfer': _median(moving[1:])}
        before = 0.0
        for name, program in _programs(setup, state).items():
            compiled = jax.jit(program)
            spent: list[float] = []
            jax.block_until_ready(compiled(state.params, placed))
            for _ in range(steps):
                _timed(spent, _run, compiled, state.params, placed)
            found[name], before = _median(spent) - before, _median(spent)
        state, spent = jax.block_until_ready(step(state, placed))[0], []
        for _ in range(steps):
            state, _ = _timed(spent, _run, step, state, placed)
        found |= {'update': _median(spent) - before, 'step': _median(spent)}
        start = time.perf_counter()
        with writing(f'the trace in {folder}'), jax.profiler.trace(str(folder)):
            for _ in range(steps):
                state, _ = step(state, put(next(batches)))
            jax.block_until_ready(state)
        seconds = time.perf_counter() - start
    for name, value in found.items():
        _log.info('%10s %9.2f ms %5.1f %% of the step', name, 1e3 * value, 100 * value / found['step'])
    return {
        'milliseconds': {name: round(1e3 * value, 3) for name, value in found.items()},
        'samples_per_second': round(steps * size / seconds, 1),
        'trace': str(folder),
    }


def _programs(setup: TrainingSetup, state: TrainState) -> dict[str, Callable[..., Any]]:
    """Parts of a step, each holding the one before, as functions of params and a batch."""
    schema, forward = setup.schema, setup.forward
    gather = setup.partitioner.table_sharding(training=False).gather

    def gathered(params: Any, batch: Batch) -> embedding.Tables:
        return forward.gathered(params['tables'], embedding.ids_of(batch, schema), gather)

    def lookup(params: Any, batch: Batch) -> dict[str, jax.Array]:
        rows, dense = gathered(params, batch), params['dense']['embedding']
        return embedding.assemble(rows, dense, batch, schema, forward.summed)

    def loss(dense: Any, rows: embedding.Tables, batch: Batch) -> tuple[jax.Array, Any]:
        logits, changed = forward.logits(
            dense, state.batch_stats, rows, batch, train=True, mask=batch['weight'] > 0,
            rngs={'dropout': jax.random.key(0)}, mutable=['batch_stats', 'losses'],
        )  # fmt: skip
        return (logits * batch['label']).sum(), changed

    def with_rows(function: Callable[..., Any], params: Any, batch: Batch) -> Any:
        return function(params['dense'], gathered(params, batch), batch)

    backward = jax.grad(loss, argnums=(0, 1), has_aux=True)
    return {
        'lookup': lookup,
        'forward': functools.partial(with_rows, loss),
        'backward': functools.partial(with_rows, backward),
    }


def _timed(spent: list[float], run: Callable[..., Any], *args: Any) -> Any:
    """The result of a call, whose seconds are added to a list."""
    start = time.perf_counter()
    result = run(*args)
    spent.append(time.perf_counter() - start)
    return result


def _run(function: Callable[..., Any], *args: Any) -> Any:
    """The result of a function, once it is ready on the devices."""
    return jax.block_until_ready(function(*args))


def _median(values: list[float]) -> float:
    return float(np.median(values))
