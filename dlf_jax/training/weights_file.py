"""Weights of a trained model as one NumPy file, beside which no checkpoint is needed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import jax
import numpy as np

from dlf_jax.errors import UserError
from dlf_jax.file_writing import writing
from dlf_jax.training.train_state import TrainState, leaf_name


def save(path: Path, state: TrainState) -> None:
    """Writes the weights of one run: float32 arrays by name, such as `params.dense.model.tower.kernel`.

    Args:
      path: of the `.npz` file, in a folder that is put in place when it is whole.
      state: of a single run; its optimizer's state is left out.

    Raises:
      UserError: the file system refuses to write.
    """
    leaves = jax.tree_util.tree_leaves_with_path(state.weights())
    with writing(str(path)):
        np.savez(path, **{leaf_name(place): jax.device_get(leaf) for place, leaf in leaves})


def load(path: Path, abstract: TrainState) -> TrainState:
    """Reads weights onto the devices; nothing is unpickled.

    Args:
      path: of the file.
      abstract: shapes, dtypes and shardings of one run's state. Rows of 0 are added to, or taken from, the
        end of a table, which is padded to a multiple of the number of devices that it is cut over.

    Raises:
      UserError: the file is damaged, or of another model.
    """
    wanted = abstract.weights()
    leaves, structure = jax.tree_util.tree_flatten_with_path(wanted)
    try:
        with np.load(path, allow_pickle=False) as file:
            foreign = sorted({*file.files} ^ {leaf_name(key) for key, _ in leaves})
            if foreign:
                raise UserError(
                    f'{path}: {foreign[0]} is there or in the model, but not in both; another model'
                )
            found = [
                jax.device_put(_fitted(file[leaf_name(k)], leaf, leaf_name(k), path), leaf.sharding)
                for k, leaf in leaves
            ]
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f'{path}: cannot be read: {error}; save the model again') from error
    state: TrainState = jax.tree_util.tree_unflatten(structure, found)
    return state


def _fitted(found: np.ndarray, leaf: jax.ShapeDtypeStruct, name: str, path: Path) -> np.ndarray:
    """An array of the file with as many rows as the devices' padding asks for."""
    rows = leaf.shape[-2] if name.startswith('params.tables.') else 0
    if rows and found.ndim == leaf.ndim and found.shape[-2] != rows:
        kept = found[..., :rows, :]
        if found[..., rows:, :].any():
            raise UserError(
                f'{path}: {name}: {found.shape[-2]:,} rows, but the vocabulary has fewer; another model'
            )
        missing = [(0, 0)] * (found.ndim - 2) + [(0, rows - kept.shape[-2]), (0, 0)]
        found = np.pad(kept, missing)
    if found.shape != leaf.shape or found.dtype != leaf.dtype:
        raise UserError(
            f'{path}: {name}: expected {leaf.dtype} {leaf.shape}, found {found.dtype} {found.shape}; '
            'another model'
        )
    return found
