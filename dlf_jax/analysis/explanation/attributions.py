"""Attributions of single rows: how much of a row's logit comes from each field, by integrated gradients.

Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks": a field's attribution is the integral of
the gradient with respect to its embeddings, on the straight way from a baseline's embeddings to the row's,
times the difference of the two. The attributions of a row add up to its logit less the baseline's
(completeness). Where a model also reads raw numbers, or the values of a multi-valued field one by one, their
parts of the way are added to their field's.

The baseline is by default the mean embedding of every field over the rows: a row is compared with the average
one, near to which the model has seen many. Embeddings of zeros are another choice; a model with norms has
never seen anything like them, and most of a logit may then be the way out of nowhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlf_jax.analysis.explanation.device_batches import batch_size_for, batches_on_devices
from dlf_jax.analysis.explanation.field_values import FieldValues
from dlf_jax.analysis.explanation.probabilities import probabilities
from dlf_jax.analysis.explanation.sample import Sample
from dlf_jax.data.rows import Rows
from dlf_jax.models import embedding
from dlf_jax.models.inputs import Bag, Inputs
from dlf_jax.serving.predict import Predictor
from dlf_jax.training.train_state import TrainState
from dlf_jax.training.train_step import Batch

# Points of the way that are taken at a time; and at most so many times as many.
_POINTS, _MOST = 64, 64
# Completeness: the largest gap that ends the search for a finer way, as a share of the difference of logits,
# or of 1.
_TOLERANCE = 1e-3

# Embeddings by table, float32 [n, F, width], and further inputs of a model that asks for them.
Read = tuple[dict[str, Any], Inputs | None]


class Attributions:
    """Divides logits among fields, in float32 whatever the model predicts in."""

    def __init__(self, predictor: Predictor, advance: Callable[[int], None] = lambda _: None):
        """Defines the compiled functions; compiles nothing.

        Args:
          predictor: the model.
          advance: called with the number of scorings since.
        """
        setup, self._state, self._advance = predictor.setup, predictor.state, advance
        self._predictor = predictor
        self._setup, self._schema = setup, setup.schema
        sharding, model = setup.partitioner.table_sharding(training=False), setup.forward.model
        schema = setup.schema

        def read(state: TrainState, batch: Batch) -> Read:
            dense = state.params['dense']['embedding']
            ids = embedding.ids_of(batch, schema)
            rows = embedding.gather_rows(state.params['tables'], ids, sharding.gather)
            inputs = embedding.make_inputs(rows, dense, batch, schema) if model.wants_inputs else None
            return embedding.assemble(rows, dense, batch, schema), inputs

        def logits(state: TrainState, point: Read) -> jax.Array:
            embeddings, inputs = point
            variables = {'params': state.params['dense']['model'], 'batch_stats': state.batch_stats}
            options: dict[str, Any] = {} if inputs is None else {'inputs': inputs}
            found: Any = model.apply(variables, embeddings, **options)
            return found

        def gradients(state: TrainState, row: Read, base: Read, shares: jax.Array) -> Any:
            """Sums of the gradients at some points of the way, and the first point's logit."""

            def between(x: jax.Array, b: jax.Array) -> jax.Array:
                at = shares.reshape(-1, *[1] * (x.ndim - 1))
                return jnp.broadcast_to(x, (len(shares), *x.shape[1:])) if _fixed(x) else b + at * (x - b)

            points = jax.tree.map(between, row, base)
            moving, rest = _parted(points)
            found = jax.grad(lambda m: jnp.sum(logits(state, _joined(m, rest))))(moving)
            return [jnp.sum(g, 0, keepdims=True) for g in found]

        # At the full precision of float32, or the parts would not add up.
        self._read = jax.jit(read)
        self._logits, self._gradients = (
            jax.jit(_at_full_precision(function)) for function in (logits, gradients)
        )

    def baseline(self, kind: str, detail: Sample) -> Read:
        """The embeddings, [1, ...], that rows are compared with.

        Args:
          kind: 'mean' (of the rows) or 'zeros'.
          detail: rows that are averaged over.
        """
        weights = np.asarray(detail.rows['weight'], np.float64)
        embeddings, inputs = self._of(detail.rows)

        def mean(values: Any, mask: Any = None) -> Any:
            """The mean, [1, ...]; with a mask [n, L] that of a multi-valued field's values, at each place."""
            counted = weights.reshape(-1, *[1] * (values.ndim - 1))
            if mask is not None:
                counted = counted * mask[..., None]
            axes = 0 if mask is None else (0, 1)
            total = (values * counted).sum(axes, keepdims=True) / max(counted.sum(), 1e-12)
            return np.float32(kind == 'mean') * np.broadcast_to(total, values[:1].shape).astype(np.float32)

        found = {table: mean(values) for table, values in embeddings.items()}
        if inputs is None:
            return found, None
        bags = {
            name: Bag({t: mean(v, bag.mask) for t, v in bag.embeddings.items()}, bag.mask[:1])
            for name, bag in inputs.bags.items()
        }
        return found, dataclasses.replace(inputs, numeric=mean(inputs.numeric), bags=bags)

    def _of(self, rows: Rows) -> Read:
        """What the model reads of rows, on the host, [n, ...]."""
        size = batch_size_for(len(rows['label']), self._setup.config.training.batch_size, self._setup)
        pieces = []
        for batch, count, _ in batches_on_devices(rows, size, self._setup):
            read = jax.device_get(self._read(self._state, batch))
            pieces.append(jax.tree.map(lambda x, count=count: x[:count], read))
        found: Read = jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)
        return found

    def of_rows(self, rows: Sample, base: Read, values: FieldValues) -> list[dict[str, Any]]:
        """Attributions of rows, as JSON.

        An entry has the `row`, counted from 0 in the input, its `label`, its `probability` and that of the
        baseline, both after the calibrator where there is one, the `fields` with their `value` and
        `attribution` in units of the model's own logit, the largest first, and `gap`, what the attributions
        lack to the difference of the logits, from `steps` points.

        Args:
          rows: to explain.
          base: of `baseline`.
          values: tells what ids and treated numbers stand for.
        """
        read = self._of(rows.rows)
        moving, _ = _parted(base)
        logits = jax.device_get(self._logits(self._state, read))
        found = []
        for i, logit in enumerate(logits):
            row = jax.tree.map(lambda x, i=i: x[i : i + 1], read)
            # The way begins where the row has its values: a mask is no part of it.
            start = _joined(moving, _parted(row)[1])
            (base_logit,) = jax.device_get(self._logits(self._state, start))
            difference = float(logit) - float(base_logit)
            parts, steps = self._divided(row, start, difference)
            fields = [
                {
                    'field': field.name,
                    'value': values.told(field, values.column(field, rows.rows)[i]),
                    'attribution': float(part),
                }
                for field, part in zip(_ordered(self._schema), parts, strict=True)
            ]
            told = probabilities(self._predictor, np.array([logit, base_logit]))
            found.append(
                {
                    'row': int(rows.numbers[i]),
                    'label': float(rows.rows['label'][i]),
                    'probability': float(told[0]),
                    'baseline_probability': float(told[1]),
                    'gap': difference - float(parts.sum()),
                    'steps': steps,
                    'fields': sorted(fields, key=lambda entry: -abs(entry['attribution'])),
                }
            )
        return found

    def _divided(self, row: Read, base: Read, difference: float) -> tuple[np.ndarray, int]:
        """Attributions of one row, float64 [F], and the number of points that they took."""
        calls, done = 1, 0
        while True:
            steps = calls * _POINTS
            middles = ((np.arange(steps) + 0.5) / steps).astype(np.float32).reshape(calls, _POINTS)
            sums = [jax.device_get(self._gradients(self._state, row, base, shares)) for shares in middles]
            mean = [np.asarray(sum(parts), np.float64) / steps for parts in zip(*sums, strict=True)]
            parts = self._by_field(row, base, mean)
            self._advance(steps)
            done += steps
            gap = abs(difference - float(parts.sum()))
            if gap <= _TOLERANCE * max(1.0, abs(difference)) or calls >= _MOST:
                return parts, steps
            calls *= 4

    def _by_field(self, row: Read, base: Read, gradients: list[np.ndarray]) -> np.ndarray:
        ends, starts = _parted(row)[0], _parted(base)[0]
        products = [
            np.asarray(g, np.float64) * (np.asarray(x, np.float64) - b)
            for g, x, b in zip(gradients, ends, starts, strict=True)
        ]
        embeddings, inputs = _joined(products, _parted(row)[1])
        total = np.sum([part.sum((0, 2)) for part in embeddings.values()], 0)
        if inputs is not None:
            names = [field.name for field in _ordered(self._schema)]
            for name, part in zip(inputs.numeric_fields, inputs.numeric[0], strict=True):
                total[names.index(name)] += part
            for name, bag in inputs.bags.items():
                total[names.index(name)] += sum(part.sum() for part in bag.embeddings.values())
        return total


def _ordered(schema: Any) -> tuple[Any, ...]:
    """Fields in the order of the embeddings' second axis."""
    return (*schema.categorical, *schema.numeric, *schema.bags)


def _fixed(leaf: Any) -> bool:
    """Whether a leaf is a mask, which stays as the row has it."""
    return leaf.dtype == bool


def _parted(read: Read) -> tuple[list[Any], tuple[list[Any], Any]]:
    """The leaves that gradients are taken of; the others and the structure, for `_joined`."""
    leaves, structure = jax.tree.flatten(read)
    return [x for x in leaves if not _fixed(x)], ([x if _fixed(x) else None for x in leaves], structure)


def _joined(moving: list[Any], rest: tuple[list[Any], Any]) -> Read:
    others, structure = rest
    source = iter(moving)
    found: Read = jax.tree.unflatten(structure, [next(source) if x is None else x for x in others])
    return found


def _at_full_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    def precise(*args: Any) -> Any:
        with jax.default_matmul_precision('highest'):
            return function(*args)

    return precise
