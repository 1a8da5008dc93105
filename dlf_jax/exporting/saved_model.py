"""SavedModel: a model's program and weights in the form that TensorFlow and TensorFlow Serving load."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorflow as tf
from jax.experimental import jax2tf

from dlf_jax.exporting.program import BATCH, Program
from dlf_jax.exporting.stablehlo import PLATFORMS
from dlf_jax.file_writing import writing

SIGNATURE = 'serving_default'


def write(folder: Path, program: Program) -> dict[str, Any]:
    """Writes a SavedModel: the program as StableHLO in one TensorFlow operation, its weights as variables.

    Args:
      folder: to write into: `saved_model.pb`, `fingerprint.pb`, `variables/`.
      program: of the model.

    Returns:
      What a consumer needs to know of it.
    """
    _leave_accelerators_alone()
    _, inputs = program.symbolic()
    shapes = {name: f'({", ".join(map(str, (BATCH, *x.shape[1:])))})' for name, x in inputs.items()}
    module = tf.Module()
    module.weights = {name: tf.Variable(value, name=name) for name, value in program.weights.items()}

    # The self test holds on every platform; by default GPUs and TPUs round what products multiply.
    def function(weights: Mapping[str, jax.Array], inputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        with jax.default_matmul_precision('highest'):
            return program.function(weights, inputs)

    converted = jax2tf.convert(
        function,
        polymorphic_shapes=[None, shapes],
        with_gradient=False,
        native_serialization_platforms=PLATFORMS,
    )
    module.program = tf.function(
        lambda **inputs: converted(module.weights, inputs),
        autograph=False,
        jit_compile=True,
    )
    specs = {name: tf.TensorSpec([None, *x.shape[1:]], x.dtype, name) for name, x in inputs.items()}
    with writing(str(folder)):
        tf.saved_model.save(
            module, str(folder), signatures={SIGNATURE: module.program.get_concrete_function(**specs)}
        )
        # TensorFlow leaves the folder of files that the program reads, of which there are none.
        (folder / 'assets').rmdir()
    return {'signature': SIGNATURE, 'platforms': list(PLATFORMS)}


class Runtime:
    """A written SavedModel in TensorFlow, on the CPU."""

    def __init__(self, folder: Path):
        """Loads the model of a folder."""
        _leave_accelerators_alone()
        # The signature lives as long as what it is loaded with.
        self._loaded = tf.saved_model.load(str(folder))
        self._function = self._loaded.signatures[SIGNATURE]

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name."""
        with tf.device('/CPU:0'):
            found = self._function(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in found.items()}


def _leave_accelerators_alone() -> None:
    """Keeps TensorFlow from taking the memory of a GPU that JAX computes on."""
    # Whoever uses TensorFlow beside has chosen already.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], 'GPU')
