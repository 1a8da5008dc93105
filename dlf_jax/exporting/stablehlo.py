"""StableHLO: a model's program as `jax.export` serializes it, with the weights beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from dlf_jax.exporting.program import Program
from dlf_jax.file_writing import writing

MODEL, WEIGHTS = 'model.stablehlo', 'weights.npz'
PLATFORMS = ('cpu', 'cuda', 'tpu')


def write(folder: Path, program: Program) -> dict[str, Any]:
    """Writes the program for every platform, and its weights as NumPy arrays without pickle.

    Args:
      folder: to write into.
      program: of the model.

    Returns:
      What decides which versions of JAX can read the program.
    """
    # The self test holds on every platform; by default GPUs and TPUs round what products multiply.
    with jax.default_matmul_precision('highest'):
        exported = export.export(jax.jit(program.function), platforms=PLATFORMS)(*program.symbolic())
    with writing(str(folder / MODEL)):
        (folder / MODEL).write_bytes(exported.serialize())
    with writing(str(folder / WEIGHTS)), open(folder / WEIGHTS, 'wb') as file:
        # The names are paths, which are no names of arguments.
        np.savez(file, allow_pickle=False, **program.weights)
    version = exported.calling_convention_version
    return {'calling_convention_version': version, 'platforms': list(exported.platforms)}


class Runtime:
    """A written program in JAX, as the documentation loads it."""

    def __init__(self, folder: Path):
        """Loads the program and the weights of a folder."""
        exported = export.deserialize(bytearray((folder / MODEL).read_bytes()))
        # Compiled once for each size of batch, and the weights moved once, not at every call.
        self._call = jax.jit(exported.call)
        with np.load(folder / WEIGHTS, allow_pickle=False) as weights:
            self._weights = jax.device_put({name: weights[name] for name in weights.files})

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name."""
        with jax.transfer_guard('allow'):
            found = self._call(self._weights, dict(inputs))
        return {name: np.asarray(value) for name, value in found.items()}
