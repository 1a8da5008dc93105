"""Program of a trained model: its inference as a jaxpr, with a symbolic number of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend import core

from dlf_jax.data.schema import Schema
from dlf_jax.serving.calibrator import Calibrator
from dlf_jax.training.train_state import TrainState
from dlf_jax.training.train_step import Forward, make_predict_step

# Name of the symbolic number of rows, in shapes of inputs and outputs.
BATCH = 'batch'
# Names of the outputs.
LOGIT, PROBABILITY = 'logit', 'probability'


@dataclasses.dataclass(frozen=True)
class Program:
    """Inference of one model: a pure function of its weights and an encoded batch.

    Attributes:
      model: name of the model, for errors.
      schema: of the data.
      weights: arrays by their path in the state, such as `params/dense/model/hidden_0/kernel`.
      function: `(weights, inputs) -> outputs`, where inputs are those of `shapes` and the outputs `logit` and
        `probability`, float32 [batch] each.
    """

    model: str
    schema: Schema
    weights: dict[str, np.ndarray]
    function: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, jax.Array]]

    def symbolic(self) -> tuple[dict[str, jax.ShapeDtypeStruct], dict[str, jax.ShapeDtypeStruct]]:
        """Shapes of the function's arguments, with a symbolic number of rows."""
        (rows,) = export.symbolic_shape(BATCH)
        weights = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in self.weights.items()}
        return weights, shapes(self.schema, rows)

    def jaxpr(self) -> core.ClosedJaxpr:
        """The function as a jaxpr of the weights, then the inputs, both in alphabetical order.

        The batch is symbolic: what it computes holds for any number of rows.
        """
        return jax.make_jaxpr(self.function)(*self.symbolic())


def of_state(
    forward: Forward, state: TrainState, model: str, calibrator: Calibrator | None = None
) -> Program:
    """The program of a trained state.

    Args:
      forward: of the model, in float32.
      state: of one run; only what inference reads is taken.
      model: name of the model, for errors.
      calibrator: makes the probabilities of the logits, which stay the model's own; None: the sigmoid does.
    """
    calibrated = jax.nn.sigmoid if calibrator is None else calibrator.traced
    kept = {'params': state.params, 'batch_stats': state.batch_stats}
    leaves, structure = jax.tree.flatten_with_path(kept)
    paths = [jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in leaves]
    weights = {path: np.asarray(jax.device_get(leaf)) for path, (_, leaf) in zip(paths, leaves, strict=True)}
    # Tables are padded to what the devices share evenly; no id names those rows.
    for path, array in weights.items():
        if path.startswith('params/tables/'):
            size = int(path.split('/')[2].partition('_')[2] or 0)
            weights[path] = array[: forward.schema.vocabulary_of(size)]
    step = make_predict_step(forward)
    empty = state.replace(params={}, batch_stats={}, opt_state={}, scratch={})

    def outputs(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, jax.Array]:
        tree = jax.tree.unflatten(structure, [weights[path] for path in paths])
        rows = next(iter(inputs.values())).shape[0]
        # The batch of a step has labels, which inference does not read.
        batch = {**inputs, 'label': jnp.zeros(rows), 'weight': jnp.ones(rows)}
        logits = step(empty.replace(**tree), batch)
        return {LOGIT: logits, PROBABILITY: calibrated(logits)}

    return Program(model, forward.schema, weights, outputs)


def shapes(schema: Schema, rows: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the encoded inputs of so many rows, by name; see `Encoder.encode`.

    Args:
      schema: of the data.
      rows: a number, or a symbolic one.
    """
    found = {}
    if schema.bags:
        found['bags'] = jax.ShapeDtypeStruct((rows, schema.bag_columns), jnp.int32)
    if schema.categorical:
        found['categorical'] = jax.ShapeDtypeStruct((rows, len(schema.categorical)), jnp.int32)
    if schema.numeric:
        found['numeric'] = jax.ShapeDtypeStruct((rows, len(schema.numeric)), jnp.float32)
    return found
