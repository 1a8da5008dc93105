"""Our side of `step.py`: the train step of any model, at the orders of the process that starts it.

    python -m benchmarks.step_ours SPEC.json

Answers the orders of `step_side.serve`.
"""

from __future__ import annotations

from dlf_jax import allocator

# First, as in the command.
allocator.take_over()

import functools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from benchmarks.step_side import clocks, gflops, serve, since
from dlf_jax import models
from dlf_jax.config import get_config
from dlf_jax.data.schema import Field, Schema
from dlf_jax.models import embedding
from dlf_jax.training.model_setup import TrainingSetup
from dlf_jax.training.train_step import Forward


class Trainer:
    """The state and the compiled, donating step that training runs, and the batches of a spec."""

    def __init__(self, spec: dict[str, Any]):
        self.spec = spec
        self.model = models.build(spec['model'], **_tuples({**spec['variant_fields'], **spec['shape']}))
        self.schema = schema_of(spec)
        with np.load(spec['batches']) as arrays:
            stacked = dict(arrays)
        count, rows = stacked['label'].shape
        self.batches = [{name: values[i] for name, values in stacked.items()} for i in range(count)]
        self._compile(rows)
        self.taken = 0

    def _compile(self, rows: int) -> None:
        setup = TrainingSetup(config_of(self.spec), self.schema, 1, rows)
        self.partitioner = setup.partitioner
        self.step = setup.train_step(1)
        # Beside the initial state, as in training.
        self.step.begin(setup.abstract_state(1), self.partitioner.shapes(self.batches[0], rows))
        self.state = setup.initial_state([0])

    def next_batch(self) -> dict[str, jax.Array]:
        self.taken += 1
        return self.partitioner.put(self.batches[self.taken % len(self.batches)])

    def steps(self, count: int) -> dict[str, float]:
        start = clocks()
        for _ in range(count):
            self.state, metrics = self.step(self.state, self.next_batch())
        loss = float(metrics['loss'])
        jax.block_until_ready(self.state)
        return {'loss': loss, **since(start)}

    def parts(self, count: int) -> dict[str, float]:
        """Seconds of one step's parts: differences of medians of programs of which each holds the one before.

        A program compiled for a part alone may lack a fusion of the whole, and what it returns is
        written to memory: the parts say where time goes, not what each costs to the millisecond.
        """
        programs = {name: jax.jit(program) for name, program in self._programs().items()}
        batch = self.next_batch()
        found: dict[str, float] = {}
        for name, program in programs.items():
            found[name] = _median(functools.partial(program, self.state.params, batch), count)
        whole = [self.steps(1)['seconds'] for _ in range(count)]
        found['update'] = float(np.median(whole))
        names = list(found)
        return {b: found[b] - (found[a] if a else 0.0) for a, b in zip([None, *names], names, strict=False)}

    def _programs(self) -> dict[str, Callable]:
        model, schema, penalty = self.model, self.schema, self.spec['penalty']
        stats, forward_pass = self.state.batch_stats, Forward(model, schema)

        def lookup(params, batch):
            return embedding.lookup(params['tables'], params['dense']['embedding'], batch, schema)

        def forward(params, batch):
            ids = embedding.ids_of(batch, schema)
            rows = forward_pass.gathered(params['tables'], ids, embedding.gather)
            logits, changed = forward_pass.logits(
                params['dense'],
                stats,
                rows,
                batch,
                train=True,
                mask=batch['weight'] > 0,
                rngs={'dropout': jax.random.key(0)},
                mutable=['batch_stats', 'losses'],
            )
            losses = optax.sigmoid_binary_cross_entropy(logits, batch['label'])
            loss = jnp.sum(losses * batch['weight']) / jnp.sum(batch['weight'])
            squares = sum(
                jnp.sum(jnp.square(part))
                for part in jax.tree.leaves((params['tables'], params['dense']['embedding']))
            )
            return loss + 0.5 * penalty * squares, changed

        return {'lookup': lookup, 'forward': forward, 'backward': jax.grad(forward, has_aux=True)}

    def flops(self) -> int:
        """Of a step's matrix products; a multiplication and an addition count 2."""
        batch = jax.eval_shape(lambda: self.batches[0])
        jaxpr = jax.make_jaxpr(self._programs()['backward'])(self.state.params, batch)
        return product_flops(jaxpr.jaxpr)


def config_of(spec: dict[str, Any]) -> ConfigDict:
    """The recipe of a spec."""
    config = get_config(spec['model'])
    config.model.update(_tuples({**spec['variant_fields'], **spec['shape']}))
    config.optimizer.name, config.optimizer.embedding_rows = spec['optimizer'], spec['tables']
    config.optimizer.learning_rate, config.optimizer.clip_norm = spec['learning_rate'], spec['clip_norm']
    config.optimizer.initial_accumulator_value = 0.0
    config.embedding.penalty, config.embedding.std = spec['penalty'], spec['std']
    config.precision = spec.get('precision', 'float32')
    return config


def schema_of(spec: dict[str, Any]) -> Schema:
    """Of the fields of a spec: those of one value, numbers, and those of several, which are summed."""
    fields = [
        Field(f'f{i}', 'categorical', size=size)
        if length == 1
        else Field(f'f{i}', 'multi-valued', size=size, length=length, pooling='sum', separator=' ')
        for i, (size, length) in enumerate(zip(spec['sizes'], spec['lengths'], strict=True))
    ]
    fields += [Field(f'n{i}', 'numeric', treatment='standard') for i in range(spec['numbers'])]
    return Schema(tuple(fields), 'label')


def product(size: int = 2048) -> dict[str, float]:
    a = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)).astype(np.float32))
    multiply = jax.jit(jnp.matmul)
    multiply(a, a).block_until_ready()
    return gflops(lambda: multiply(a, a).block_until_ready(), size)


def _median(run: Callable[[], Any], count: int) -> float:
    jax.block_until_ready(run())
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def product_flops(jaxpr: jax.extend.core.Jaxpr) -> int:
    """Of all matrix products in a program; of alternatives for several platforms, the first."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == 'dot_general':
            contracted, _ = equation.params['dimension_numbers']
            left = equation.invars[0].aval.shape
            depth = int(np.prod([left[i] for i in contracted[0]]))
            total += 2 * depth * int(np.prod(equation.outvars[0].aval.shape))
        for value in equation.params.values():
            inner = value[0] if isinstance(value, tuple) and value else value
            inner = getattr(inner, 'jaxpr', inner)
            if hasattr(inner, 'eqns'):
                total += product_flops(inner)
    return total


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def main() -> None:
    with open(sys.argv[1]) as file:
        trainer = Trainer(json.load(file))
    # Without vectors of numbers, which a model that takes them as they are does not read.
    read = (trainer.state.params['tables'], trainer.state.params['dense']['model'])
    parameters = sum(leaf.size for leaf in jax.tree.leaves(read))
    does = {'steps': trainer.steps, 'parts': trainer.parts, 'product': product}
    serve({'parameters': parameters, 'flops': trainer.flops()}, does, jax.__version__)


if __name__ == '__main__':
    main()
